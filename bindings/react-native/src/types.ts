/** The values of the facade. Ids are strings of hex that the compiler keeps apart. */
import type {
  NativeAuditLine,
  NativeAttachment,
  NativeAuditPlace,
  NativeBlobStatus,
  NativeClockSkew,
  NativeConfig,
  NativeDirectThread,
  NativeDocument,
  NativeDocumentPart,
  NativeFound,
  NativeInvitation,
  NativeJoinRequest,
  NativeMember,
  NativeMention,
  NativeMessage,
  NativeOutboxRow,
  NativeOwnDevice,
  NativePlace,
  NativeProfile,
  NativeReaction,
  NativeReceiptPlace,
  NativeReceivedPage,
  NativeRoom,
  NativeRoomText,
  NativeRunSummary,
  NativeSearchWords,
  NativeSpace,
  NativeSpaceDevice,
  NativeSpaceText,
  NativeStatistics,
  NativeStorageUse,
  NativeTicketFacts,
  NativeTopicStatus,
  NativeTopicUse,
  NativeTrouble,
  NativeUnread,
  NativeValue,
  NativeValueKey,
  NativeVersion,
} from './NativeDelta';

declare const id: unique symbol;
type Id<Name extends string> = string & { readonly [id]: Name };

/** Where a conversation lives on a server. */
export type TopicId = Id<'topic'>;
/** Names an operation (a message, say). */
export type OperationId = Id<'operation'>;
/** Who signs: a device's key. */
export type Author = Id<'author'>;
/** Who a person is: the key that certifies their devices. */
export type Identity = Id<'identity'>;
/** Stable name of a conversation. */
export type LogId = Id<'log'>;
/** A relay's or sync server's key. */
export type NodeId = Id<'node'>;
/** Names a direct thread. */
export type ThreadId = Id<'thread'>;
/** Names a blob: an image or file that messages bring along. */
export type BlobId = Id<'blob'>;
/** Where a message is shown. */
export type Position = Id<'position'>;

/** How a device is opened. */
export type Config = NativeConfig;

/** The relays to send through: those of a signed list, or records the app itself vouches for. */
export type RelayHops =
  | { kind: 'directory'; list: string; records: string; trustedKeys: readonly NodeId[]; threshold: number }
  | { kind: 'pool'; records: readonly string[] };

/** What to publish. */
export type Content =
  | { kind: 'messageSend'; text: string; reply?: OperationId; mentions?: readonly Author[]; attachments?: readonly BlobId[] }
  | { kind: 'blobShare'; blob: BlobId }
  | { kind: 'messageEdit'; target: OperationId; text: string }
  | { kind: 'messageDelete'; target: OperationId }
  | { kind: 'reactionAdd'; target: OperationId; emoji: string }
  | { kind: 'reactionRemove'; target: OperationId; emoji: string }
  | { kind: 'profileSet'; name: string; bio?: string; avatar?: string; availability?: string; public?: boolean };

/** What a message brings along, as its sender says; `name` is not to be taken for a path. */
export type Attachment = Omit<NativeAttachment, 'blob'> & { blob: BlobId };
/** What a blob is made of; bytes are base64. */
export type BlobSource = { kind: 'file'; path: string } | { kind: 'bytes'; bytes: string };
/** Whether a blob is here. */
export type BlobState = 'absent' | 'sending' | 'fetching' | 'here' | 'unavailable' | 'corrupt';
/** How far a blob is, in chunks. */
export type BlobStatus = Omit<NativeBlobStatus, 'about' | 'state'> & { about: Attachment; state: BlobState };

/** A message as it stands: the newest edit applied, or a tombstone. */
export type Message = Omit<NativeMessage, 'id' | 'author' | 'position' | 'reply' | 'mentions' | 'attachments'> & {
  id: OperationId;
  author: Author;
  position: Position;
  reply?: OperationId;
  mentions: Author[];
  attachments: Attachment[];
};

/** A reaction that stands. */
export type Reaction = Omit<NativeReaction, 'id' | 'author' | 'person'> & {
  id: OperationId;
  author: Author;
  person: Identity;
};

