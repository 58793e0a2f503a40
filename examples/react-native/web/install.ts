/** Puts the module where `react-native.ts` beside this file looks for it, and a test too. */
import { PageModule } from './module';

const module = new PageModule();
Object.assign(globalThis, { delta: module });
