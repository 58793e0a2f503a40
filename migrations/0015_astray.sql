-- Topics that a conversation was thought to live in, and does not. See NOTES.md.

ALTER TABLE topic ADD COLUMN astray INTEGER NOT NULL DEFAULT 0;
