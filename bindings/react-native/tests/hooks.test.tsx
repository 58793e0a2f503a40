/** The hooks, drawn without a screen, over a mocked native module. */
import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { act, create } from 'react-test-renderer';
import type { ReactTestRenderer } from 'react-test-renderer';
import {
  Device, DeviceProvider, useConnection, useDirectThreads, useLifecycle, useMessages, useOutbox, useRooms, useSend, useTopics, useUnread,
} from '../src';
import type { Messages, TopicId } from '../src';
import { message, MockModule, rejection } from './mock';
import { moveApp, setModule } from './stand-in/react-native';

(globalThis as Record<string, unknown>).IS_REACT_ACT_ENVIRONMENT = true;

const room = 'a room' as TopicId;
let native: MockModule;
let device: Device;

beforeEach(async () => {
  native = new MockModule();
  setModule(native);
  device = await Device.open({ name: 'main' });
  await act(async () => moveApp('active'));
});

/** Draws `use` below a provider; `shown` is what it gave last. */
async function draw<Props, Shown>(use: (props: Props) => Shown, props: Props) {
  const result: { shown: Shown | undefined } = { shown: undefined };
  function Probe({ props: given }: { props: Props }) {
    result.shown = use(given);
    return null;
  }
  const tree = (given: Props) => (
    <DeviceProvider device={device}>
      <Probe props={given} />
    </DeviceProvider>
  );
  let renderer!: ReactTestRenderer;
  await act(async () => {
    renderer = create(tree(props));
  });
  return {
    get shown() {
      return result.shown as Shown;
    },
    again: (next: Props) => act(async () => renderer.update(tree(next))),
    leave: () => act(async () => renderer.unmount()),
  };
}

const texts = (shown: Messages) => shown.messages.map((one) => one.text);

test('useMessages shows what is here and then what comes', async () => {
  native.messages_ = [message('m0', 'first')];
  const drawn = await draw(useMessages, room);
  assert.deepEqual([texts(drawn.shown), drawn.shown.loading, drawn.shown.error], [['first'], false, null]);
  native.messages_.push(message('m1', 'second'));
  await act(async () => native.emit({ kind: 'changed', topic: room, changes: [] }));
  assert.deepEqual(texts(drawn.shown), ['first', 'second']);
  await drawn.leave();
  assert.deepEqual([native.subscriptions.size, native.hearing], [0, 0]);
});

test('useMessages asks once more, and not once per event, when news comes while it asks', async () => {
  const drawn = await draw(useMessages, room);
  native.calls.length = 0;
  native.held.set('messages', []);
  await act(async () => {
    for (let number = 0; number < 50; number += 1) native.emit({ kind: 'changed', topic: room, changes: [] });
  });
  await act(async () => native.release('messages'));
  assert.equal(native.calls.filter((call) => call.startsWith('messages')).length, 2);
  await drawn.leave();
});

test('useMessages loads older ones page by page, and no more than may be shown', async () => {
  native.messages_ = Array.from({ length: 1200 }, (_, number) => message(`m${number}`, `line ${number}`));
  const drawn = await draw((room: TopicId) => useMessages(room, 400), room);
  assert.deepEqual([drawn.shown.messages.length, drawn.shown.hasOlder], [400, true]);
  for (const length of [800, 1000]) {
    await act(async () => drawn.shown.loadOlder());
    assert.equal(drawn.shown.messages.length, length);
  }
  assert.equal(drawn.shown.hasOlder, false);
  assert.equal(drawn.shown.messages[0]?.text, 'line 200');
  await drawn.leave();
});

test('another room shows nothing of the one before, not even an answer that comes late', async () => {
  native.messages_ = [message('m0', 'of the first room')];
  native.held.set('messages', []);
  const drawn = await draw(useMessages, room);
  const late = native.held.get('messages') ?? [];
  native.held.delete('messages');
  native.messages_ = [message('m1', 'of the second room')];
  await drawn.again('another room' as TopicId);
  assert.deepEqual(texts(drawn.shown), ['of the second room']);
  native.messages_ = [message('m0', 'of the first room')];
  await act(async () => late.forEach((go) => go()));
  assert.deepEqual(texts(drawn.shown), ['of the second room']);
  assert.deepEqual([...native.subscriptions.values()], ['another room']);
  await drawn.leave();
});

test('a room that cannot be heard shows nothing of the one before', async () => {
  native.messages_ = [message('m0', 'of the first room')];
  const drawn = await draw(useMessages, room);
  native.held.set('messages', []);
  native.failures.set('subscribe', rejection('state', 'unknown_topic'));
  await drawn.again('another room' as TopicId);
  assert.deepEqual([texts(drawn.shown), drawn.shown.error?.code], [[], 'unknown_topic']);
  await act(async () => native.release('messages'));
  await drawn.leave();
});

test('another device shows nothing of the one before', async () => {
  native.messages_ = [message('m0', 'of the first device')];
  const drawn = await draw(useMessages, room);
  native.held.set('messages', []);
  device = await Device.open({ name: 'other' });
  await drawn.again(room);
  assert.deepEqual([texts(drawn.shown), drawn.shown.loading], [[], true]);
  await act(async () => native.release('messages'));
  await drawn.leave();
});

