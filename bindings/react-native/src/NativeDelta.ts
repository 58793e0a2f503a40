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
  proxy?: string;
  relays?: number;
  coverMs?: number;
  relayDelayMs?: number;
  acceptV2?: boolean;
  recordsUrl?: string;
  hiddenReading?: boolean;
  lookBeforeRetry?: boolean;
  mergeChangesMs?: number;
  blobCache?: number;
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
  attachments?: string[];
  blob?: string;
  emoji?: string;
  name?: string;
  bio?: string;
  avatar?: string;
  availability?: string;
  public?: boolean;
};

/** `newest`, or `before` and `after` a position. */
export type NativePage = { kind: string; position?: string };

export type NativeAttachment = { blob: string; size: number; mime: string; name?: string };
/** `file` with its path, or `bytes`. */
export type NativeBlobSource = { kind: string; path?: string; bytes?: string };
export type NativeBlobStatus = { about: NativeAttachment; state: string; have: number; of: number };

export type NativeMessage = {
  id: string;
  author: string;
  position: string;
  text?: string;
  reply?: string;
  mentions: string[];
  attachments: NativeAttachment[];
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
  blobs: number;
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
  before?: number;
};

export type NativeFound = { message: NativeMessage; log: string; arrival: number; excerpt: string };
export type NativeMention = { message: NativeMessage; log: string; arrival: number };
export type NativeReceiptPlace = { at: number; arrival: number };
export type NativeReceivedPage = { messages: NativeMessage[]; next?: NativeReceiptPlace };

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
export type NativeSpaceDevice = { device: string; person: string; revoked: boolean };
export type NativeInvitation = { id: string; level: string; expires?: number; once: boolean; used: boolean };
export type NativeJoinRequest = { id: string; author: string; invitation?: string; text?: string };
export type NativeAuditPlace = { rank: number; id: string };
export type NativeAuditLine = {
  place: NativeAuditPlace;
  who: string;
  kind: string;
  subject?: string;
  device?: string;
};

/** Which of the fields count is said by `kind`; see `SpaceAction`. */
export type NativeSpaceAction = {
  kind: string;
  about?: UnsafeObject;
  member?: string;
  level?: string;
  reason?: string;
  until?: number;
  invitation?: string;
  room?: string;
};

export type NativeOwnDevice = { device: string; this: boolean; revoked: boolean };
export type NativePairingHost = { pairing: number; text: string };
export type NativePairingRequest = { device: string; code: string };
export type NativePairingGuest = { pairing: number };
export type NativeTopicUse = { log: string; topic?: string; operations: number; bytes: number };
export type NativeStorageUse = { fileBytes: number; freeBytes: number; topics: NativeTopicUse[] };

export type NativeDirectThread = {
  thread: string;
  peer: string;
  state: string;
  text?: string;
  log?: string;
  topic?: string;
  madeAt: number;
};

export type NativeTicketFacts = { topic: string; log: string; canWrite: boolean; public: boolean };

export type NativeValueKey = { collection: string; key: string };

export type NativeValue = {
  at: NativeValueKey;
  value: string;
  author: string;
  id: string;
  writtenAt: number;
};

export type NativeDocument = { id: string; path: string; author: string };

export type NativeDocumentPart = { number: number; id: string; author: string; snapshot: boolean; bytes: string };

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

export type NativeLogLine = { level: string; target: string; message: string };

/**
 * Objects that go down are `UnsafeObject` for React Native's code generator, so that both platforms get a plain map; what
 * they are is said by the types above: config `NativeConfig`, relayHops `NativeRelayHops`, content `NativeContent`, page
 * `NativePage`, search `NativeSearchWords`, about `NativeSpaceText` or `NativeRoomText`, action `NativeSpaceAction`, at
 * `NativeValueKey`, before `NativeAuditPlace`, after `NativeReceiptPlace`, source `NativeBlobSource`. A `pairing` is one side of a pairing.
 */
