-- The device database, first version. See NOTES.md for how the tables hang together.
--
-- Conventions: ids and hashes are BLOBs; times are milliseconds since the Unix epoch in columns ending in _ms;
-- places and positions are 16 bytes, epoch u32 | resets u32 | seq u64, big-endian, so that bytes sort like numbers.

-- ---------------------------------------------------------------- topics and their cursors

CREATE TABLE topic (
    topic      BLOB NOT NULL PRIMARY KEY,
    log        BLOB NOT NULL,
    epoch      INTEGER NOT NULL,
    ticket     BLOB NOT NULL,              -- secret: whoever reads it can read the topic
    subscribed INTEGER NOT NULL,
    added_ms   INTEGER NOT NULL
) WITHOUT ROWID, STRICT;

CREATE UNIQUE INDEX topic_log ON topic (log, epoch, topic);

CREATE TABLE topic_seq (
    topic      BLOB NOT NULL PRIMARY KEY,
    generation BLOB NOT NULL,
    resets     INTEGER NOT NULL,           -- this device's resets of the topic
    seq        INTEGER NOT NULL,
    chain      BLOB NOT NULL,
    head_seq   INTEGER,                    -- the last head whose signature was checked
    head_chain BLOB,
    head_sig   BLOB
) WITHOUT ROWID, STRICT;

-- Evicted before this device could read it.
CREATE TABLE gap (
    topic    BLOB NOT NULL,
    resets   INTEGER NOT NULL,
    from_seq INTEGER NOT NULL,
    to_seq   INTEGER NOT NULL,
    PRIMARY KEY (topic, resets, from_seq)
) WITHOUT ROWID, STRICT;

-- Received, but there was no room to keep it waiting: to be read again from history.
CREATE TABLE refetch (
    topic      BLOB NOT NULL,
    resets     INTEGER NOT NULL,
    from_seq   INTEGER NOT NULL,
    to_seq     INTEGER NOT NULL,
    generation BLOB NOT NULL,
    PRIMARY KEY (topic, resets, from_seq)
) WITHOUT ROWID, STRICT;

CREATE TABLE dropped (
    topic  BLOB NOT NULL,
    reason TEXT NOT NULL,
    count  INTEGER NOT NULL,
    PRIMARY KEY (topic, reason)
) WITHOUT ROWID, STRICT;

-- ---------------------------------------------------------------- operations

CREATE TABLE operations (
    entry    INTEGER PRIMARY KEY,          -- this device's number for it: its message has the same
    author   BLOB NOT NULL,
    log      BLOB NOT NULL,
    seq_num  INTEGER NOT NULL,
    hash     BLOB NOT NULL,                -- the operation id: of a header that names author, log and seq_num
    backlink BLOB,
    first    BLOB,                         -- the earliest place it was ever seen at; NULL: not acknowledged
    place    BLOB,                         -- where it lives now (newest reset); NULL: not acknowledged
    pos      BLOB NOT NULL,                -- display position: never before its predecessor's
    received_ms INTEGER,                   -- by the server's clock, at its place
    header   BLOB NOT NULL,
    body     BLOB,                         -- NULL: erased
    erased   INTEGER NOT NULL DEFAULT 0,   -- what the erased body was: 1 a message, 2 an edit, 3 else
    UNIQUE (author, log, seq_num)
) STRICT;

-- Random keys: the whole index is written over and over, so its entries are short.
CREATE INDEX operations_hash ON operations (substr(hash, 1, 8));

CREATE TABLE heads (
    author  BLOB NOT NULL,
    log     BLOB NOT NULL,
    seq_num INTEGER NOT NULL,
    hash    BLOB NOT NULL,
    pos     BLOB NOT NULL,
    ended   INTEGER NOT NULL,              -- a fork ended the log: see fork_proof
    PRIMARY KEY (author, log)
) WITHOUT ROWID, STRICT;

CREATE INDEX heads_log ON heads (log, author);

CREATE TABLE placement (
    topic       BLOB NOT NULL,
    resets      INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    operation   BLOB NOT NULL,
    generation  BLOB NOT NULL,
    received_ms INTEGER NOT NULL,
    PRIMARY KEY (topic, resets, seq)
) WITHOUT ROWID, STRICT;