/** One text of a message, as sent or as edited. */
export type Version = Omit<NativeVersion, 'id'> & { id: OperationId };
/** What of a conversation has not been read. */
export type Unread = NativeUnread;
/** What somebody says about themselves in one conversation. */
export type Profile = Omit<NativeProfile, 'author' | 'log'> & { author: Author; log: LogId };
/** What to search for; instants are milliseconds since 1970, by the server's clock. */
export type SearchWords = Omit<NativeSearchWords, 'topic' | 'author'> & { topic?: TopicId; author?: Author };
/** A message that was found. */
export type Found = Omit<NativeFound, 'message' | 'log'> & { message: Message; log: LogId };
/** A message that mentions somebody. */
export type Mention = Omit<NativeMention, 'message' | 'log'> & { message: Message; log: LogId };
/** Where a message stands among those of its conversation by the time of their receipt. */
export type ReceiptPlace = NativeReceiptPlace;
/** Messages that were received in a time, and where the next page goes on. */
export type ReceivedPage = Omit<NativeReceivedPage, 'messages'> & { messages: Message[] };

/** A key in a collection. */
export type ValueKey = NativeValueKey;
/** The value of a key, as base64. */
export type Value = Omit<NativeValue, 'author' | 'id'> & { author: Author; id: OperationId };

/** A document: its id, its path, who made it. What is in it is in its parts. */
export type Document = Omit<NativeDocument, 'id' | 'author'> & { id: OperationId; author: Author };
/** Something written to a document, as base64. What this device reads later has a higher number. */
export type DocumentPart = Omit<NativeDocumentPart, 'id' | 'author'> & { id: OperationId; author: Author };

/** An operation on its way out. */
export type OutboxRow = Omit<NativeOutboxRow, 'operation' | 'state'> & {
  operation: OperationId;
  state: SendState;
};
/** Where an operation on its way stands. */
export type SendState = { kind: 'queued' } | { kind: 'sent' } | { kind: 'parked'; reason: string };
/** How an operation was taken back. */
export type Cancelled = { kind: 'removed' } | { kind: 'deleted'; operation: OperationId };

/** What a space says about itself. */
export type SpaceText = NativeSpaceText;
/** What a room says about itself; `cooldown` in seconds. */
export type RoomText = NativeRoomText;
/** Where something that was made lives. */
export type Place = Omit<NativePlace, 'log' | 'topic'> & { log: LogId; topic: TopicId };
/** A space this device knows. */
export type Space = Omit<NativeSpace, 'space' | 'topic'> & { space: LogId; topic?: TopicId };
/** Whether a room can be written in. */
export type RoomState = 'open' | 'archived' | 'deleted';
/** A room of a space; without a topic where this device has no key. */
export type Room = Omit<NativeRoom, 'room' | 'space' | 'topic' | 'state'> & {
  room: LogId;
  space: LogId;
  topic?: TopicId;
  state: RoomState;
};
/** How much is logged. `error` means a bug in Delta. */
export type LogLevel = 'error' | 'warn' | 'info' | 'debug' | 'trace';

export type LogLine = { level: LogLevel; target: string; message: string };

/** What a member may do. Each level includes those before it. */
export type Level = 'pull' | 'read' | 'write' | 'manage';
/** A member of a space, or whoever is banned from it. */
export type Member = Omit<NativeMember, 'member' | 'level'> & { member: Identity; level?: Level };
/** A device that a space was told of, and whose it is. */
export type SpaceDevice = Omit<NativeSpaceDevice, 'device' | 'person'> & { device: Author; person: Identity };
/** An invitation that is not revoked. */
export type Invitation = Omit<NativeInvitation, 'id' | 'level'> & { id: OperationId; level: Level };
/** Somebody who asks to be let in. */
export type JoinRequest = Omit<NativeJoinRequest, 'id' | 'author' | 'invitation'> & {
  id: OperationId;
  author: Author;
  invitation?: OperationId;
};
/** Where a line of a space's audit log stands. */
export type AuditPlace = Omit<NativeAuditPlace, 'id'> & { id: OperationId };
/** A line of a space's audit log. */
export type AuditLine = Omit<NativeAuditLine, 'place' | 'who' | 'subject' | 'device'> & {
  place: AuditPlace;
  who: Identity;
  subject?: Identity;
  device?: Author;
};
/** A change of a space, its rooms or its members; `until` in milliseconds since 1970. */
export type SpaceAction =
  | { kind: 'update'; about: SpaceText }
  | { kind: 'delete' }
  | { kind: 'add'; member: Identity; level: Level }
  | { kind: 'remove'; member: Identity }
  | { kind: 'promote' | 'demote'; member: Identity; level: Level }
  | { kind: 'leave' }
  | { kind: 'transfer'; member: Identity }
  | { kind: 'ban'; member: Identity; reason?: string }
  | { kind: 'unban'; member: Identity }
  | { kind: 'mute'; member: Identity; until?: number }
  | { kind: 'unmute'; member: Identity }
  | { kind: 'revokeInvitation'; invitation: OperationId }
  | { kind: 'updateRoom'; room: LogId; about: RoomText }
  | { kind: 'archiveRoom' | 'unarchiveRoom' | 'deleteRoom'; room: LogId };
