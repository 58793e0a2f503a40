/** The object an app holds. */
import Native from './NativeDelta';
import type {
  NativeBlobSource, NativeConfig, NativeContent, NativeEvent, NativeOpened, NativePage, NativeRelayHops, NativeSearchWords, NativeSpaceAction,
} from './NativeDelta';
import { asDeltaError, called, DeltaError } from './errors';
import type {
  AuditLine,
  AuditPlace,
  Author,
  BlobId,
  BlobSource,
  BlobStatus,
  Cancelled,
  Config,
  Content,
  DirectThread,
  Document,
  DocumentPart,
  Event,
  Found,
  Identity,
  Invitation,
  JoinRequest,
  Level,
  LogId,
  LogLevel,
  LogLine,
  Member,
  Mention,
  Message,
  OperationId,
  OutboxRow,
  OwnDevice,
  Page,
  Place,
  Position,
  Profile,
  Reaction,
  ReceiptPlace,
  ReceivedPage,
  RelayHops,
  Room,
  RoomText,
  RunSummary,
  SearchWords,
  Space,
  SpaceAction,
  SpaceDevice,
  SpaceText,
  Statistics,
  StorageUse,
  ThreadId,
  TicketFacts,
  TopicId,
  TopicStatus,
  Unread,
  Value,
  ValueKey,
  Version,
} from './types';

/** Most messages taken at once, unless a call says otherwise. */
export const PAGE = 64;
/** The longest page there is. */
export const LONGEST_PAGE = 1000;

/** Hears of a topic. What it throws is told to the console; deliveries go on. */
export type Listener = (event: Event) => void;

/**
 * Hears log lines of this level and above, in JavaScript; they never hold keys, texts or other content. There is one for the whole
 * process: that of the device that was opened last with one. It ends with the last device.
 */
export type Log = { level: LogLevel; line: (line: LogLine) => void };

/** What the last log listens with. */
let heard: { remove(): void } | undefined;

/** Before the device is opened, whose lines are the first. */
function hear(log: Log | undefined): LogLevel | null {
  if (!log) return null;
  heard?.remove();
  heard = Native.onLog((line) => log.line(line as LogLine));
  return log.level;
}

/**
 * One device: its database, its topics, its connections.
 *
 *     const device = await Device.open({ name: 'main' });
 *     await device.initSync(hops, 'https://sync.example#<the server's key>');
 *     const topic = await device.openTopic(ticket);
 *     await device.send(topic, 'hello');
 *
 * Every call fails with a `DeltaError` and its stable `code`.
 */
export class Device {
  /** One native subscription for all listeners of a topic. */
  private readonly feeds = new Map<TopicId, Feed>();
  private closed = false;

  private constructor(
    private readonly handle: number,
    /** This device's key, as others know it. */
    readonly author: Author,
    /** Whether the database was restored or copied, so that this device has a new key since this open. */
    readonly renewed: boolean,
  ) {}

  /** Opens (or makes) the database; the device's key is kept by the platform's keystore. */
  static async open(config: Config, log?: Log): Promise<Device> {
    return Device.of(await called(Native.open(config satisfies NativeConfig, hear(log))));
  }

  /**
   * Reads the export in the file at `path` into a new database, keeps the person's words in the keystore where it has them,
   * and opens it. For everyone else this device is another one then.
   */
  static async importFrom(path: string, passphrase: string, config: Config, log?: Log): Promise<Device> {
    return Device.of(await called(Native.importFrom(path, passphrase, config satisfies NativeConfig, hear(log))));
  }

  private static of({ device, author, renewed }: NativeOpened): Device {
    return new Device(device, author as Author, renewed);
  }

  /** Sends through these relays to this server from now on. Says which nodes were left out. */
  initSync(hops: RelayHops, syncUrl: string): Promise<string[]> {
    return called(Native.initSync(this.handle, plainHops(hops), syncUrl));
  }

  /** Opens a topic from its ticket; again is harmless. */
  async openTopic(ticket: string): Promise<TopicId> {
    return (await called(Native.openTopic(this.handle, ticket))) as TopicId;
  }

