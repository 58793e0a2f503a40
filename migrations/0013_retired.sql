-- Topics that ended long ago: nothing more is read of them, and they do not count among those that are open.

ALTER TABLE topic ADD COLUMN retired_ms INTEGER;   -- since when; NULL: it is open

CREATE INDEX topic_open ON topic (topic) WHERE retired_ms IS NULL;
CREATE INDEX topic_retired ON topic (log, epoch) WHERE retired_ms IS NOT NULL;
