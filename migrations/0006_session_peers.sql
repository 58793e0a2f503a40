-- Two-party sessions are known by peer and id. Those that stand go: what was sealed in them has another form now.

DROP TABLE two_party;

CREATE TABLE two_party (
    peer    BLOB NOT NULL,
    session BLOB NOT NULL,
    used_ms INTEGER NOT NULL,
    state   BLOB NOT NULL,                 -- secret
    PRIMARY KEY (peer, session)
) WITHOUT ROWID, STRICT;
