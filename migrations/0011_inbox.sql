-- Inboxes and direct threads. See NOTES.md.

-- Inboxes of this device, the newest and those that others may still write to.
CREATE TABLE inbox (
    topic    BLOB NOT NULL PRIMARY KEY,
    made_ms  INTEGER NOT NULL,
    until_ms INTEGER NOT NULL              -- read until then
) WITHOUT ROWID, STRICT;

-- Who wrote there, and how many operations of each were kept.
CREATE TABLE inbox_sender (
    author     BLOB NOT NULL PRIMARY KEY,
    operations INTEGER NOT NULL
) WITHOUT ROWID, STRICT;

-- Where other devices are written to.
CREATE TABLE peer_inbox (
    device     BLOB NOT NULL PRIMARY KEY,
    seed       BLOB NOT NULL,              -- of the write key
    expires_ms INTEGER NOT NULL            -- of the bundle it came with; 0: a contact's text
) WITHOUT ROWID, STRICT;

-- Logs in which this device says with which keys and where it is written to, and until when what it said last is good.
CREATE TABLE bundle_log (
    log        BLOB NOT NULL PRIMARY KEY,
    expires_ms INTEGER NOT NULL
) WITHOUT ROWID, STRICT;

-- Invitations this device claims.
CREATE TABLE claim (
    space   BLOB NOT NULL,
    invite  BLOB NOT NULL,
    token   BLOB NOT NULL,                 -- secret
    made_ms INTEGER NOT NULL,
    sent    INTEGER NOT NULL,              -- to so many managers' devices
    PRIMARY KEY (space, invite)
) WITHOUT ROWID, STRICT;

CREATE TABLE direct_thread (
    thread  BLOB NOT NULL PRIMARY KEY,
    peer    BLOB NOT NULL,                 -- the other device
    state   INTEGER NOT NULL,              -- 0 asked by this device, 1 asked by the other, 2 open, 3 closed
    share   BLOB,                          -- secret: of whoever asked, until it is open
    text    TEXT,
    log     BLOB,                          -- once it is open, like the next
    topic   BLOB,
    made_ms INTEGER NOT NULL
) WITHOUT ROWID, STRICT;

CREATE INDEX direct_thread_topic ON direct_thread (topic);
CREATE INDEX direct_thread_peer ON direct_thread (peer, state);

-- Envelopes of direct threads that were sealed or opened here: a block opens once, an envelope is made once.
CREATE TABLE direct_envelope (
    topic     BLOB NOT NULL,
    hash      BLOB NOT NULL,
    operation BLOB NOT NULL,
    envelope  BLOB,                        -- of this device's own: to be delivered again should a server lose it
    PRIMARY KEY (topic, hash)
) WITHOUT ROWID, STRICT;

CREATE INDEX direct_envelope_operation ON direct_envelope (operation);

-- Sessions that ended: their first block, which needs nothing but the prekey, opens none again.
CREATE TABLE ended_session (
    peer     BLOB NOT NULL,
    session  BLOB NOT NULL,
    ended_ms INTEGER NOT NULL,
    PRIMARY KEY (peer, session)
) WITHOUT ROWID, STRICT;

-- What is kept of a session is more now; no version that made any was released.
DELETE FROM two_party;

-- Claims and requests come by inboxes. Those that stood in spaces' logs count no more.
DELETE FROM request;
ALTER TABLE request ADD COLUMN leaves INTEGER NOT NULL DEFAULT 0;  -- 1: a member wants to be one no more