  /** Keeps the key (base64) that a public topic's server asks readers for; without one it is forgotten. */
  setReadKey(topic: TopicId, key?: string): Promise<void> {
    return called(Native.setReadKey(this.handle, topic, key ?? null));
  }

  /** The topics that are open. */
  async topics(): Promise<TopicId[]> {
    return (await called(Native.topics(this.handle))) as TopicId[];
  }

  /** Signs, stores and queues an operation. With a `key` (base64, 1 to 64 bytes) it happens once, however often it is called. */
  async publish(topic: TopicId, content: Content, key?: string): Promise<OperationId> {
    return (await called(Native.publish(this.handle, topic, plainContent(content), key ?? null))) as OperationId;
  }

  /** Publishes a message. */
  send(
    topic: TopicId,
    text: string,
    options: { reply?: OperationId; mentions?: Author[]; attachments?: BlobId[]; key?: string } = {},
  ) {
    const { key, ...more } = options;
    return this.publish(topic, { kind: 'messageSend', text, ...more }, key);
  }

  /**
   * Receives a topic until the function that is returned is called, or the device is closed. All listeners of a topic share
   * one subscription. `failed` hears why there is none.
   */
  listen(topic: TopicId, listener: Listener, failed?: (error: DeltaError) => void): () => void {
    let feed = this.feeds.get(topic);
    if (!feed) {
      feed = new Feed(this.handle, topic, () => this.feeds.delete(topic));
      this.feeds.set(topic, feed);
    }
    return feed.add(listener, failed);
  }

  /** A page of messages, oldest first; the newest ones unless `page` says otherwise. At most 1000. */
  async messages(topic: TopicId, page: Page = { kind: 'newest' }, limit = PAGE): Promise<Message[]> {
    return (await called(Native.messages(this.handle, topic, page satisfies NativePage, limit))) as Message[];
  }

  /** A page of one author's messages, oldest first; with `since` and `until` those received in that time. */
  async messagesBy(topic: TopicId, author: Author, page: Page = { kind: 'newest' }, limit = PAGE, times: Times = {}) {
    const [since, until] = bounds(times);
    const read = Native.messagesBy(this.handle, topic, author, page satisfies NativePage, limit, since, until);
    return (await called(read)) as Message[];
  }

  /**
   * A page of the messages that a server received in a time, in that order, which is not the one they are shown in. The next
   * page goes on at this one's `next`.
   */
  async messagesReceived(topic: TopicId, times: Times = {}, limit = PAGE, after?: ReceiptPlace): Promise<ReceivedPage> {
    const [since, until] = bounds(times);
    const read = Native.messagesReceived(this.handle, topic, limit, since, until, after ?? null);
    return (await called(read)) as ReceivedPage;
  }

  /** Messages that mention somebody, those that came last first, in one topic or all; before an `arrival`. */
  async mentions(who: Author, options: { topic?: TopicId; before?: number; limit?: number } = {}): Promise<Mention[]> {
    const { topic = null, before = null, limit = PAGE } = options;
    return (await called(Native.mentions(this.handle, who, limit, topic, before))) as Mention[];
  }

  /** One message. */
  async message(id: OperationId): Promise<Message | null> {
    return (await called(Native.message(this.handle, id))) as Message | null;
  }

  /** The reactions that stand on one message. */
  async reactions(message: OperationId): Promise<Reaction[]> {
    return (await called(Native.reactions(this.handle, message))) as Reaction[];
  }

  /** Every text a message had, as sent first; nothing for a tombstone. */
  async messageHistory(id: OperationId): Promise<Version[]> {
    return (await called(Native.messageHistory(this.handle, id))) as Version[];
  }

  /** What of a topic's messages has not been read, counted from `setRead`. */
  unread(topic: TopicId): Promise<Unread> {
    return called(Native.unread(this.handle, topic));
  }

  /** Notes how far a topic was read: up to this message's position. It never goes back. */
  setRead(topic: TopicId, upto: Position): Promise<void> {
    return called(Native.setRead(this.handle, topic, upto));
  }