test('an error is shown with its code, and gone after the next good answer', async () => {
  native.messages_ = [message('m0', 'kept')];
  const drawn = await draw(useMessages, room);
  native.failures.set('messages', rejection('state', 'suspended'));
  await act(async () => native.emit({ kind: 'changed', topic: room, changes: [] }));
  assert.deepEqual([drawn.shown.error?.code, texts(drawn.shown)], ['suspended', ['kept']]);
  await act(async () => native.emit({ kind: 'changed', topic: room, changes: [] }));
  assert.deepEqual([drawn.shown.error, texts(drawn.shown)], [null, ['kept']]);
  await drawn.leave();
});

test('useSend, useOutbox and useConnection follow the topic', async () => {
  const drawn = await draw(
    (room: TopicId) => ({ send: useSend(room), outbox: useOutbox(room), connection: useConnection(room) }),
    room,
  );
  assert.deepEqual([drawn.shown.connection, drawn.shown.outbox.waiting], ['offline', 0]);
  await act(async () => void (await drawn.shown.send('hello')));
  assert.deepEqual([drawn.shown.outbox.queued, drawn.shown.outbox.waiting], [1, 1]);
  native.status_ = { ...native.status_, connection: 'live', blocked: { code: 'no_route', reason: 'too few relays' } };
  await act(async () => native.emit({ kind: 'connectionChanged', topic: room, connection: 'live' }));
  assert.deepEqual([drawn.shown.connection, drawn.shown.outbox.trouble?.code], ['live', 'no_route']);
  assert.equal(native.subscriptions.size, 1);
  await drawn.leave();
});

test('useUnread counts, and marks as read', async () => {
  native.messages_ = [message('m0', 'first'), message('m1', 'second')];
  const drawn = await draw(useUnread, room);
  assert.equal(drawn.shown.messages, 2);
  await act(async () => drawn.shown.markRead(native.messages_[0] as never));
  assert.equal(drawn.shown.messages, 1);
  native.messages_.push(message('m2', 'third'));
  await act(async () => native.emit({ kind: 'changed', topic: room, changes: [] }));
  assert.equal(drawn.shown.messages, 2);
  await drawn.leave();
});

test('useRooms follows the rooms of a space', async () => {
  const { log } = await device.createSpace({ name: 'Family' });
  const space = await device.space(log);
  assert.ok(space);
  const drawn = await draw(useRooms, space);
  assert.equal(drawn.shown.length, 0);
  await act(async () => void (await device.createRoom(log, { name: 'Dinner' })));
  assert.deepEqual(drawn.shown.map((one) => one.about.name), ['Dinner']);
  await drawn.leave();
});

test('useDirectThreads follows the inbox', async () => {
  const inbox = await device.openInbox();
  const drawn = await draw(useDirectThreads, inbox);
  assert.equal(drawn.shown.length, 0);
  await act(async () => void (await device.requestDirect('bob', 'may I?')));
  assert.deepEqual(drawn.shown.map((one) => [one.peer, one.state, one.text]), [['bob', 'asked', 'may I?']]);
  await drawn.leave();
});

test('useTopics lists the topics and those opened since when asked again', async () => {
  native.topics_ = ['one'];
  const drawn = await draw(useTopics, undefined);
  assert.deepEqual(drawn.shown.topics, ['one']);
  await device.openTopic('two');
  await act(async () => drawn.shown.reload());
  assert.deepEqual(drawn.shown.topics, ['one', 'two']);
  await drawn.leave();
});

test('useLifecycle runs once more and suspends in the background, and resumes at the front', async () => {
  const drawn = await draw((device: Device) => useLifecycle(device, 3000), device);
  native.calls.length = 0;
  await act(async () => moveApp('inactive'));
  await act(async () => moveApp('background'));
  await act(async () => moveApp('active'));
  assert.deepEqual(native.calls, ['runOnce 3000', 'suspend', 'resume']);
  native.calls.length = 0;
  native.failures.set('runOnce', rejection('state', 'no_network'));
  await act(async () => moveApp('background'));
  assert.deepEqual(native.calls, ['runOnce 3000', 'suspend']);
  await act(async () => moveApp('active'));
  native.calls.length = 0;
  native.failures.set('runOnce', rejection('device', 'disk_full'));
  await act(async () => moveApp('background'));
  assert.deepEqual([native.calls, drawn.shown?.code], [['runOnce 3000', 'suspend'], 'disk_full']);
  native.failures.set('resume', rejection('device', 'database_locked'));
  await act(async () => moveApp('active'));
  assert.equal(drawn.shown?.code, 'database_locked');
  await drawn.leave();
});

test('useLifecycle after a quick switch there and back ends at the front', async () => {
  const drawn = await draw(useLifecycle, device);
  native.calls.length = 0;
  await act(async () => {
    moveApp('background');
    moveApp('active');
  });
  assert.equal(native.calls.at(-1), 'resume');
  assert.ok(!native.calls.includes('suspend'));
  await drawn.leave();
});

test('hooks without a provider say so', async () => {
  function Probe() {
    useTopics();
    return null;
  }
  await assert.rejects(async () => await act(async () => void create(<Probe />)), /DeviceProvider/);
});
