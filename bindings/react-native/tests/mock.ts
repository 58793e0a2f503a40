/** A native module in memory. It implements `Spec`, so that the compiler holds it to the shape of the real ones. */
import type {
  NativeAuditLine,
  NativeBlobStatus,
  NativeConfig,
  NativeContent,
  NativeDirectThread,
  NativeDocument,
  NativeDocumentPart,
  NativeEvent,
  NativeInvitation,
  NativeJoinRequest,
  NativeLogLine,
  NativeMessage,
  NativeOutboxRow,
  NativeOwnDevice,
  NativePage,
  NativeProfile,
  NativeRoom,
  NativeRoomText,
  NativeSearchWords,
  NativeSpace,
  NativeSpaceDevice,
  NativeSpaceText,
  NativeTopicStatus,
  NativeValue,
  Spec,
} from '../src/NativeDelta';

type Listener = (event: NativeEvent) => void;
type Unsaid = Omit<NativeEvent, 'subscription'>;

/** What the native modules reject with. */
export function rejection(kind: string, code: string): Error {
  const reason = `because of ${code}`;
  return Object.assign(new Error(reason), { code, userInfo: { kind, code, reason } });
}

export class MockModule implements Spec {
  readonly calls: string[] = [];
  readonly subscriptions = new Map<number, string>();
  readonly open_ = new Set<number>();
  messages_: NativeMessage[] = [];
  topics_: string[] = [];
  spaces_: NativeSpace[] = [];
  rooms_: NativeRoom[] = [];
  threads_: NativeDirectThread[] = [];
  read_ = 0;
  status_: NativeTopicStatus = {
    connection: 'offline',
    cursor: 0,
    gaps: [],
    outbox: { queued: 0, sent: 0, parked: 0, parkedReasons: [] },
    pending: { key: 0, predecessor: 0, bytes: 0 },
  };
  /** What the next call of this name fails with. */
  readonly failures = new Map<string, Error>();
  /** Calls of these names wait until they are let go. */
  readonly held = new Map<string, (() => void)[]>();
  private readonly listeners = new Set<Listener>();
  private number = 0;

  // Of what it returns the facade calls `remove` alone.
  readonly onEvent = ((listener: Listener) => {
    this.listeners.add(listener);
    return { remove: () => void this.listeners.delete(listener) };
  }) as Spec['onEvent'];

  readonly logs = new Set<(line: NativeLogLine) => void>();

  readonly onLog = ((log: (line: NativeLogLine) => void) => {
    this.logs.add(log);
    return { remove: () => void this.logs.delete(log) };
  }) as Spec['onLog'];

  /** How many hear events. */
  get hearing(): number {
    return this.listeners.size;
  }

  /** Tells every subscription of the topic. */
  emit(event: Unsaid): void {
    for (const [subscription, topic] of this.subscriptions) {
      if (topic === event.topic) this.listeners.forEach((listener) => listener({ subscription, ...event }));
    }
  }

  /** Lets every held call of this name go. */
  release(name: string): void {
    const waiting = this.held.get(name) ?? [];
    this.held.delete(name);
    waiting.forEach((go) => go());
  }

  async open(config: NativeConfig, logLevel: string | null) {
    await this.called(logLevel === null ? 'open' : `open ${logLevel}`, 'open');
    this.number += 1;
    this.open_.add(this.number);
    return { device: this.number, author: `author of ${config.name}`, renewed: false };
  }

  async close(device: number) {
    await this.called('close');
    this.open_.delete(device);
    for (const [subscription, topic] of [...this.subscriptions]) {
      this.listeners.forEach((listener) => listener({ subscription, kind: 'closed', topic }));
    }
    this.subscriptions.clear();
  }

  async initSync() {
    await this.called('initSync');
    return [];
  }

  async openTopic(_: number, ticket: string) {
    await this.called('openTopic');
    this.topics_.push(ticket);
    return ticket;
  }

  async topics() {
    await this.called('topics');
    return [...this.topics_];
  }

