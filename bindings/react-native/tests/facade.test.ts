/** The facade over a mocked native module. */
import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { Device, DeltaError, generateTicket } from '../src';
import type { Event, LogLine, TopicId } from '../src';
import { message, MockModule, rejection } from './mock';
import { setModule } from './stand-in/react-native';

const topic = 'a topic' as TopicId;
const other = 'another topic' as TopicId;
let native: MockModule;
let device: Device;

beforeEach(async () => {
  native = new MockModule();
  setModule(native);
  device = await Device.open({ name: 'main' });
});

/** Lets what is already decided happen. */
const settled = () => new Promise((done) => setImmediate(done));

test('a device says who it is', () => {
  assert.equal(device.author, 'author of main');
  assert.equal(device.renewed, false);
});

test('the log of the device that was opened last with one hears the lines', async () => {
  const said: string[] = [];
  const log = (name: string) => ({ level: 'info' as const, line: (line: LogLine) => said.push(`${name} ${line.level} ${line.message}`) });
  await Device.open({ name: 'one' }, log('first'));
  await Device.open({ name: 'two' });
  await Device.open({ name: 'three' }, log('second'));
  native.logs.forEach((heard) => heard({ level: 'warn', target: 'delta_client', message: 'look' }));
  assert.deepEqual(said, ['second warn look']);
  assert.deepEqual(native.calls.filter((call) => call.startsWith('open')), ['open', 'open info', 'open', 'open info']);
});

test('errors have a stable code, a reason, and say who is at fault', async () => {
  for (const kind of ['argument', 'state', 'device', 'keystore', 'network', 'server', 'bug']) {
    native.failures.set('topics', rejection(kind, 'some_code'));
    await assert.rejects(device.topics(), (error: unknown) => {
      assert.ok(error instanceof DeltaError);
      assert.deepEqual([error.kind, error.code, error.reason], [kind, 'some_code', 'because of some_code']);
      assert.equal(error.message, 'because of some_code (some_code)');
      return true;
    });
  }
});

test('what is no error of Delta becomes one of the module', async () => {
  for (const strange of [new Error('no such method'), 'text', undefined, rejection('weather', 'rain')]) {
    native.failures.set('topics', strange as Error);
    if (strange === undefined) continue;
    await assert.rejects(device.topics(), (error: unknown) => {
      assert.ok(error instanceof DeltaError);
      assert.deepEqual([error.kind, error.code], ['bug', 'native']);
      return true;
    });
  }
});

test('a message is published with its mentions, an answer and a key', async () => {
  await device.send(topic, 'hello');
  const first = native.messages_[0]?.id as never;
  await device.send(topic, 'again', { reply: first, mentions: ['bob' as never], key: 'a2V5' });
  assert.deepEqual(native.calls.filter((call) => call.startsWith('publish')), [
    'publish [{"kind":"messageSend","text":"hello","mentions":[],"attachments":[]},null]',
    'publish [{"kind":"messageSend","text":"again","reply":"message 0","mentions":["bob"],"attachments":[]},"a2V5"]',
  ]);
});

test('all listeners of a topic share one subscription, which ends with the last of them', async () => {
  const heard: string[] = [];
  const stops = ['one', 'two'].map((name) => device.listen(topic, (event) => heard.push(`${name} ${event.kind}`)));
  device.listen(other, () => heard.push('other'));
  await settled();
  assert.equal(native.subscriptions.size, 2);
  native.emit({ kind: 'reset', topic });
  assert.deepEqual(heard, ['one reset', 'two reset']);
  stops[0]?.();
  stops[0]?.();
  native.emit({ kind: 'reset', topic });
  assert.deepEqual(heard.slice(2), ['two reset']);
  stops[1]?.();
  assert.deepEqual([...native.subscriptions.values()], [other]);
  assert.equal(native.hearing, 1);
  // Another listener begins anew.
  device.listen(topic, () => heard.push('anew'));
  await settled();
  native.emit({ kind: 'reset', topic });
  assert.equal(heard.at(-1), 'anew');
});

test('a subscription that nobody wants by the time it is made is cancelled', async () => {
  native.held.set('subscribe', []);
  device.listen(topic, () => assert.fail())();
  await settled();
  native.release('subscribe');
  await settled();
  assert.equal(native.subscriptions.size, 0);
  assert.equal(native.hearing, 0);
});

test('what happens before the number of a subscription is known is not lost', async () => {
  const heard: Event[] = [];
  const subscribe = native.subscribe.bind(native);
  native.subscribe = async (device, topic) => {
    const number = await subscribe(device, topic);
    native.emit({ kind: 'reset', topic });
    return number;
  };
  device.listen(topic, (event) => heard.push(event));
  await settled();
  assert.deepEqual(heard, [{ kind: 'reset', topic }]);
});

test('a subscription that fails is told, and the next listener tries again', async () => {
  native.failures.set('subscribe', rejection('state', 'unknown_topic'));
  const failed: string[] = [];
  const stop = device.listen(topic, () => {}, (error) => failed.push(error.code));
  await settled();
  assert.deepEqual([failed, native.hearing], [['unknown_topic'], 0]);
  stop();
  device.listen(topic, () => {});
  await settled();
  assert.equal(native.subscriptions.size, 1);
});

test('case_67 a listener that throws stops nothing', async (context) => {
  const said = context.mock.method(console, 'error', () => {});
  let calm = 0;
  device.listen(topic, () => {
    throw new Error('a bug of the app');
  });
  device.listen(topic, () => (calm += 1));
  await settled();
  native.emit({ kind: 'reset', topic });
  native.emit({ kind: 'reset', topic });
  assert.equal(calm, 2);
  assert.equal(said.mock.callCount(), 2);
});

test('case_67 closing ends the subscriptions, and again is harmless', async () => {
  const heard: string[] = [];
  device.listen(topic, (event) => heard.push(event.kind));
  await settled();
  await device.close();
  await device.close();
  assert.deepEqual(heard, ['closed']);
  assert.deepEqual([native.hearing, native.open_.size], [0, 0]);
  assert.equal(native.calls.filter((call) => call === 'close').length, 1);
});

test('a close that failed can be called again', async () => {
  native.failures.set('close', rejection('device', 'disk_full'));
  await assert.rejects(device.close(), { code: 'disk_full' });
  await device.close();
  assert.equal(native.open_.size, 0);
});

test('messages are paged and instants are dates', async () => {
  native.messages_ = Array.from({ length: 100 }, (_, number) => message(`m${number}`, `line ${number}`));
  assert.equal((await device.messages(topic)).length, 64);
  assert.equal((await device.messages(topic, { kind: 'newest' }, 10))[0]?.text, 'line 90');
  assert.equal((await device.message('m3' as never))?.text, 'line 3');
  assert.equal(await device.message('none' as never), null);
  assert.equal((await device.nextWakeupAt())?.toISOString(), '2023-11-14T22:13:20.000Z');
  assert.equal(await generateTicket(true), 'public ticket');
});