  /** An author's profile in one conversation. */
  async profile(topic: TopicId, author: Author): Promise<Profile | null> {
    return (await called(Native.profile(this.handle, topic, author))) as Profile | null;
  }

  /** An author's profiles in all conversations. */
  async profiles(author: Author): Promise<Profile[]> {
    return (await called(Native.profiles(this.handle, author))) as Profile[];
  }

  /** The person behind a device in a topic. */
  async person(topic: TopicId, author: Author): Promise<Identity> {
    return (await called(Native.person(this.handle, topic, author))) as Identity;
  }

  /** Messages with all the words, those that came last first; the next page is `before` the `arrival` of the last. */
  async search(search: SearchWords, limit = PAGE): Promise<Found[]> {
    return (await called(Native.search(this.handle, search satisfies NativeSearchWords, limit))) as Found[];
  }

  /** Sets the value (base64) of a key over whatever this device knows of it: the last writer wins everywhere. */
  async putValue(topic: TopicId, at: ValueKey, value: string): Promise<OperationId> {
    return (await called(Native.putValue(this.handle, topic, at, value))) as OperationId;
  }

  /** Deletes a key. */
  async deleteValue(topic: TopicId, at: ValueKey): Promise<OperationId> {
    return (await called(Native.deleteValue(this.handle, topic, at))) as OperationId;
  }

  /** The value of a key. */
  async value(topic: TopicId, at: ValueKey): Promise<Value | null> {
    return (await called(Native.value(this.handle, topic, at))) as Value | null;
  }

  /** Values of a collection by key: those that begin with `prefix`, after key `after`. */
  async values(topic: TopicId, collection: string, options: { prefix?: string; after?: string; limit?: number } = {}) {
    const { prefix = '', after = null, limit = PAGE } = options;
    return (await called(Native.values(this.handle, topic, collection, limit, prefix, after))) as Value[];
  }

  /** Makes a document under a path (names between slashes) and gives its id. Nothing is in it yet. */
  async createDocument(topic: TopicId, path: string): Promise<OperationId> {
    return (await called(Native.createDocument(this.handle, topic, path))) as OperationId;
  }

  /** Writes a change (base64) to a document, as the app's library gives it; with `snapshot` all of it. At most 768 KiB. */
  async writeDocument(topic: TopicId, document: OperationId, bytes: string, snapshot = false): Promise<OperationId> {
    return (await called(Native.writeDocument(this.handle, topic, document, bytes, snapshot))) as OperationId;
  }

  /** Documents by their paths: those that begin with `prefix`; `after` is the last one of the page before. */
  async documents(topic: TopicId, options: { prefix?: string; after?: OperationId; limit?: number } = {}) {
    const { prefix = '', after = null, limit = PAGE } = options;
    return (await called(Native.documents(this.handle, topic, limit, prefix, after))) as Document[];
  }

  /** What was written to a document, as this device read it: parts with a number above `after`. One may come again. */
  async documentParts(topic: TopicId, document: OperationId, options: { after?: number; limit?: number } = {}) {
    const { after = 0, limit = PAGE } = options;
    return (await called(Native.documentParts(this.handle, topic, document, limit, after))) as DocumentPart[];
  }

  /** Operations of a topic that are not acknowledged yet, oldest first: those after row `after`. */
  async outbox(topic: TopicId, limit = PAGE, after?: number): Promise<OutboxRow[]> {
    return (await called(Native.outbox(this.handle, topic, limit, after ?? null))) as OutboxRow[];
  }

  /** Puts the parked operations of a topic back in the queue and says how many there were. */
  retry(topic: TopicId): Promise<number> {
    return called(Native.retry(this.handle, topic));
  }

  /** Takes back an operation of this device: removed when it never left, otherwise deleted by a further one. */
  async cancel(topic: TopicId, operation: OperationId): Promise<Cancelled> {
    return (await called(Native.cancel(this.handle, topic, operation))) as Cancelled;
  }

  /** Makes a space, with this device as its first manager. */
  async createSpace(about: SpaceText): Promise<Place> {
    return (await called(Native.createSpace(this.handle, about))) as Place;
  }