-- seq_nums below a stored operation that this device does not hold.
CREATE TABLE log_hole (
    author   BLOB NOT NULL,
    log      BLOB NOT NULL,
    from_seq INTEGER NOT NULL,
    to_seq   INTEGER NOT NULL,
    PRIMARY KEY (author, log, from_seq)
) WITHOUT ROWID, STRICT;

CREATE TABLE fork_proof (
    author        BLOB NOT NULL,
    log           BLOB NOT NULL,
    seq_num       INTEGER NOT NULL,        -- where the branches part
    ends          BLOB NOT NULL,           -- the place the second branch appears at
    first_hash    BLOB NOT NULL,
    first_header  BLOB NOT NULL,
    second_hash   BLOB NOT NULL,
    second_header BLOB NOT NULL,
    second_body   BLOB,
    PRIMARY KEY (author, log)
) WITHOUT ROWID, STRICT;

-- Operations that wait: for a key (envelope only) or for their predecessor (verified, opened).
CREATE TABLE pending (
    topic       BLOB NOT NULL,
    resets      INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    generation  BLOB NOT NULL,
    received_ms INTEGER NOT NULL,
    reason      INTEGER NOT NULL,          -- 1 key, 2 predecessor
    key_id      BLOB,
    author      BLOB,
    log         BLOB,
    seq_num     INTEGER,
    hash        BLOB,
    backlink    BLOB,
    place       BLOB,
    header      BLOB,
    bytes       BLOB NOT NULL,             -- the envelope, or the body
    PRIMARY KEY (topic, resets, seq)
) WITHOUT ROWID, STRICT;

CREATE INDEX pending_log ON pending (log, author, seq_num, place) WHERE author IS NOT NULL;
CREATE INDEX pending_key ON pending (topic, key_id) WHERE key_id IS NOT NULL;
CREATE INDEX pending_key_age ON pending (topic, resets, seq) WHERE key_id IS NOT NULL;

CREATE TABLE pending_size (
    topic     BLOB NOT NULL PRIMARY KEY,
    rows      INTEGER NOT NULL,
    bytes     INTEGER NOT NULL,
    key_bytes INTEGER NOT NULL             -- of the bytes, those that wait for a key
) WITHOUT ROWID, STRICT;

CREATE TRIGGER pending_added AFTER INSERT ON pending BEGIN
    INSERT INTO pending_size VALUES (new.topic, 1, length(new.bytes) + ifnull(length(new.header), 0),
        iif(new.key_id IS NULL, 0, length(new.bytes)))
    ON CONFLICT (topic) DO UPDATE SET rows = rows + 1, bytes = bytes + excluded.bytes,
        key_bytes = key_bytes + excluded.key_bytes;
END;

CREATE TRIGGER pending_removed AFTER DELETE ON pending BEGIN
    UPDATE pending_size SET rows = rows - 1, bytes = bytes - length(old.bytes) - ifnull(length(old.header), 0),
        key_bytes = key_bytes - iif(old.key_id IS NULL, 0, length(old.bytes))
    WHERE topic = old.topic;
END;

-- ---------------------------------------------------------------- outbox

CREATE TABLE outbox (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,   -- first in, first out; never used twice
    topic      BLOB NOT NULL,
    operation  BLOB NOT NULL,
    hash       BLOB NOT NULL,              -- of the envelope
    envelope   BLOB NOT NULL,
    origin     INTEGER NOT NULL,           -- 1 own, 2 redelivery
    state      INTEGER NOT NULL,           -- 0 queued, 1 sent, 2 parked
    tries      INTEGER NOT NULL DEFAULT 0,
    sent_ms    INTEGER,                    -- when it last left
    due_ms     INTEGER NOT NULL,           -- not to be sent (again) before
    reason     TEXT,                       -- why it is parked
    UNIQUE (topic, hash)
) STRICT;

