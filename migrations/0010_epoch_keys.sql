-- Keys of a space's epochs: who was handed which, who asks again, what reads the epoch before. See NOTES.md.

-- A device to which an operation handed the key of an epoch: a part of the rotation that began it, or a key.hand.
CREATE TABLE handed (
    log       BLOB NOT NULL,
    epoch     INTEGER NOT NULL,
    device    BLOB NOT NULL,
    operation BLOB NOT NULL,
    topic     BLOB NOT NULL,
    write     INTEGER NOT NULL,            -- whether the right to write is in it
    PRIMARY KEY (log, epoch, device, operation)
) WITHOUT ROWID, STRICT;

-- A device that lacks a key.
CREATE TABLE key_ask (
    log    BLOB NOT NULL,
    epoch  INTEGER NOT NULL,
    device BLOB NOT NULL,
    failed BLOB NOT NULL,                  -- what handed it a key that did not open; empty: nothing did
    PRIMARY KEY (log, epoch, device, failed)
) WITHOUT ROWID, STRICT;

-- What reads an epoch that is over, as a manager left it in the next. Secret.
CREATE TABLE key_past (
    log       BLOB NOT NULL,
    epoch     INTEGER NOT NULL,
    operation BLOB NOT NULL,
    write_vk  BLOB NOT NULL,
    secret    BLOB NOT NULL,
    PRIMARY KEY (log, epoch, operation)
) WITHOUT ROWID, STRICT;
