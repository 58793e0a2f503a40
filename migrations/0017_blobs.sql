-- Attachments: what messages say of them, and the chunks that are here. See NOTES.md.

-- Of a message's attachments what an app shows: CBOR [[id, size, mime, name?], …]; NULL: none.
ALTER TABLE message ADD COLUMN attachments BLOB;

-- Which operations say where a blob is to be had. Read model.
CREATE TABLE attachment (
    blob  BLOB NOT NULL,
    entry INTEGER NOT NULL,               -- the operation
    log   BLOB NOT NULL,
    PRIMARY KEY (blob, entry)
) WITHOUT ROWID, STRICT;

CREATE INDEX attachment_entry ON attachment (entry);

CREATE TRIGGER attachment_operation_removed AFTER DELETE ON operations BEGIN
    DELETE FROM attachment WHERE entry = old.entry;
END;

-- A blob that is made, sent, fetched or kept.
CREATE TABLE blob (
    entry    INTEGER PRIMARY KEY,
    id       BLOB NOT NULL UNIQUE,        -- random while it is made
    manifest BLOB NOT NULL,               -- secret; of an own one with the right to write
    state    INTEGER NOT NULL,            -- 0 made, 1 sent, 2 fetched, 3 here, 4 not to be had, 5 not what it says
    chunks   INTEGER NOT NULL,            -- how many it has
    next     INTEGER NOT NULL DEFAULT 0,  -- the next one to be sent
    bytes    INTEGER NOT NULL,            -- of its chunks
    carrier  BLOB,                        -- the topic it is sent or fetched in, as long as that is open
    used_ms  INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX blob_carrier ON blob (carrier) WHERE carrier IS NOT NULL;

CREATE TABLE blob_chunk (
    blob   INTEGER NOT NULL,
    number INTEGER NOT NULL,
    bytes  BLOB NOT NULL,
    UNIQUE (blob, number)
) STRICT;

CREATE TRIGGER blob_removed AFTER DELETE ON blob BEGIN
    DELETE FROM blob_chunk WHERE blob = old.entry;
END;
