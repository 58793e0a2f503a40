/** A native module with two conversations, which a test moves through `window.delta`. */
import type { NativeContent, NativeMessage, NativePage } from '../../../bindings/react-native/src/NativeDelta';
import { message, MockModule } from '../../../bindings/react-native/tests/mock';

export const FAMILY = 'fa'.repeat(32);
export const WORK = '0b'.repeat(32);
/** What `open` says of the device that is called `main`. */
export const OWN = 'author of main';

export class PageModule extends MockModule {
  private readonly read = new Map<string, number>();
  private readonly conversations = new Map<string, NativeMessage[]>([
    [FAMILY, [said('f0', 'Dinner at seven?'), { ...said('f1', 'At eight'), editedAt: 1 }, takenBack('f2')]],
    [WORK, [said('w0', 'The build is green')]],
  ]);

  constructor() {
    super();
    this.topics_ = [FAMILY, WORK];
  }

  override async openTopic(device: number, ticket: string) {
    const topic = await super.openTopic(device, ticket);
    this.conversations.set(topic, []);
    return topic;
  }

  override async messages(_: number, topic: string, __: NativePage, limit: number) {
    return (this.conversations.get(topic) ?? []).slice(-limit);
  }

  override async unread(_?: number, topic = '') {
    const others = (this.conversations.get(topic) ?? []).slice(this.read.get(topic) ?? 0);
    return { messages: others.filter((one) => one.author !== OWN).length, mentions: 0 };
  }

  override async setRead(_: number, topic: string, upto: string) {
    this.calls.push(`setRead ${upto}`);
    const place = (this.conversations.get(topic) ?? []).findIndex((one) => one.position === upto);
    this.read.set(topic, Math.max(place + 1, this.read.get(topic) ?? 0));
  }

  override async publish(device: number, topic: string, content: NativeContent, key: string | null) {
    const id = await super.publish(device, topic, content, key);
    this.say(topic, { ...message(id, content.text ?? ''), author: OWN });
    return id;
  }

  /** A message that comes from elsewhere. */
  receive(topic: string, text: string): void {
    this.say(topic, said(`received ${text}`, text));
  }

  /** The server took everything. */
  acknowledge(topic: string): void {
    const all = this.conversations.get(topic) ?? [];
    this.conversations.set(topic, all.map((one) => ({ ...one, acknowledged: true })));
    this.status_ = { ...this.status_, outbox: { queued: 0, sent: 0, parked: 0, parkedReasons: [] } };
    this.emit({ kind: 'acknowledged', topic, operation: 'f3', seq: 4 });
  }

  /** The connection changes, and what stands in the way of sending. */
  connect(topic: string, connection: string, blocked?: { code: string; reason: string }): void {
    this.status_ = { ...this.status_, connection, blocked };
    this.emit({ kind: 'connectionChanged', topic, connection });
  }

  /** The next call of this name fails. */
  fail(name: string, kind: string, code: string, reason: string): void {
    this.failures.set(name, Object.assign(new Error(reason), { code, userInfo: { kind, code, reason } }));
  }

  private say(topic: string, said: NativeMessage): void {
    this.conversations.set(topic, [...(this.conversations.get(topic) ?? []), said]);
    this.emit({ kind: 'changed', topic, changes: [{ log: 'log', kind: 'message', ids: [said.id], keys: [] }] });
  }
}

function said(id: string, text: string): NativeMessage {
  return { ...message(id, text), author: 'b0b0b0b0', acknowledged: true };
}

function takenBack(id: string): NativeMessage {
  const { text: _, ...rest } = said(id, '');
  return { ...rest, deleted: true };
}
