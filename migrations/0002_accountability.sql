-- What a server is held to: the chain values of its logs as they were received, and heads of others that contradict
-- them. And what this device knows of a topic's control: the key readers must prove, and its last control message.

CREATE TABLE chain (
    topic      BLOB NOT NULL,
    resets     INTEGER NOT NULL,
    from_seq   INTEGER NOT NULL,
    generation BLOB NOT NULL,
    chains     BLOB NOT NULL,              -- 32 bytes for each seq from from_seq on
    PRIMARY KEY (topic, resets, from_seq)
) WITHOUT ROWID, STRICT;

CREATE TABLE equivocation (
    topic       BLOB NOT NULL,
    generation  BLOB NOT NULL,
    seq         INTEGER NOT NULL,
    other_chain BLOB NOT NULL,
    own_seq     INTEGER NOT NULL,          -- the last seq at or below `seq` that this device knows
    own_chain   BLOB NOT NULL,
    author      BLOB NOT NULL,             -- who says that the server showed them other_chain
    operation   BLOB NOT NULL,             -- where they say it
    seen_ms     INTEGER NOT NULL,
    PRIMARY KEY (topic, generation, seq, other_chain)
) WITHOUT ROWID, STRICT;

ALTER TABLE topic ADD COLUMN read_key BLOB;                       -- secret: an Ed25519 seed
ALTER TABLE topic ADD COLUMN control INTEGER NOT NULL DEFAULT 0;  -- counter of the last control message made here