  async publish(_: number, topic: string, content: NativeContent, key: string | null) {
    await this.called(`publish ${JSON.stringify([content, key])}`, 'publish');
    const id = `message ${this.messages_.length}`;
    this.messages_.push(message(id, content.text ?? ''));
    this.status_ = { ...this.status_, outbox: { ...this.status_.outbox, queued: this.status_.outbox.queued + 1 } };
    this.emit({ kind: 'changed', topic, changes: [{ log: 'log', kind: 'message', ids: [id], keys: [] }] });
    return id;
  }

  async subscribe(_: number, topic: string) {
    await this.called('subscribe');
    this.number += 1;
    this.subscriptions.set(this.number, topic);
    return this.number;
  }

  unsubscribe(subscription: number) {
    this.calls.push('unsubscribe');
    this.subscriptions.delete(subscription);
  }

  async messages(_: number, __: string, page: NativePage, limit: number) {
    await this.called(`messages ${page.kind} ${limit}`, 'messages');
    return this.messages_.slice(-limit);
  }

  async importFrom(_: string, __: string, config: NativeConfig, logLevel: string | null) {
    return this.open(config, logLevel);
  }

  async setReadKey() {
    await this.called('setReadKey');
  }

  async messagesBy(_: number, __: string, author: string, ___: NativePage, limit: number) {
    await this.called('messagesBy');
    return this.messages_.filter((one) => one.author === author).slice(-limit);
  }

  async messagesReceived(_: number, __: string, limit: number) {
    await this.called('messagesReceived');
    return { messages: this.messages_.slice(0, limit) };
  }

  async mentions(_: number, who: string) {
    await this.called('mentions');
    const found = this.messages_.filter((one) => one.mentions.includes(who));
    return found.map((message, arrival) => ({ message, log: 'log', arrival }));
  }

  async message(_: number, id: string) {
    await this.called('message');
    return this.messages_.find((one) => one.id === id) ?? null;
  }

  async reactions() {
    await this.called('reactions');
    return [];
  }

  async signal() {
    await this.called('signal');
  }

  async status() {
    await this.called('status');
    return this.status_;
  }

  async statistics() {
    await this.called('statistics');
    return { topics: 0, operations: 0, queued: 0, sent: 0, parked: 0, outboxBytes: 0, storedBytes: 0 };
  }

  networkChanged() {
    this.calls.push('networkChanged');
  }

  async suspend() {
    await this.called('suspend');
  }

  async resume() {
    await this.called('resume');
  }

  async runOnce(_: number, deadline: number) {
    await this.called(`runOnce ${deadline}`, 'runOnce');
    return { complete: true, topics: 0, caughtUp: 0, received: 0, waiting: 0, blobs: 0 };
  }

  async nextWakeupAt(): Promise<number | null> {
    await this.called('nextWakeupAt');
    return 1_700_000_000_000;
  }

  async messageHistory(_: number, id: string) {
    await this.called('messageHistory');
    return this.messages_.filter((one) => one.id === id).map(({ id, text = '' }) => ({ id, text }));
  }

  async unread() {
    await this.called('unread');
    return { messages: this.messages_.length - this.read_, mentions: 0 };
  }

  async setRead(_: number, topic: string, upto: string) {
    await this.called(`setRead ${upto}`, 'setRead');
    this.read_ = 1 + this.messages_.findIndex((one) => one.position === upto);
    this.emit({ kind: 'changed', topic, changes: [] });
  }

  async profile(): Promise<NativeProfile | null> {
    await this.called('profile');
    return null;
  }

  async profiles(): Promise<NativeProfile[]> {
    await this.called('profiles');
    return [];
  }

  async search(_: number, search: NativeSearchWords, limit: number) {
    await this.called('search');
    const found = this.messages_.filter((one) => one.text?.includes(search.words)).slice(0, limit);
    return found.map((message) => ({ message, log: 'log', arrival: 0, excerpt: message.text ?? '' }));
  }

