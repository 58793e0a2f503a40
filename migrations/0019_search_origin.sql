-- Search is by conversation and author, too: both are terms of the index, so that it reads what matches and no more.

DROP TABLE text_index;

CREATE VIRTUAL TABLE text_index USING fts5 (
    text, origin, content = '', contentless_delete = 1, tokenize = 'unicode61 remove_diacritics 0'
);

-- It is made anew.
UPDATE text_upto SET entry = 0;
DELETE FROM text_due;
