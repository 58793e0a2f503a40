-- What waits for others, and for messages. See NOTES.md.

-- Messages that another device of the person has read and that are not here yet: of each device its newest.

ALTER TABLE read_ahead RENAME TO read_ahead_before;

CREATE TABLE read_ahead (
    entry   INTEGER PRIMARY KEY,          -- the higher, the later it came
    log     BLOB NOT NULL,
    device  BLOB NOT NULL,                -- whose marker it is
    seq_num INTEGER NOT NULL,             -- in that device's log
    message BLOB NOT NULL,
    UNIQUE (log, device)
) STRICT;

-- Nobody knows whose these were.
INSERT INTO read_ahead (log, device, seq_num, message) SELECT log, message, 0, message FROM read_ahead_before;

DROP TABLE read_ahead_before;

-- What this device said by inbox to others, and these have not answered: it is said again, in rounds.
CREATE TABLE unanswered (
    id      BLOB NOT NULL PRIMARY KEY,    -- the operation
    device  BLOB NOT NULL,                -- to whom
    further INTEGER NOT NULL,             -- how often it was said again
    last_ms INTEGER NOT NULL              -- when last
) WITHOUT ROWID, STRICT;