export interface Spec extends TurboModule {
  /** `logLevel`: from now on lines of this level and above come as `onLog`; without one nothing changes. */
  open(config: UnsafeObject, logLevel: string | null): Promise<NativeOpened>;
  /** `path` is the export's. */
  importFrom(path: string, passphrase: string, config: UnsafeObject, logLevel: string | null): Promise<NativeOpened>;
  close(device: number): Promise<void>;
  initSync(device: number, relayHops: UnsafeObject, syncUrl: string): Promise<string[]>;
  openTopic(device: number, ticket: string): Promise<string>;
  setReadKey(device: number, topic: string, key: string | null): Promise<void>;
  topics(device: number): Promise<string[]>;
  publish(device: number, topic: string, content: UnsafeObject, key: string | null): Promise<string>;
  subscribe(device: number, topic: string): Promise<number>;
  unsubscribe(subscription: number): void;
  messages(device: number, topic: string, page: UnsafeObject, limit: number): Promise<NativeMessage[]>;
  messagesBy(
    device: number,
    topic: string,
    author: string,
    page: UnsafeObject,
    limit: number,
    since: number | null,
    until: number | null,
  ): Promise<NativeMessage[]>;
  messagesReceived(
    device: number,
    topic: string,
    limit: number,
    since: number | null,
    until: number | null,
    after: UnsafeObject | null,
  ): Promise<NativeReceivedPage>;
  mentions(
    device: number,
    who: string,
    limit: number,
    topic: string | null,
    before: number | null,
  ): Promise<NativeMention[]>;
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
  person(device: number, topic: string, author: string): Promise<string>;
  search(device: number, search: UnsafeObject, limit: number): Promise<NativeFound[]>;
  putValue(device: number, topic: string, at: UnsafeObject, value: string): Promise<string>;
  deleteValue(device: number, topic: string, at: UnsafeObject): Promise<string>;
  value(device: number, topic: string, at: UnsafeObject): Promise<NativeValue | null>;
  values(
    device: number,
    topic: string,
    collection: string,
    limit: number,
    prefix: string,
    after: string | null,
  ): Promise<NativeValue[]>;
  createDocument(device: number, topic: string, path: string): Promise<string>;
  writeDocument(
    device: number,
    topic: string,
    document: string,
    bytes: string,
    snapshot: boolean,
  ): Promise<string>;
  documents(
    device: number,
    topic: string,
    limit: number,
    prefix: string,
    after: string | null,
  ): Promise<NativeDocument[]>;
  documentParts(
    device: number,
    topic: string,
    document: string,
    limit: number,
    after: number,
  ): Promise<NativeDocumentPart[]>;
  outbox(device: number, topic: string, limit: number, after: number | null): Promise<NativeOutboxRow[]>;
  retry(device: number, topic: string): Promise<number>;
  cancel(device: number, topic: string, operation: string): Promise<NativeCancelled>;
  createSpace(device: number, about: UnsafeObject): Promise<NativePlace>;
  createRoom(device: number, space: string, about: UnsafeObject): Promise<NativePlace>;
  spaces(device: number): Promise<NativeSpace[]>;
  space(device: number, space: string): Promise<NativeSpace | null>;
  rooms(device: number, space: string): Promise<NativeRoom[]>;
  members(device: number, space: string, limit: number, after: string | null): Promise<NativeMember[]>;
  spaceDevices(device: number, space: string): Promise<NativeSpaceDevice[]>;
  changeSpace(device: number, space: string, action: UnsafeObject): Promise<string>;
  auditLog(
    device: number,
    space: string,
    limit: number,
    before: UnsafeObject | null,
  ): Promise<NativeAuditLine[]>;
  invitations(device: number, space: string): Promise<NativeInvitation[]>;
  joinRequests(device: number, space: string): Promise<NativeJoinRequest[]>;
  createInvitation(
    device: number,
    space: string,
    level: string,
    expires: number | null,
    once: boolean,
  ): Promise<string>;
  acceptInvitation(device: number, invitation: string): Promise<NativePlace>;
  openInbox(device: number): Promise<string>;
  contact(device: number): Promise<string>;
  requestDirect(device: number, contact: string, text: string | null): Promise<string>;
  requestDirectOf(device: number, member: string, text: string | null): Promise<string>;
  acceptDirect(device: number, thread: string): Promise<string>;
  closeDirect(device: number, thread: string): Promise<void>;
  sendDirect(device: number, thread: string, content: UnsafeObject): Promise<string>;
  directThreads(device: number): Promise<NativeDirectThread[]>;
  requestJoin(device: number, space: string, manager: string, text: string | null): Promise<string>;
  attach(device: number, source: UnsafeObject, mime: string, name: string | null): Promise<string>;
  blobStatus(device: number, blob: string): Promise<NativeBlobStatus>;
  fetchBlob(device: number, blob: string): Promise<void>;
  dropBlob(device: number, blob: string): Promise<void>;
  writeBlob(device: number, blob: string, path: string): Promise<void>;
  blobBytes(device: number, blob: string): Promise<string>;
  storageUse(device: number): Promise<NativeStorageUse>;
  prune(device: number, topic: string, before: number): Promise<number>;
  wipeTopic(device: number, topic: string): Promise<void>;
  wipe(device: number): Promise<void>;
  keySnapshot(device: number): Promise<string>;
  /** `export` is a word of C++, in which React Native writes this. */
  exportTo(device: number, path: string, passphrase: string, words: string | null): Promise<void>;

  identity(device: number): Promise<string>;
  ownDevices(device: number): Promise<NativeOwnDevice[]>;
  revokeDevice(device: number, author: string): Promise<void>;
  pair(device: number): Promise<NativePairingHost>;
  pairingAsked(pairing: number): Promise<NativePairingRequest>;
  pairingAccept(pairing: number): Promise<void>;
  pairingRefuse(pairing: number): Promise<void>;
  join(device: number, text: string): Promise<NativePairingGuest>;
  pairingCode(pairing: number): Promise<string>;
  pairingJoined(pairing: number): Promise<string>;
  pairingCancel(pairing: number): void;

  generateTicket(isPublic: boolean): Promise<string>;
  readOnlyTicket(ticket: string): Promise<string>;
  ticketFacts(ticket: string): Promise<NativeTicketFacts>;
  generateMnemonic(): Promise<string>;
  /** Into the keystore of the database of this name. */
  importMnemonic(name: string, words: string): Promise<void>;
  storedMnemonic(name: string): Promise<string | null>;
  mnemonicIdentity(words: string): Promise<string>;
  identityAddress(identity: string): Promise<string>;
  parseAddress(address: string): Promise<string>;

  readonly onEvent: EventEmitter<NativeEvent>;
  readonly onLog: EventEmitter<NativeLogLine>;
}

export default TurboModuleRegistry.getEnforcing<Spec>('Delta');
