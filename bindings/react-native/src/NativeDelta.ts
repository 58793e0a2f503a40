/**
 * What the native modules implement: plain values over React Native's bridge. Apps use `Device` and the hooks instead.
 *
 * Ids and positions cross as lower-case hex, other bytes as base64 (the bridge has no bytes), instants as milliseconds
 * since 1970. A number holds every count and seq of Delta exactly up to 2^53. What a call fails with has Delta's stable
 * `code`, and says in `userInfo` who is at fault (`kind`) and what to do (`reason`).
 */
import type { TurboModule } from 'react-native';
import { TurboModuleRegistry } from 'react-native';
import type { EventEmitter, UnsafeObject } from 'react-native/Libraries/Types/CodegenTypes';

export type NativeConfig = {
  /** Names the database inside the app's private storage: 1 to 64 of `A-Z a-z 0-9 _ -`. */
  name: string;
  allowPlaintext?: boolean;
  extraRoots?: string[];
  relays?: number;
  coverMs?: number;
  relayDelayMs?: number;
  acceptV2?: boolean;
  recordsUrl?: string;
  mergeChangesMs?: number;
  workers?: number;
};

export type NativeOpened = { device: number; author: string; renewed: boolean };

/** `directory`: list, records, trustedKeys, threshold. `pool`: pool. */
export type NativeRelayHops = {
  kind: string;
  list?: string;
  records?: string;
  trustedKeys?: string[];
  threshold?: number;
  pool?: string[];
};

/** Which of the fields count is said by `kind`; see `Content`. */
export type NativeContent = {
  kind: string;
  text?: string;
  target?: string;
  reply?: string;
  mentions?: string[];
  emoji?: string;
  name?: string;
  bio?: string;
  avatar?: string;
  availability?: string;
  public?: boolean;
};

/** `newest`, or `before` and `after` a position. */
export type NativePage = { kind: string; position?: string };

export type NativeMessage = {
  id: string;
  author: string;
  position: string;
  text?: string;
  reply?: string;
  mentions: string[];
  acknowledged: boolean;
  sentAt?: number;
  receivedAt?: number;
  editedAt?: number;
  deleted: boolean;
};

export type NativeReaction = { emoji: string; author: string; person: string; id: string };

export type NativeTrouble = { code: string; reason: string };
export type NativeGapRow = { first: number; last: number };
export type NativeParkedRows = { reason: string; count: number };
export type NativeOutbox = { queued: number; sent: number; parked: number; parkedReasons: NativeParkedRows[] };
export type NativePending = { key: number; predecessor: number; bytes: number };

export type NativeClockSkew = { aheadMs: number };

export type NativeTopicStatus = {
  connection: string;
  cursor: number;
  head?: number;
  gaps: NativeGapRow[];
  outbox: NativeOutbox;
  pending: NativePending;
  blocked?: NativeTrouble;
  unreadable?: NativeTrouble;
  clockSkew?: NativeClockSkew;
  roundTripMs?: number;
};

export type NativeStatistics = {
  topics: number;
  operations: number;
  queued: number;
  sent: number;
  parked: number;
  outboxBytes: number;
  storedBytes: number;
};

export type NativeRunSummary = {
  complete: boolean;
  topics: number;
  caughtUp: number;
  received: number;
  waiting: number;
};

export type NativeVersion = { id: string; text: string; sentAt?: number };
export type NativeUnread = { messages: number; mentions: number };

export type NativeProfile = {
  author: string;
  log: string;
  name: string;
  bio?: string;
  avatar?: string;
  availability?: string;
  public: boolean;
};

export type NativeSearchWords = {
  words: string;
  topic?: string;
  author?: string;
  since?: number;
  until?: number;
};

export type NativeFound = { message: NativeMessage; log: string; excerpt: string };

/** `queued`, `sent`, or `parked` with the reason. */
export type NativeOutboxState = { kind: string; reason?: string };

export type NativeOutboxRow = {
  row: number;
  operation: string;
  bytes: number;
  own: boolean;
  state: NativeOutboxState;
  tries: number;
  notBefore: number;
};

/** `removed`, or `deleted` by an operation. */
export type NativeCancelled = { kind: string; operation?: string };

export type NativeSpaceText = {
  name: string;
  label?: string;
  description?: string;
  welcome?: string;
  avatar?: string;
  cover?: string;
  public?: boolean;
  history?: boolean;
};

export type NativeRoomText = { name: string; description?: string; cooldown?: number };
export type NativePlace = { log: string; topic: string };

export type NativeSpace = {
  space: string;
  topic?: string;
  about: NativeSpaceText;
  deleted: boolean;
  updateRequired: boolean;
};

