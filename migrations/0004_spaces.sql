-- Spaces. All of it but the read markers is read model: made from the operations of spaces' logs, and made again by
-- a rebuild.

-- Which logs are judged by which space.
CREATE TABLE space_log (
    log   BLOB NOT NULL PRIMARY KEY,
    space BLOB NOT NULL,
    room  INTEGER NOT NULL                 -- 0: the space's own log
) WITHOUT ROWID, STRICT;

CREATE INDEX space_log_space ON space_log (space, log);

CREATE TABLE space (
    space           BLOB NOT NULL PRIMARY KEY,
    about           BLOB NOT NULL,         -- the operation the texts are from
    name            TEXT NOT NULL,
    label           TEXT,
    description     TEXT,
    avatar          BLOB,
    cover           BLOB,
    welcome         TEXT,
    public          INTEGER NOT NULL,
    history         INTEGER NOT NULL,
    deleted         INTEGER NOT NULL,
    update_required INTEGER NOT NULL
) WITHOUT ROWID, STRICT;

-- Members, and who is banned.
CREATE TABLE member (
    space  BLOB NOT NULL,
    author BLOB NOT NULL,
    level  INTEGER,                        -- NULL: no member
    muted  INTEGER NOT NULL,
    banned INTEGER NOT NULL,
    PRIMARY KEY (space, author)
) WITHOUT ROWID, STRICT;

CREATE TABLE room (
    room        BLOB NOT NULL PRIMARY KEY,
    space       BLOB NOT NULL,
    about       BLOB NOT NULL,
    name        TEXT NOT NULL,
    description TEXT,
    cooldown_s  INTEGER,
    state       INTEGER NOT NULL           -- 0 open, 1 archived, 2 deleted
) WITHOUT ROWID, STRICT;

CREATE INDEX room_space ON room (space, room);

CREATE TABLE invite (
    space      BLOB NOT NULL,
    id         BLOB NOT NULL,
    level      INTEGER NOT NULL,
    expires_ms INTEGER,
    once       INTEGER NOT NULL,
    used       INTEGER NOT NULL,           -- a one-time one that admitted somebody
    PRIMARY KEY (space, id)
) WITHOUT ROWID, STRICT;

-- Every membership operation that was accepted, in an order all devices agree on.
CREATE TABLE audit (
    space   BLOB NOT NULL,
    rank    INTEGER NOT NULL,
    id      BLOB NOT NULL,
    author  BLOB NOT NULL,
    kind    TEXT NOT NULL,
    subject BLOB,
    PRIMARY KEY (space, rank, id)
) WITHOUT ROWID, STRICT;

-- Claims of invitations, and requests to join.
CREATE TABLE request (
    space  BLOB NOT NULL,
    id     BLOB NOT NULL,
    author BLOB NOT NULL,
    invite BLOB,                           -- NULL: a request
    mac    BLOB,
    text   TEXT,
    PRIMARY KEY (space, id)
) WITHOUT ROWID, STRICT;

-- Stored operations that cite a membership operation this device does not have, or does not understand.
CREATE TABLE unjudged (
    space BLOB NOT NULL,
    head  BLOB NOT NULL,
    entry INTEGER NOT NULL,
    log   BLOB NOT NULL,
    PRIMARY KEY (space, head, entry)
) WITHOUT ROWID, STRICT;

CREATE INDEX unjudged_entry ON unjudged (entry);
CREATE INDEX unjudged_log ON unjudged (log);

CREATE TRIGGER unjudged_removed AFTER DELETE ON operations BEGIN
    DELETE FROM unjudged WHERE entry = old.entry;
END;

-- By who was a manager at the operations it cites: deletes others' messages, too.
ALTER TABLE message_delete ADD COLUMN manager INTEGER NOT NULL DEFAULT 0;

-- How far this device's person has read. No read model: it is nobody else's business.
CREATE TABLE read_marker (
    log     BLOB NOT NULL PRIMARY KEY,
    pos     BLOB NOT NULL,
    author  BLOB NOT NULL,
    seq_num INTEGER NOT NULL
) WITHOUT ROWID, STRICT;