-- One row of counts. Together, because a publish changes both: one page instead of two.
CREATE TABLE tally (
    one          INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    outbox_rows  INTEGER NOT NULL,
    outbox_bytes INTEGER NOT NULL,
    commits      INTEGER NOT NULL          -- durable transactions: compared with the lock file's count at open
) STRICT;

INSERT INTO tally VALUES (1, 0, 0, 0);

CREATE TRIGGER outbox_added AFTER INSERT ON outbox BEGIN
    UPDATE tally SET outbox_rows = outbox_rows + 1, outbox_bytes = outbox_bytes + length(new.envelope);
END;

CREATE TRIGGER outbox_removed AFTER DELETE ON outbox BEGIN
    UPDATE tally SET outbox_rows = outbox_rows - 1, outbox_bytes = outbox_bytes - length(old.envelope);
END;

-- A publish repeated with its key gives the operation of the first one, also after it was acknowledged.
CREATE TABLE idempotency (
    key       BLOB NOT NULL PRIMARY KEY,
    operation BLOB NOT NULL,
    added_ms  INTEGER NOT NULL
) WITHOUT ROWID, STRICT;

CREATE TABLE setting (
    name  TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID, STRICT;

-- ---------------------------------------------------------------- read model: can be dropped and rebuilt

CREATE TABLE message (
    entry       INTEGER PRIMARY KEY,       -- of its operation
    author      BLOB NOT NULL,
    log         BLOB NOT NULL,
    seq_num     INTEGER NOT NULL,
    id          BLOB NOT NULL,
    pos         BLOB NOT NULL,
    received_ms INTEGER,
    sent_ms     INTEGER,
    text        TEXT,                      -- as sent; NULL: deleted
    reply       BLOB,
    mentions    BLOB,                      -- author keys, 32 bytes each
    edit        BLOB,                      -- the edit that stands
    edited_text TEXT,
    edited_ms   INTEGER,
    deleted_by  BLOB                       -- the delete that made it a tombstone
) STRICT;

CREATE UNIQUE INDEX message_position ON message (log, pos, author, seq_num);

CREATE TRIGGER operation_removed AFTER DELETE ON operations BEGIN
    DELETE FROM message WHERE entry = old.entry;
END;

-- Every edit by the message's author, and edits that wait for their message.
CREATE TABLE message_edit (
    target  BLOB NOT NULL,
    author  BLOB NOT NULL,
    log     BLOB NOT NULL,
    seq_num INTEGER NOT NULL,
    id      BLOB NOT NULL,
    text    TEXT NOT NULL,
    sent_ms INTEGER,
    PRIMARY KEY (target, author, log, seq_num)
) WITHOUT ROWID, STRICT;

-- By author: when a fork ends a log, all that its author said in it is looked at again. So for the two below.
CREATE INDEX message_edit_author ON message_edit (author, log);

CREATE TABLE message_delete (
    target  BLOB NOT NULL,
    author  BLOB NOT NULL,
    log     BLOB NOT NULL,
    seq_num INTEGER NOT NULL,
    id      BLOB NOT NULL,
    PRIMARY KEY (target, author, log, seq_num)
) WITHOUT ROWID, STRICT;

CREATE INDEX message_delete_author ON message_delete (author, log);

CREATE TABLE reaction (
    target  BLOB NOT NULL,
    author  BLOB NOT NULL,
    log     BLOB NOT NULL,
    emoji   TEXT NOT NULL,
    seq_num INTEGER NOT NULL,
    id      BLOB NOT NULL,
    active  INTEGER NOT NULL,              -- 0: removed again
    PRIMARY KEY (target, author, log, emoji)
) WITHOUT ROWID, STRICT;

CREATE INDEX reaction_author ON reaction (author, log);

CREATE TABLE profile (
    author       BLOB NOT NULL,
    log          BLOB NOT NULL,
    seq_num      INTEGER NOT NULL,
    id           BLOB NOT NULL,
    name         TEXT NOT NULL,
    bio          TEXT,
    avatar       BLOB,
    availability TEXT,
    public       INTEGER,
    PRIMARY KEY (author, log)
) WITHOUT ROWID, STRICT;