  /** Makes a room in a space and opens it. */
  async createRoom(space: LogId, about: RoomText): Promise<Place> {
    return (await called(Native.createRoom(this.handle, space, about))) as Place;
  }

  /** The spaces this device knows. */
  async spaces(): Promise<Space[]> {
    return (await called(Native.spaces(this.handle))) as Space[];
  }

  /** One space. */
  async space(space: LogId): Promise<Space | null> {
    return (await called(Native.space(this.handle, space))) as Space | null;
  }

  /** The rooms of a space, archived and deleted ones included. */
  async rooms(space: LogId): Promise<Room[]> {
    return (await called(Native.rooms(this.handle, space))) as Room[];
  }

  /** Members of a space, and whoever is banned from it, by their keys: those after `after`. */
  async members(space: LogId, limit = LONGEST_PAGE, after?: Identity): Promise<Member[]> {
    return (await called(Native.members(this.handle, space, limit, after ?? null))) as Member[];
  }

  /** The devices that a space was told of, revoked ones included: whose they are. */
  async spaceDevices(space: LogId): Promise<SpaceDevice[]> {
    return (await called(Native.spaceDevices(this.handle, space))) as SpaceDevice[];
  }

  /** Changes a space, its rooms or its members. What it would not count is refused with the code `not_allowed`. */
  async changeSpace(space: LogId, action: SpaceAction): Promise<OperationId> {
    return (await called(Native.changeSpace(this.handle, space, action satisfies NativeSpaceAction))) as OperationId;
  }

  /** What happened in a space, newest first; lines below the `place` of one. */
  async auditLog(space: LogId, limit = PAGE, before?: AuditPlace): Promise<AuditLine[]> {
    return (await called(Native.auditLog(this.handle, space, limit, before ?? null))) as AuditLine[];
  }

  /** The invitations of a space that are not revoked. Their texts are with whoever made them. */
  async invitations(space: LogId): Promise<Invitation[]> {
    return (await called(Native.invitations(this.handle, space))) as Invitation[];
  }

  /** Who asks to be let in. A manager answers with `changeSpace` and `add`. */
  async joinRequests(space: LogId): Promise<JoinRequest[]> {
    return (await called(Native.joinRequests(this.handle, space))) as JoinRequest[];
  }

  /** Makes an invitation and gives its text, for a link or QR code: hand it over as you would a key. */
  createInvitation(space: LogId, level: Level, options: { expires?: Date; once?: boolean } = {}): Promise<string> {
    const { expires, once = false } = options;
    return called(Native.createInvitation(this.handle, space, level, expires?.getTime() ?? null, once));
  }

  /** Opens the space of an invitation and claims it. */
  async acceptInvitation(invitation: string): Promise<Place> {
    return (await called(Native.acceptInvitation(this.handle, invitation))) as Place;
  }

  /** Opens this device's inbox; gives the topic with the news of direct threads. */
  async openInbox(): Promise<TopicId> {
    return (await called(Native.openInbox(this.handle))) as TopicId;
  }

  /** What others need to write to this device, as a text to be given to them. Good for about two months. */
  contact(): Promise<string> {
    return called(Native.contact(this.handle));
  }

  /** Asks the device of a contact for a direct thread. It is open once that one accepts. */
  async requestDirect(contact: string, text?: string): Promise<ThreadId> {
    return (await called(Native.requestDirect(this.handle, contact, text ?? null))) as ThreadId;
  }

  /** The same of a device that shares a space with this one. */
  async requestDirectOf(member: Author, text?: string): Promise<ThreadId> {
    return (await called(Native.requestDirectOf(this.handle, member, text ?? null))) as ThreadId;
  }

  /** Accepts a direct thread that another device asked for; gives the topic it lives in. */
  async acceptDirect(thread: ThreadId): Promise<TopicId> {
    return (await called(Native.acceptDirect(this.handle, thread))) as TopicId;
  }

  /** Takes no more part in a direct thread, or turns a request down. */
  closeDirect(thread: ThreadId): Promise<void> {
    return called(Native.closeDirect(this.handle, thread));
  }

