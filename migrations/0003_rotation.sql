-- Topics that close, and what opens the next ones. See NOTES.md.

-- Rotations that stand in a topic, in force or not, and this device's own that have no place yet.
CREATE TABLE rotation (
    operation  BLOB NOT NULL PRIMARY KEY,
    topic      BLOB NOT NULL,              -- in which it stands
    rotator    BLOB NOT NULL,
    generation BLOB,                       -- NULL, like the next two: not placed yet
    resets     INTEGER,
    seq        INTEGER,
    body       BLOB NOT NULL,
    ticket     BLOB                        -- secret: what it hands over, where this device drew it
) WITHOUT ROWID, STRICT;

CREATE INDEX rotation_place ON rotation (topic, resets, seq);

-- The rotation that closed a topic, and where its log goes on.
CREATE TABLE topic_close (
    topic      BLOB NOT NULL PRIMARY KEY,
    operation  BLOB NOT NULL,
    generation BLOB NOT NULL,
    resets     INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    successor  BLOB NOT NULL,
    epoch      INTEGER NOT NULL            -- the successor's
) WITHOUT ROWID, STRICT;

-- Devices that may close the topics of a log.
CREATE TABLE rotator (
    log    BLOB NOT NULL,
    device BLOB NOT NULL,
    PRIMARY KEY (log, device)
) WITHOUT ROWID, STRICT;

-- Two-party sessions. The state is secret.
CREATE TABLE two_party (
    session BLOB NOT NULL PRIMARY KEY,
    peer    BLOB NOT NULL,
    used_ms INTEGER NOT NULL,
    state   BLOB NOT NULL
) WITHOUT ROWID, STRICT;

CREATE INDEX two_party_peer ON two_party (peer, used_ms);

-- The key bundle of a device that is good for longest.
CREATE TABLE device_bundle (
    device     BLOB NOT NULL PRIMARY KEY,
    expires_ms INTEGER NOT NULL,
    header     BLOB NOT NULL,
    body       BLOB NOT NULL
) WITHOUT ROWID, STRICT;

-- Whose devices there are, by their certificates.
CREATE TABLE device_identity (
    device      BLOB NOT NULL PRIMARY KEY,
    identity    BLOB NOT NULL,
    certificate BLOB NOT NULL
) WITHOUT ROWID, STRICT;

CREATE INDEX device_identity_identity ON device_identity (identity, device);
