/**
 * What the facade costs in Node.js over a module that does nothing: calls, a page of messages, events. `cargo xtask bench
 * bindings` runs it. It measures neither Delta nor the way into native code (there is no JSI here, and no phone); what the
 * Android module adds is measured by tests/jvm/Bench.kt. Every figure is the median, and is printed only when all that was
 * asked for came.
 */
import assert from 'node:assert/strict';
import { Device } from '../src';
import type { Message, OperationId, TopicId } from '../src';
import Native from '../src/NativeDelta';
import type { NativeEvent, NativeMessage } from '../src/NativeDelta';
import { setModule } from './stand-in/react-native';

const PAGE = 50;
const ROUNDS = 600;
/** Calls of one sample: one alone is shorter than the clock's step. */
const CALLS = 50;
/** Topics that are listened to at once in the second row of events. */
const TOPICS = 100;

const id = (number: number) => number.toString(16).padStart(64, '0');
const texts = Array.from({ length: PAGE }, (_, number) => `message ${number}`);
const page = JSON.stringify(
  texts.map((text, number): NativeMessage => ({
    id: id(number), author: id(1), position: id(number).repeat(2), text, mentions: [], attachments: [], acknowledged: true,
    sentAt: 1_700_000_000_000, receivedAt: 1_700_000_000_000 + number, deleted: false,
  })),
);
const listeners = new Set<(event: NativeEvent) => void>();
let subscriptions = 0;

setModule({
  open: async () => ({ device: 1, author: id(1), renewed: false }),
  message: async () => null,
  // Objects made anew for each call, as a bridge makes them.
  messages: async () => JSON.parse(page) as NativeMessage[],
  subscribe: async () => (subscriptions += 1),
  unsubscribe: () => {},
  onEvent: (listener: (event: NativeEvent) => void) => {
    listeners.add(listener);
    return { remove: () => void listeners.delete(listener) };
  },
});

const device = await Device.open({ name: 'bench' });
const topic = id(2) as TopicId;
const nobody = id(3) as OperationId;

/** A sample of each of two calls in turn, so that both see the same machine. */
async function beside<T>(bare: () => Promise<T>, facade: () => Promise<T>, check: (values: T[]) => void) {
  const samples: [number[], number[]] = [[], []];
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const [at, call] of [bare, facade].entries()) {
      const values: T[] = [];
      const begun = process.hrtime.bigint();
      for (let number = 0; number < CALLS; number += 1) values.push(await call());
      const took = process.hrtime.bigint() - begun;
      check(values);
      // The first half is for the compiler.
      if (round >= ROUNDS / 2) samples[at]?.push(Number(took) / CALLS);
    }
  }
  return samples;
}

/** From the module's event to the app's listener, with so many topics heard. */
async function events(topics: number): Promise<number[]> {
  const heard: number[] = [];
  const stops = Array.from({ length: topics }, (_, number) =>
    device.listen(id(number) as TopicId, (event) => event.kind === 'acknowledged' && heard.push(event.seq)),
  );
  await new Promise((done) => setImmediate(done));
  const samples: number[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    const begun = process.hrtime.bigint();
    for (let number = 0; number < CALLS; number += 1) {
      const event = { subscription: subscriptions, kind: 'acknowledged', topic, operation: nobody, seq: number };
      listeners.forEach((listener) => listener(event));
    }
    const took = process.hrtime.bigint() - begun;
    if (round >= ROUNDS / 2) samples.push(Number(took) / CALLS);
  }
  stops.forEach((stop) => stop());
  assert.equal(heard.length, ROUNDS * CALLS);
  assert.ok(heard.every((seq, at) => seq === at % CALLS));
  assert.equal(listeners.size, 0);
  return samples;
}

/** Prints the median of nanoseconds as microseconds. */
function report(what: string, samples: number[]): number {
  const median = samples.sort((one, other) => one - other)[samples.length >> 1]! / 1000;
  console.log(`ts      ${what.padEnd(36)} p50 ${median.toFixed(2).padStart(9)} µs  (${samples.length} samples)`);
  return median;
}

const nothing = (values: unknown[]) => assert.deepEqual(values, Array(CALLS).fill(null));
const whole = (values: { text?: string }[][]) => {
  assert.equal(values.length, CALLS);
  for (const value of values) assert.deepEqual(value.map((one) => one.text), texts);
};

const call = await beside<unknown>(() => Native.message(1, nobody), () => device.message(nobody), nothing);
report('the module alone, empty answer', call[0]);
report('the same through the facade', call[1]);
const newest = { kind: 'newest' } as const;
const read = await beside<(Message | NativeMessage)[]>(
  () => Native.messages(1, topic, newest, PAGE), () => device.messages(topic, newest, PAGE), whole,
);
const bare = report(`the module alone, ${PAGE} messages`, read[0]);
const facade = report('the same through the facade', read[1]);
report('from an event to its listener', await events(1));
report(`the same, ${TOPICS} topics heard`, await events(TOPICS));
console.log(`ratio ${(facade / bare).toFixed(2)} (target ): a page of ${PAGE} messages through the facade / without it, TypeScript`);