  /** Publishes in a direct thread: `publish` does not reach it. Its messages are read by its topic. */
  async sendDirect(thread: ThreadId, content: Content): Promise<OperationId> {
    return (await called(Native.sendDirect(this.handle, thread, plainContent(content)))) as OperationId;
  }

  /** All direct threads, oldest first, requests included. */
  async directThreads(): Promise<DirectThread[]> {
    return (await called(Native.directThreads(this.handle))) as DirectThread[];
  }

  /** Asks a manager's device to be added to a space: `manager` is its `contact`. */
  async requestJoin(space: LogId, manager: string, text?: string): Promise<OperationId> {
    return (await called(Native.requestJoin(this.handle, space, manager, text ?? null))) as OperationId;
  }

  /**
   * Makes a blob of a file or of bytes, at most 64 MiB, and begins to send it; messages bring it along (`attachments`).
   * When it returns the file is not needed any more, and sending goes on also after a restart.
   */
  async attach(source: BlobSource, mime: string, name?: string): Promise<BlobId> {
    const made = Native.attach(this.handle, source satisfies NativeBlobSource, mime, name ?? null);
    return (await called(made)) as BlobId;
  }

  /** How a blob stands. */
  async blobStatus(blob: BlobId): Promise<BlobStatus> {
    return (await called(Native.blobStatus(this.handle, blob))) as BlobStatus;
  }

  /** Fetches a blob that a message names, unless it is here. Events of the kind `blob` say when to look how far it is. */
  fetchBlob(blob: BlobId): Promise<void> {
    return called(Native.fetchBlob(this.handle, blob));
  }

  /** Removes a blob from this device, also one that is being sent or fetched. Others keep what they have. */
  dropBlob(blob: BlobId): Promise<void> {
    return called(Native.dropBlob(this.handle, blob));
  }

  /** Writes a blob that is here into a file, chunk by chunk; one that is there is replaced. */
  writeBlob(blob: BlobId, path: string): Promise<void> {
    return called(Native.writeBlob(this.handle, blob, path));
  }

  /** A blob that is here, whole, as base64: for small ones. */
  blobBytes(blob: BlobId): Promise<string> {
    return called(Native.blobBytes(this.handle, blob));
  }

  /** What lies on the device, and which conversations take how much of it. */
  async storageUse(): Promise<StorageUse> {
    return (await called(Native.storageUse(this.handle))) as StorageUse;
  }

  /** Erases messages received before an instant from this device; says how many. Others keep them. */
  prune(topic: TopicId, before: Date): Promise<number> {
    return called(Native.prune(this.handle, topic, before.getTime()));
  }

  /** Removes a conversation from this device, a space with its rooms. Others keep what they have. */
  wipeTopic(topic: TopicId): Promise<void> {
    return called(Native.wipeTopic(this.handle, topic));
  }

  /** Closes the device and removes everything: keys, words, database. */
  async wipe(): Promise<void> {
    await called(Native.wipe(this.handle));
    this.closed = true;
  }

  /** What a notification extension needs, as base64: it opens it with Kotlin's or Swift's `decryptPush`. */
  keySnapshot(): Promise<string> {
    return called(Native.keySnapshot(this.handle));
  }

  /** Writes the database, with a person's words if passed, into a new file that the passphrase opens. */
  export(path: string, passphrase: string, words?: string): Promise<void> {
    return called(Native.exportTo(this.handle, path, passphrase, words ?? null));
  }

  /** Whose device this is. */
  async identity(): Promise<Identity> {
    return (await called(Native.identity(this.handle))) as Identity;
  }

  /** The person's devices, as far as this one has heard of them. */
  async ownDevices(): Promise<OwnDevice[]> {
    return (await called(Native.ownDevices(this.handle))) as OwnDevice[];
  }

  /** Revokes a device of this person, for good. */
  revokeDevice(author: Author): Promise<void> {
    return called(Native.revokeDevice(this.handle, author));
  }

