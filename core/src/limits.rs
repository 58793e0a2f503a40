//! Every limit of the protocol and of a device, in one place. Each has a test at it and one past it.

/// Largest envelope (an `op` on the wire), bytes.
pub const MAX_ENVELOPE: usize = 1024 * 1024;
/// Largest header and body of one operation together, bytes.
pub const MAX_OPERATION: usize = 1_000_000;
/// Largest header of one operation, bytes: its length travels as two bytes.
pub const MAX_HEADER: usize = u16::MAX as usize;
/// Largest byte string, text, array or map in an operation header: above it p2panda cannot decode the header.
pub const MAX_HEADER_FIELD: usize = 512;
/// Most data items (over all levels) in the CBOR of one body: what bounds the memory of decoding it.
pub const MAX_BODY_ITEMS: usize = 32_768;
/// Deepest nesting of arrays, maps and tags in a body.
pub const MAX_BODY_NESTING: u16 = 32;
/// Largest text of a message, bytes of UTF-8.
pub const MAX_TEXT: usize = 64 * 1024;
/// Most authors one message mentions.
pub const MAX_MENTIONS: usize = 64;
/// Bytes of a blob in one chunk: with its tag, header and envelope it fills a packet of class 3 as far as PADMÉ lets it.
pub const BLOB_CHUNK: usize = 256_000;
/// Largest blob, bytes.
pub const MAX_BLOB: u64 = 64 * 1024 * 1024;
/// Most chunks of a blob.
pub const MAX_BLOB_CHUNKS: usize = (MAX_BLOB as usize).div_ceil(BLOB_CHUNK);
/// Most attachments of one message.
pub const MAX_ATTACHMENTS: usize = 16;
/// Longest MIME type of a blob, bytes.
pub const MAX_MIME: usize = 127;
/// Longest file name of a blob, bytes of UTF-8.
pub const MAX_FILE_NAME: usize = 255;
/// Chunks of a blob that are on their way at once.
pub const BLOB_WINDOW: usize = OUTBOX_WINDOW;
/// Blobs of a device that are sent at once, and as many that are fetched; others wait for their turn.
pub const MAX_BLOB_TRANSFERS: usize = 8;
/// Bytes of blobs that a device keeps without needing them for sending; the least recently used give way.
pub const MAX_BLOB_CACHE: u64 = 256 * 1024 * 1024;
/// Longest display name, Unicode scalar values.
pub const MAX_DISPLAY_NAME: usize = 64;
/// Longest emoji of a reaction, bytes of UTF-8.
pub const MAX_EMOJI: usize = 64;
/// Most devices a rotation hands the next epoch to: as many parts as fit an operation.
pub const MAX_ROTATION_PARTS: usize = 2_000;
/// Most logs whose ends a rotation names.
pub const MAX_ROTATION_ENDS: usize = 4_000;
/// Most rotations of one author that are judged in a topic, those that stand there first: an honest device says one, and
/// a few more where others moved the topic at the same time.
pub const MAX_ROTATIONS_OF_AUTHOR: usize = 32;
/// Most keys that one operation hands to devices.
pub const MAX_HANDED_KEYS: usize = 1_000;
/// Most times that a device is handed the key of one epoch, because it asks again.
pub const MAX_HANDED_AGAIN: usize = 4;
/// Most operations that a device tells a manager's device of, for a log that it cannot write in, at once.
pub const MAX_TOLD: usize = 16;
/// Largest header and body of one of these together, bytes: a certificate or revocation and what it cites are smaller.
pub const MAX_TOLD_LEN: usize = 4096;
/// Largest signal (presence, typing), bytes.
pub const MAX_SIGNAL: usize = 4096;
/// Largest signal before it is signed and sealed, bytes: what an app can say.
pub const MAX_SIGNAL_BODY: usize = 3840;
/// Senders of signals in a topic whose last one is remembered; who was heard the longest ago gives way.
pub const MAX_HEARD: usize = 1024;
/// Invalid envelopes on one connection after which it is given up: a server or member that floods costs no more.
pub const MAX_REJECTED: u32 = 1_000;
/// Most entries of a log that one call of p2panda's log traits gives.
pub const MAX_LOG_ENTRIES: usize = 100_000;
/// Largest control message of a public topic, bytes.
pub const MAX_CONTROL: usize = 4096;
/// Longest description of a public topic, a space or a room, welcome text or reason, bytes of UTF-8.
pub const MAX_DESCRIPTION: usize = 2048;
/// Longest name of a collection of key-values, bytes of UTF-8.
pub const MAX_COLLECTION: usize = 64;
/// Longest key of a key-value, bytes of UTF-8.
pub const MAX_KEY: usize = 256;
/// Largest value of a key-value, bytes.
pub const MAX_VALUE: usize = 64 * 1024;
/// Most operations that a key-value replaces by name.
pub const MAX_REPLACED: usize = 64;
/// Longest path of a document, bytes.
pub const MAX_PATH: usize = 512;
/// Most bytes of one change or snapshot of a document.
pub const MAX_DOCUMENT_PART: usize = 768 * 1024;
/// A page of a document's parts ends with the one that brings it to so many bytes.
pub const MAX_PARTS_BYTES: usize = 4 * 1024 * 1024;
/// How far ahead of a device's clock the time of a key-value may be for the device to follow it, milliseconds.
pub const MAX_AHEAD_MS: u64 = 60 * 60 * 1000;
/// Most unread messages, and mentions, of a conversation that are counted: an app shows "999+".
pub const MAX_UNREAD: u32 = 1000;
/// Most words a search looks for.
pub const MAX_SEARCH_WORDS: usize = 16;
/// Most members of a space.
pub const MAX_MEMBERS: usize = 1000;
/// Most rooms of a space that are not deleted.
pub const MAX_ROOMS: usize = 1000;
/// Epochs of a room between two renewals: rotations lead to all but the multiples of it, which `room.renew` begins.
pub const RENEWAL_EPOCHS: u32 = 1 << 16;
/// Most devices of a member that a space knows and that are not revoked.
pub const MAX_DEVICES: usize = 16;
/// Most devices that a member revokes in a space.
pub const MAX_REVOKED: usize = 256;
/// Most membership operations of a space that count for what is current although some of them were made without knowing of
/// the others.
pub const MAX_CONCURRENT: usize = 512;
/// Most that one operation joins by what it cites: what bounds the work for one. Twice as many, so that what has reached
/// that limit can be joined, a few ends at a time.
pub const MAX_SETTLED: usize = 2 * MAX_CONCURRENT;
/// Most membership operations of one member that nobody has built on yet and that count all the same.
pub const MAX_LOOSE_ENDS: usize = 8;
/// Most operations in one binary `ops` frame or one shared packet.
pub const MAX_BATCH: usize = 256;
/// Most operation bytes in one binary `ops` frame, unless a single operation is larger.
pub const MAX_FRAME_OPS_BYTES: usize = 256 * 1024;
/// Most devices whose operations in this device's inboxes are kept.
pub const MAX_INBOX_SENDERS: u64 = 4096;
/// Most operations of one device in this device's inboxes that are kept.
pub const MAX_INBOX_PER_SENDER: u64 = 256;
/// Most inboxes of a device that are read at once: the newest, and older ones that others still write to.
pub const MAX_INBOXES: usize = 4;
/// Most requests for direct threads that wait for an answer of this device's person: of one device, and of all.
pub const MAX_DIRECT_REQUESTS: (u64, u64) = (4, 256);
/// Most operations of a direct thread that one operation hands to a new device of the person.
pub const MAX_HANDED_PAST: usize = 256;
/// Most operations of one direct thread that are handed to a new device of the person: the newest.
pub const MAX_PAST: usize = 4096;
/// Most bytes of operations of direct threads that are handed to a new device of the person.
pub const MAX_PAST_BYTES: usize = 16 * 1024 * 1024;
/// Most revocations of a person's devices of which a device of another person is told by inbox: the newest.
pub const MAX_TOLD_REVOCATIONS: usize = 64;
/// Most sessions of other devices in direct threads of which a device remembers that they are not its own.
pub const MAX_FOREIGN_SESSIONS: u64 = 4096;
/// Most two-party sessions kept with one device.
pub const MAX_SESSIONS: usize = 4;
/// Most managers' devices that are asked for something by inbox at once.
pub const MAX_CLAIM_RECIPIENTS: usize = 8;
/// Most rounds in which managers' devices are asked for something by inbox that nobody answers.
pub const MAX_ASK_ROUNDS: u32 = 12;
/// Most topics of a device.
pub const MAX_TOPICS: usize = 4096;
/// Epochs of a conversation that are shared at once with a device of the person that a space has not heard of: the newest.
pub const SHARED_EPOCHS: usize = 16;
/// Epochs of a space's own log in which it is looked for devices that did not read where a rotation named them: the newest.
/// Who was left out before that asks.
pub const SHUT_OUT_EPOCHS: u32 = 4;
/// Most messages that a person's other devices have read and that are not here yet: of each device the newest in each
/// conversation; the oldest give way.
pub const MAX_READ_AHEAD: usize = 4096;
/// Most operations that wait until there is room for the topic that they open, and as many that wait until it is known
/// whose device said them; the oldest give way.
pub const MAX_HELD: usize = 256;
/// Most sessions of a direct thread whose waiting envelopes are looked at again when a device was introduced. What else
/// waits ends as what never becomes readable does.
pub const MAX_RETRIED_SESSIONS: usize = 1024;
/// Of a conversation's retired epochs, those whose keys a device keeps: the newest.
pub const MAX_RETIRED_KEYS: u32 = 64;
/// Most topics of a device that keep a socket open; the least recently used beyond are parked and polled.
pub const MAX_LIVE_SOCKETS: usize = 64;
/// Most outbox rows of a device.
pub const MAX_OUTBOX_ROWS: usize = 100_000;
/// Most envelope bytes in a device's outbox.
pub const MAX_OUTBOX_BYTES: u64 = 256 * 1024 * 1024;
/// Most bytes of envelopes of one topic that wait for a key: unverified, so much less than
/// [`MAX_PENDING_BYTES`]; the oldest give way.
pub const MAX_PENDING_KEY_BYTES: u64 = 4 * 1024 * 1024;
/// Most bytes of operations of one topic that wait for a predecessor.
pub const MAX_PENDING_BYTES: u64 = 64 * 1024 * 1024;
/// Most operations of one author and log that wait for a predecessor.
pub const MAX_PENDING_PER_AUTHOR: usize = 4096;
/// Most relays in a directory.
pub const MAX_DIRECTORY_NODES: usize = 1000;
/// Longest URL of a node, bytes.
pub const MAX_URL: usize = 255;
/// Longest forward URL in a v2 packet, bytes.
pub const MAX_URL_V2: usize = 512;
/// Longest key that makes a publish happen once, bytes.
pub const MAX_IDEMPOTENCY_KEY: usize = 64;
/// Packets of one topic in flight at once.
pub const OUTBOX_WINDOW: usize = 8;
/// Most outbox rows a fresh operation runs ahead of the oldest unacknowledged one: fewer than receivers keep waiting
/// for a predecessor ([`MAX_PENDING_PER_AUTHOR`]), more than a window of full packets holds.
pub const OUTBOX_RUN_AHEAD: i64 = 3072;

const _: () = assert!(MAX_PENDING_KEY_BYTES >= MAX_ENVELOPE as u64, "one envelope fits");
const _: () =
    assert!((OUTBOX_RUN_AHEAD as usize) < MAX_PENDING_PER_AUTHOR, "receivers keep what may run ahead");
const _: () =
    assert!((OUTBOX_RUN_AHEAD as usize) > OUTBOX_WINDOW * MAX_BATCH, "a window of full packets fits");