/** Where a direct thread stands: this device has asked, the other one asks, both can write, or nobody any more. */
export type ThreadState = 'asked' | 'requested' | 'open' | 'closed';
/** A direct thread; `log` and `topic` once it is open. */
export type DirectThread = Omit<NativeDirectThread, 'thread' | 'peer' | 'state' | 'log' | 'topic'> & {
  thread: ThreadId;
  peer: Author;
  state: ThreadState;
  log?: LogId;
  topic?: TopicId;
};
/** A device of this person. */
export type OwnDevice = Omit<NativeOwnDevice, 'device'> & { device: Author };
/** What lies on the device. */
export type StorageUse = Omit<NativeStorageUse, 'topics'> & { topics: TopicUse[] };
/** What one conversation holds. */
export type TopicUse = Omit<NativeTopicUse, 'log' | 'topic'> & { log: LogId; topic?: TopicId };

/** Which messages to read. The page itself is always oldest first. */
export type Page = { kind: 'newest' } | { kind: 'before' | 'after'; position: Position };

/** Where a topic's connection stands. */
export type Connection = 'offline' | 'parked' | 'connecting' | 'replaying' | 'live';

/** Something that stands in the way, without being the fault of a call. */
export type Trouble = NativeTrouble;

/** How far this device's clock is from the server's: ahead, or with less than 0 behind. */
export type ClockSkew = NativeClockSkew;

/** Where one topic stands. */
export type TopicStatus = Omit<NativeTopicStatus, 'connection'> & { connection: Connection };
/** What a device holds. */
export type Statistics = NativeStatistics;
/** What a background run did. */
export type RunSummary = NativeRunSummary;
/** What a ticket says of itself. */
export type TicketFacts = Omit<NativeTicketFacts, 'topic' | 'log'> & { topic: TopicId; log: LogId };

/** Kinds of rows. */
export type ChangedKind =
  'message' | 'reaction' | 'profile' | 'space' | 'room' | 'member' | 'keyValue' | 'document' | 'directThread' | 'blob';
/** Rows of one kind that changed. */
export type Change = { log: LogId; kind: ChangedKind; ids: string[]; keys: { collection: string; key: string }[] };

/** News of a topic. What it names is already durable on this device. */
export type Event = { topic: TopicId } & (
  | { kind: 'changed'; changes: Change[] }
  | { kind: 'acknowledged'; operation: OperationId; seq: number }
  | { kind: 'connectionChanged'; connection: Connection }
  | { kind: 'reset' }
  | { kind: 'gap'; first: number; last: number }
  | { kind: 'serverFault'; reason: string }
  | { kind: 'serverEquivocates'; author: Author; operation: OperationId }
  | { kind: 'serverWithholds'; seq: number }
  | { kind: 'falseReset' }
  | { kind: 'topicClosed'; rotator: Author; successor: TopicId }
  | { kind: 'moved'; successor: TopicId }
  | { kind: 'awaitingKey'; successor: TopicId; reason: string }
  | { kind: 'rotationLost'; operation: OperationId }
  | { kind: 'forked'; author: Author; log: LogId }
  | { kind: 'signal'; author: Author; bytes: string }
  | { kind: 'signalSent'; taken: boolean }
  | { kind: 'readable'; trouble?: Trouble }
  | { kind: 'delivery'; trouble?: Trouble }
  | { kind: 'clockSkew'; skew?: ClockSkew }
  | { kind: 'storage'; trouble?: Trouble }
  | { kind: 'lagged'; dropped: number }
  | { kind: 'closed' }
);