  /** Begins to make a further device this person's: show its text, compare codes, accept. */
  async pair(): Promise<PairingHost> {
    const { pairing, text } = await called(Native.pair(this.handle));
    return new PairingHost(pairing, text);
  }

  /** Asks to become a device of the person whose device shows this text. */
  async join(text: string): Promise<PairingGuest> {
    return new PairingGuest((await called(Native.join(this.handle, text))).pairing);
  }

  /** Tells whoever listens now (presence, typing): base64 of 1 to 3840 bytes. Nobody stores it. */
  signal(topic: TopicId, bytes: string): Promise<void> {
    return called(Native.signal(this.handle, topic, bytes));
  }

  /** Where a topic stands. */
  async status(topic: TopicId): Promise<TopicStatus> {
    return (await called(Native.status(this.handle, topic))) as TopicStatus;
  }

  /** What the device holds. */
  statistics(): Promise<Statistics> {
    return called(Native.statistics(this.handle));
  }

  /** Tell it when the network changed, as often as the system says so. It never storms. */
  networkChanged(): void {
    Native.networkChanged(this.handle);
  }

  /** Lets go of every file, lock and socket until `resume`. Listeners stay. */
  suspend(): Promise<void> {
    return called(Native.suspend(this.handle));
  }

  /** Goes on after `suspend`. */
  resume(): Promise<void> {
    return called(Native.resume(this.handle));
  }

  /** A background fetch, also while suspended; back within `deadline` milliseconds whatever the network does. */
  runOnce(deadline: number): Promise<RunSummary> {
    return called(Native.runOnce(this.handle, deadline));
  }

  /** When something queued is due to be sent (again). */
  async nextWakeupAt(): Promise<Date | null> {
    const at = await called(Native.nextWakeupAt(this.handle));
    return at === null ? null : new Date(at);
  }

  /** Finishes what was accepted and closes everything. Again is harmless. */
  async close(): Promise<void> {
    if (this.closed) return;
    await called(Native.close(this.handle));
    this.closed = true;
  }
}

/** A ticket for a fresh topic: whoever holds it reads and writes. `isPublic`: everyone who knows the topic may read. */
export function generateTicket(isPublic = false): Promise<string> {
  return called(Native.generateTicket(isPublic));
}

/** The same ticket without the right to write. */
export function readOnlyTicket(ticket: string): Promise<string> {
  return called(Native.readOnlyTicket(ticket));
}

/** What a ticket says of itself. */
export async function ticketFacts(ticket: string): Promise<TicketFacts> {
  return (await called(Native.ticketFacts(ticket))) as TicketFacts;
}

/** 24 fresh words that stand for a person: show them once, keep them nowhere. */
export function generateMnemonic(): Promise<string> {
  return called(Native.generateMnemonic());
}

/** Keeps a person's words in the keystore of the database `name`; a device key made from now on is certified by them. */
export function importMnemonic(name: string, words: string): Promise<void> {
  return called(Native.importMnemonic(name, words));
}

/** The person's words that the keystore of the database `name` has, to be shown once more; null where none were put. */
export function storedMnemonic(name: string): Promise<string | null> {
  return called(Native.storedMnemonic(name));
}

/** The identity that a person's words stand for. */
export async function mnemonicIdentity(words: string): Promise<Identity> {
  return (await called(Native.mnemonicIdentity(words))) as Identity;
}

/** An identity's public address: `pk:` and the key in z-base-32. */
export function identityAddress(identity: Identity): Promise<string> {
  return called(Native.identityAddress(identity));
}

/** The identity an address names. */
export async function parseAddress(address: string): Promise<Identity> {
  return (await called(Native.parseAddress(address))) as Identity;
}

/** A pairing on the device that holds the person's words. */
export class PairingHost {
  /** @internal */
  constructor(
    private readonly pairing: number,
    /** What to show, as text or QR code, for ten minutes. A secret: whoever has it may ask to be paired. */
    readonly text: string,
  ) {}

  /** Waits for the first device that asks; again gives the same. Show the code, and accept when the other shows the same. */
  async asked(): Promise<PairingRequest> {
    const { device, code } = await called(Native.pairingAsked(this.pairing));
    return {
      device: device as Author,
      code,
      accept: () => called(Native.pairingAccept(this.pairing)),
      refuse: () => called(Native.pairingRefuse(this.pairing)),
    };
  }