  async outbox(): Promise<NativeOutboxRow[]> {
    await this.called('outbox');
    return [];
  }

  async retry() {
    await this.called('retry');
    return 0;
  }

  async cancel(_: number, __: string, operation: string) {
    await this.called('cancel');
    return { kind: 'deleted', operation };
  }

  async createSpace(_: number, about: NativeSpaceText) {
    await this.called('createSpace');
    const place = { log: `space ${about.name}`, topic: `topic ${about.name}` };
    this.spaces_.push({ space: place.log, topic: place.topic, about, deleted: false, updateRequired: false });
    return place;
  }

  async createRoom(_: number, space: string, about: NativeRoomText) {
    await this.called('createRoom');
    const place = { log: `room ${about.name}`, topic: `topic ${about.name}` };
    this.rooms_.push({ room: place.log, space, topic: place.topic, about, state: 'open' });
    const topic = this.spaces_.find((one) => one.space === space)?.topic ?? '';
    this.emit({ kind: 'changed', topic, changes: [{ log: space, kind: 'room', ids: [place.log], keys: [] }] });
    return place;
  }

  async spaces() {
    await this.called('spaces');
    return [...this.spaces_];
  }

  async space(_: number, space: string) {
    await this.called('space');
    return this.spaces_.find((one) => one.space === space) ?? null;
  }

  async rooms(_: number, space: string) {
    await this.called('rooms');
    return this.rooms_.filter((one) => one.space === space);
  }

  async members() {
    await this.called('members');
    return [{ member: 'somebody', level: 'manage', muted: false, banned: false }];
  }

  async person(_: number, __: string, author: string) {
    await this.called('person');
    return author;
  }

  async putValue() {
    await this.called('putValue');
    return 'operation';
  }

  async deleteValue() {
    await this.called('deleteValue');
    return 'operation';
  }

  async value(): Promise<NativeValue | null> {
    await this.called('value');
    return null;
  }

  async values(): Promise<NativeValue[]> {
    await this.called('values');
    return [];
  }

  async createDocument() {
    await this.called('createDocument');
    return 'operation';
  }

  async writeDocument() {
    await this.called('writeDocument');
    return 'operation';
  }

  async documents(): Promise<NativeDocument[]> {
    await this.called('documents');
    return [];
  }

  async documentParts(): Promise<NativeDocumentPart[]> {
    await this.called('documentParts');
    return [];
  }

  async spaceDevices(): Promise<NativeSpaceDevice[]> {
    await this.called('spaceDevices');
    return [];
  }

  async changeSpace() {
    await this.called('changeSpace');
    return 'operation';
  }

  async auditLog(): Promise<NativeAuditLine[]> {
    await this.called('auditLog');
    return [];
  }

  async invitations(): Promise<NativeInvitation[]> {
    await this.called('invitations');
    return [];
  }

  async joinRequests(): Promise<NativeJoinRequest[]> {
    await this.called('joinRequests');
    return [];
  }

  async prune() {
    await this.called('prune');
    return 0;
  }

  async wipe() {
    await this.called('wipe');
  }

  async keySnapshot() {
    await this.called('keySnapshot');
    return '';
  }

  async exportTo() {
    await this.called('exportTo');
  }

  async identity() {
    await this.called('identity');
    return 'somebody';
  }

  async ownDevices(): Promise<NativeOwnDevice[]> {
    await this.called('ownDevices');
    return [];
  }

  async revokeDevice() {
    await this.called('revokeDevice');
  }

  async pair() {
    await this.called('pair');
    return { pairing: 1, text: 'a pairing' };
  }

  async pairingAsked() {
    await this.called('pairingAsked');
    return { device: 'another device', code: '123 456' };
  }

  async pairingAccept() {
    await this.called('pairingAccept');
  }

  async pairingRefuse() {
    await this.called('pairingRefuse');
  }

  async join() {
    await this.called('join');
    return { pairing: 2 };
  }

  async pairingCode() {
    await this.called('pairingCode');
    return '123 456';
  }

