-- Documents. Read model.

CREATE TABLE document (
    log    BLOB NOT NULL,
    id     BLOB NOT NULL,                 -- of the operation that made it
    path   TEXT NOT NULL,
    author BLOB NOT NULL,
    PRIMARY KEY (log, id)
) WITHOUT ROWID, STRICT;

CREATE INDEX document_path ON document (log, path, id);
CREATE INDEX document_author ON document (author, log);

-- What was written to documents, whether these are here yet or not.
CREATE TABLE document_part (
    number   INTEGER PRIMARY KEY AUTOINCREMENT, -- never used again: apps go on reading after one
    log      BLOB NOT NULL,
    document BLOB NOT NULL,
    entry    INTEGER NOT NULL UNIQUE,           -- of its operation, which has the bytes
    author   BLOB NOT NULL
) STRICT;

CREATE INDEX document_part_document ON document_part (log, document, number);
CREATE INDEX document_part_author ON document_part (author, log);