  /** Waits no longer. */
  cancel(): void {
    Native.pairingCancel(this.pairing);
  }
}

/** A device that asks to become this person's. */
export type PairingRequest = {
  device: Author;
  /** Six digits, to be compared with what the other device shows. */
  code: string;
  /** Makes the device this person's and hands it their topics: the server has it when this resolves. */
  accept: () => Promise<void>;
  /** Says that it is not to be, so that it waits no longer: for when the codes differ. The first answer counts. */
  refuse: () => Promise<void>;
};

/** A pairing on the device that was given the text. */
export class PairingGuest {
  /** @internal */
  constructor(private readonly pairing: number) {}

  /** Waits for the device of the text. Show the code: its person compares it there. */
  code(): Promise<string> {
    return called(Native.pairingCode(this.pairing));
  }

  /** Waits until the other device has accepted, and becomes a device of its person; again gives the same. */
  async joined(): Promise<Identity> {
    return (await called(Native.pairingJoined(this.pairing))) as Identity;
  }

  /** Waits no longer. */
  cancel(): void {
    Native.pairingCancel(this.pairing);
  }
}

/** When messages were received, by the server's clock: from `since` on, and before `until`. */
export type Times = { since?: Date; until?: Date };

const bounds = ({ since, until }: Times) => [since?.getTime() ?? null, until?.getTime() ?? null] as const;

/** One topic's native subscription: made for its first listener, cancelled after its last. */
class Feed {
  private readonly listeners = new Map<Listener, ((error: DeltaError) => void) | undefined>();
  private subscription: number | undefined;
  private ended = false;
  private readonly native: { remove(): void };
  /** What came before the bridge had told the subscription's number. */
  private early: NativeEvent[] = [];

  constructor(
    device: number,
    topic: TopicId,
    private readonly gone: () => void,
  ) {
    this.native = Native.onEvent((event) => this.hear(event));
    called(Native.subscribe(device, topic)).then(
      (subscription) => this.begin(subscription),
      (error: unknown) => this.fail(asDeltaError(error)),
    );
  }

  add(listener: Listener, failed?: (error: DeltaError) => void): () => void {
    // Of its own, so that the same function may listen twice.
    const own: Listener = (event) => listener(event);
    this.listeners.set(own, failed);
    return () => {
      if (this.listeners.delete(own) && this.listeners.size === 0) this.end();
    };
  }

  private begin(subscription: number): void {
    if (this.ended) {
      Native.unsubscribe(subscription);
      return;
    }
    this.subscription = subscription;
    const early = this.early;
    this.early = [];
    early.forEach((event) => this.hear(event));
  }

  private hear(native: NativeEvent): void {
    if (this.subscription === undefined) {
      this.early.push(native);
      return;
    }
    if (native.subscription !== this.subscription) return;
    const { subscription: _, ...event } = native;
    for (const listener of [...this.listeners.keys()]) {
      try {
        listener(event as Event);
      } catch (error) {
        console.error('a listener failed', error);
      }
    }
    if (event.kind === 'closed') this.end();
  }

  private fail(error: DeltaError): void {
    const told = [...this.listeners.values()];
    this.end();
    told.forEach((failed) => failed?.(error));
  }

  private end(): void {
    if (this.ended) return;
    this.ended = true;
    this.early = [];
    this.native.remove();
    this.gone();
    if (this.subscription !== undefined) Native.unsubscribe(this.subscription);
  }
}

function plainHops(hops: RelayHops): NativeRelayHops {
  return hops.kind === 'pool'
    ? { kind: 'pool', pool: [...hops.records] }
    : { ...hops, trustedKeys: [...hops.trustedKeys] };
}

function plainContent(content: Content): NativeContent {
  if (content.kind !== 'messageSend') return { ...content };
  return { ...content, mentions: [...(content.mentions ?? [])], attachments: [...(content.attachments ?? [])] };
}