  async pairingJoined() {
    await this.called('pairingJoined');
    return 'somebody';
  }

  pairingCancel() {
    this.calls.push('pairingCancel');
  }

  async createInvitation(_: number, space: string, level: string, expires: number | null, once: boolean) {
    await this.called('createInvitation');
    return JSON.stringify([space, level, expires, once]);
  }

  async acceptInvitation() {
    await this.called('acceptInvitation');
    return { log: 'space', topic: 'topic' };
  }

  async openInbox() {
    await this.called('openInbox');
    return 'inbox';
  }

  async contact() {
    await this.called('contact');
    return 'a contact';
  }

  async requestDirect(_: number, peer: string, text: string | null) {
    await this.called('requestDirect');
    const thread = `thread ${this.threads_.length}`;
    this.threads_.push({ thread, peer, state: 'asked', madeAt: 0, ...(text === null ? {} : { text }) });
    const changes = [{ log: 'log', kind: 'directThread', ids: [thread], keys: [] }];
    this.emit({ kind: 'changed', topic: 'inbox', changes });
    return thread;
  }

  async requestDirectOf(device: number, member: string, text: string | null) {
    return this.requestDirect(device, member, text);
  }

  async acceptDirect(_: number, thread: string) {
    await this.called('acceptDirect');
    return `topic of ${thread}`;
  }

  async closeDirect() {
    await this.called('closeDirect');
  }

  async sendDirect() {
    await this.called('sendDirect');
    return 'operation';
  }

  async directThreads() {
    await this.called('directThreads');
    return [...this.threads_];
  }

  async requestJoin() {
    await this.called('requestJoin');
    return 'operation';
  }

  async attach() {
    await this.called('attach');
    return 'blob';
  }

  async blobStatus(_: number, blob: string): Promise<NativeBlobStatus> {
    await this.called('blobStatus');
    return { about: { blob, size: 0, mime: '' }, state: 'here', have: 1, of: 1 };
  }

  async fetchBlob() {
    await this.called('fetchBlob');
  }

  async dropBlob() {
    await this.called('dropBlob');
  }

  async writeBlob() {
    await this.called('writeBlob');
  }

  async blobBytes() {
    await this.called('blobBytes');
    return '';
  }

  async storageUse() {
    await this.called('storageUse');
    return { fileBytes: 0, freeBytes: 0, topics: [] };
  }

  async wipeTopic(_: number, topic: string) {
    await this.called('wipeTopic');
    this.topics_ = this.topics_.filter((one) => one !== topic);
  }

  async generateTicket(isPublic: boolean) {
    await this.called('generateTicket');
    return isPublic ? 'public ticket' : 'ticket';
  }

  async readOnlyTicket(ticket: string) {
    await this.called('readOnlyTicket');
    return `${ticket}, to read`;
  }

  async ticketFacts() {
    await this.called('ticketFacts');
    return { topic: 'topic', log: 'log', canWrite: true, public: false };
  }

  async generateMnemonic() {
    await this.called('generateMnemonic');
    return 'words';
  }

  async importMnemonic() {
    await this.called('importMnemonic');
  }

  async storedMnemonic() {
    await this.called('storedMnemonic');
    return 'words';
  }

  async mnemonicIdentity() {
    await this.called('mnemonicIdentity');
    return 'somebody';
  }

  async identityAddress(identity: string) {
    await this.called('identityAddress');
    return `pk:${identity}`;
  }

  async parseAddress(address: string) {
    await this.called('parseAddress');
    return address.slice(3);
  }

  private async called(shown: string, name = shown): Promise<void> {
    this.calls.push(shown);
    const failure = this.failures.get(name);
    this.failures.delete(name);
    if (failure) throw failure;
    const held = this.held.get(name);
    if (held) await new Promise<void>((go) => held.push(go));
  }
}

export function message(id: string, text: string): NativeMessage {
  return { id, author: 'somebody', position: id, text, mentions: [], attachments: [], acknowledged: false, deleted: false };
}
