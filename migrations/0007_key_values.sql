-- Values of keys. Read model.

-- Everything that was written to a key: what stands may be replaced by name later, and then the next one counts.
CREATE TABLE kv_version (
    log        BLOB NOT NULL,
    collection TEXT NOT NULL,
    key        TEXT NOT NULL,
    time       INTEGER NOT NULL,           -- hybrid logical
    id         BLOB NOT NULL,
    entry      INTEGER NOT NULL,           -- of its operation, which has the value
    author     BLOB NOT NULL,
    deleted    INTEGER NOT NULL,
    PRIMARY KEY (log, collection, key, time, id)
) WITHOUT ROWID, STRICT;

CREATE INDEX kv_version_author ON kv_version (author, log, collection, key);

-- What counts no longer, whether it has come yet or not.
CREATE TABLE kv_replaced (
    log         BLOB NOT NULL,
    collection  TEXT NOT NULL,
    key         TEXT NOT NULL,
    id          BLOB NOT NULL,
    replaced_by BLOB NOT NULL,
    author      BLOB NOT NULL,             -- of replaced_by
    PRIMARY KEY (log, collection, key, id, replaced_by)
) WITHOUT ROWID, STRICT;

CREATE INDEX kv_replaced_author ON kv_replaced (author, log);

-- What stands now. A deleted key has no row.
CREATE TABLE kv (
    log        BLOB NOT NULL,
    collection TEXT NOT NULL,
    key        TEXT NOT NULL,
    time       INTEGER NOT NULL,
    id         BLOB NOT NULL,
    author     BLOB NOT NULL,
    value      BLOB NOT NULL,
    PRIMARY KEY (log, collection, key)
) WITHOUT ROWID, STRICT;
