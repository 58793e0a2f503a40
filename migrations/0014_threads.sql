-- Direct threads on all devices of a person. See NOTES.md.

-- Where the thread's state was said last among the person's devices, and which: topic | state. NULL: nothing was; empty:
-- it is to be said.
ALTER TABLE direct_thread ADD COLUMN said BLOB;

-- Devices of others that their identity has revoked, as they say by inbox.
CREATE TABLE revoked_peer (
    device   BLOB NOT NULL,
    identity BLOB NOT NULL,
    PRIMARY KEY (device, identity)
) WITHOUT ROWID, STRICT;

-- Which other device was told of the revocation of one of the person's.
CREATE TABLE revocation_told (
    peer   BLOB NOT NULL,
    device BLOB NOT NULL,
    PRIMARY KEY (peer, device)
) WITHOUT ROWID, STRICT;

-- Sessions of direct threads that are other devices'.
CREATE TABLE foreign_session (
    session BLOB NOT NULL PRIMARY KEY,
    seen_ms INTEGER NOT NULL
) WITHOUT ROWID, STRICT;