export type NativeRoom = { room: string; space: string; topic?: string; about: NativeRoomText; state: string };
export type NativeMember = { member: string; level?: string; muted: boolean; banned: boolean };
export type NativeTopicUse = { log: string; topic?: string; operations: number; bytes: number };
export type NativeStorageUse = { fileBytes: number; freeBytes: number; topics: NativeTopicUse[] };

export type NativeTicketFacts = { topic: string; log: string; canWrite: boolean; public: boolean };

export type NativeValueKey = { collection: string; key: string };

export type NativeChange = { log: string; kind: string; ids: string[]; keys: NativeValueKey[] };

/** Which of the fields are there is said by `kind`; see `Event`. */
export type NativeEvent = {
  subscription: number;
  kind: string;
  topic: string;
  changes?: NativeChange[];
  operation?: string;
  seq?: number;
  connection?: string;
  first?: number;
  last?: number;
  reason?: string;
  author?: string;
  rotator?: string;
  successor?: string;
  log?: string;
  bytes?: string;
  taken?: boolean;
  trouble?: NativeTrouble;
  skew?: NativeClockSkew;
  dropped?: number;
};

/**
 * Objects that go down are `UnsafeObject` for React Native's code generator, so that both platforms get a plain map; what
 * they are is said by the types above: config `NativeConfig`, relayHops `NativeRelayHops`, content `NativeContent`, page
 * `NativePage`, search `NativeSearchWords`, about `NativeSpaceText` or `NativeRoomText`.
 */
export interface Spec extends TurboModule {
  open(config: UnsafeObject): Promise<NativeOpened>;
  close(device: number): Promise<void>;
  initSync(device: number, relayHops: UnsafeObject, syncUrl: string): Promise<string[]>;
  openTopic(device: number, ticket: string): Promise<string>;
  topics(device: number): Promise<string[]>;
  publish(device: number, topic: string, content: UnsafeObject, key: string | null): Promise<string>;
  subscribe(device: number, topic: string): Promise<number>;
  unsubscribe(subscription: number): void;
  messages(device: number, topic: string, page: UnsafeObject, limit: number): Promise<NativeMessage[]>;
  message(device: number, id: string): Promise<NativeMessage | null>;
  reactions(device: number, message: string): Promise<NativeReaction[]>;
  signal(device: number, topic: string, bytes: string): Promise<void>;
  status(device: number, topic: string): Promise<NativeTopicStatus>;
  statistics(device: number): Promise<NativeStatistics>;
  networkChanged(device: number): void;
  suspend(device: number): Promise<void>;
  resume(device: number): Promise<void>;
  runOnce(device: number, deadline: number): Promise<NativeRunSummary>;
  nextWakeupAt(device: number): Promise<number | null>;

  messageHistory(device: number, id: string): Promise<NativeVersion[]>;
  unread(device: number, topic: string): Promise<NativeUnread>;
  setRead(device: number, topic: string, upto: string): Promise<void>;
  profile(device: number, topic: string, author: string): Promise<NativeProfile | null>;
  profiles(device: number, author: string): Promise<NativeProfile[]>;
  search(device: number, search: UnsafeObject, limit: number): Promise<NativeFound[]>;
  outbox(device: number, topic: string, limit: number, after: number | null): Promise<NativeOutboxRow[]>;
  retry(device: number, topic: string): Promise<number>;
  cancel(device: number, topic: string, operation: string): Promise<NativeCancelled>;
  createSpace(device: number, about: UnsafeObject): Promise<NativePlace>;
  createRoom(device: number, space: string, about: UnsafeObject): Promise<NativePlace>;
  spaces(device: number): Promise<NativeSpace[]>;
  space(device: number, space: string): Promise<NativeSpace | null>;
  rooms(device: number, space: string): Promise<NativeRoom[]>;
  members(device: number, space: string): Promise<NativeMember[]>;
  createInvitation(
    device: number,
    space: string,
    level: string,
    expires: number | null,
    once: boolean,
  ): Promise<string>;
  acceptInvitation(device: number, invitation: string): Promise<NativePlace>;
  storageUse(device: number): Promise<NativeStorageUse>;
  wipeTopic(device: number, topic: string): Promise<void>;

  generateTicket(isPublic: boolean): Promise<string>;
  readOnlyTicket(ticket: string): Promise<string>;
  ticketFacts(ticket: string): Promise<NativeTicketFacts>;
  generateMnemonic(): Promise<string>;
  /** Into the keystore of the database of this name. */
  importMnemonic(name: string, words: string): Promise<void>;

  readonly onEvent: EventEmitter<NativeEvent>;
}

export default TurboModuleRegistry.getEnforcing<Spec>('Delta');
