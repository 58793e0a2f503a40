/** The object an app holds. */
import Native from './NativeDelta';
import type { NativeConfig, NativeContent, NativeEvent, NativePage, NativeRelayHops } from './NativeDelta';
import { asDeltaError, called, DeltaError } from './errors';
import type {
  Author,
  Cancelled,
  Config,
  Content,
  Event,
  Found,
  Level,
  LogId,
  Member,
  Message,
  OperationId,
  OutboxRow,
  Page,
  Place,
  Position,
  Profile,
  Reaction,
  RelayHops,
  Room,
  RoomText,
  RunSummary,
  SearchWords,
  Space,
  SpaceText,
  Statistics,
  StorageUse,
  TicketFacts,
  TopicId,
  TopicStatus,
  Unread,
  Version,
} from './types';

/** Most messages taken at once, unless a call says otherwise. */
export const PAGE = 64;

/** Hears of a topic. What it throws is told to the console; deliveries go on. */
export type Listener = (event: Event) => void;

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
  static async open(config: Config): Promise<Device> {
    const { device, author, renewed } = await called(Native.open(config satisfies NativeConfig));
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

  /** The topics that are open. */
  async topics(): Promise<TopicId[]> {
    return (await called(Native.topics(this.handle))) as TopicId[];
  }

  /** Signs, stores and queues an operation. With a `key` (base64, 1 to 64 bytes) it happens once, however often it is called. */
  async publish(topic: TopicId, content: Content, key?: string): Promise<OperationId> {
    return (await called(Native.publish(this.handle, topic, plainContent(content), key ?? null))) as OperationId;
  }

  /** Publishes a message. */
  send(topic: TopicId, text: string, options: { reply?: OperationId; mentions?: Author[]; key?: string } = {}) {
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

  /** Messages with all the words, those that came last first. */
  async search(search: SearchWords, limit = PAGE): Promise<Found[]> {
    return (await called(Native.search(this.handle, search, limit))) as Found[];
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

  /** Members of a space, and whoever is banned from it. */
  async members(space: LogId): Promise<Member[]> {
    return (await called(Native.members(this.handle, space))) as Member[];
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

  /** What lies on the device, and which conversations take how much of it. */
  storageUse(): Promise<StorageUse> {
    return called(Native.storageUse(this.handle));
  }

  /** Removes a topic with all it holds from this device. */
  wipeTopic(topic: TopicId): Promise<void> {
    return called(Native.wipeTopic(this.handle, topic));
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
  return content.kind === 'messageSend' ? { ...content, mentions: [...(content.mentions ?? [])] } : { ...content };
}
