-- Messages by the time of their receipt, and by whom they mention. Read model.

-- Equal times go by entry, in which every index ends.
CREATE INDEX message_received ON message (log, received_ms);

CREATE TABLE mention (
    entry INTEGER NOT NULL,                -- of the message
    who   BLOB NOT NULL,
    log   BLOB NOT NULL,
    PRIMARY KEY (entry, who)
) WITHOUT ROWID, STRICT;

CREATE INDEX mention_who ON mention (who, entry);
CREATE INDEX mention_log ON mention (who, log, entry);

INSERT INTO mention (entry, who, log)
    WITH RECURSIVE number (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n < 63)
    SELECT entry, substr(mentions, 32 * n + 1, 32), log FROM message JOIN number ON 32 * n < length(mentions) WHERE true
    ON CONFLICT DO NOTHING;

CREATE TRIGGER mention_removed AFTER DELETE ON message BEGIN
    DELETE FROM mention WHERE entry = old.entry;
END;

CREATE TRIGGER mention_buried AFTER UPDATE OF mentions ON message WHEN new.mentions IS NULL BEGIN
    DELETE FROM mention WHERE entry = new.entry;
END;
