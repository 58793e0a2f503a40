/**
 * The first page's app (docs/getting-started-react-native.md), drawn without a screen over the Android module on the JVM, real
 * relays and a real sync server: presses its button, and prints the message once its server has it.
 */
import { act, create } from 'react-test-renderer';
import type { ReactTestRenderer } from 'react-test-renderer';
import App from 'first-page';
import { Bridge } from './bridge';
import { Button, setModule, Text } from './stand-in/react-native';

(globalThis as Record<string, unknown>).IS_REACT_ACT_ENVIRONMENT = true;

const bridge = new Bridge(process.env.DELTA_APP ?? '');
setModule(bridge.module);
let app!: ReactTestRenderer;
await act(async () => {
  app = create(<App />);
});
const texts = () => app.root.findAllByType(Text).map((text) => [text.props.children].flat().join(''));

/** The steps that run the pages end what takes too long. */
async function until(what: string, shown: () => boolean): Promise<void> {
  for (const begun = Date.now(); !shown(); ) {
    if (Date.now() - begun > 120_000) throw new Error(`${what}: ${texts().join('; ')}`);
    await act(() => new Promise<void>((done) => void setTimeout(done, 20)));
  }
}

await until('no button', () => app.root.findAllByType(Button).length === 1);
await act(async () => app.root.findByType(Button).props.onPress());
await until('nothing arrived', () => texts()[0] === 'live, 0 waiting' && texts().length === 2);
const [, said] = texts();
await act(async () => app.unmount());
await bridge.close();
console.log(said);
