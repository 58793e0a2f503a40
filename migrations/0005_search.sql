-- The words of messages, for search. Derived: it follows the messages when the writer is idle, and can be made anew.

CREATE VIRTUAL TABLE text_index USING fts5 (
    text, content = '', contentless_delete = 1, tokenize = 'unicode61 remove_diacritics 0'
);

-- One row: messages up to this entry are in the index, but for those below.
CREATE TABLE text_upto (
    one   INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    entry INTEGER NOT NULL
) STRICT;

INSERT INTO text_upto VALUES (1, 0);

-- Messages that changed since they were put into the index.
CREATE TABLE text_due (
    entry INTEGER PRIMARY KEY
) STRICT;

CREATE TRIGGER message_text_added AFTER INSERT ON message
    WHEN new.entry <= (SELECT entry FROM text_upto) BEGIN
    INSERT INTO text_due VALUES (new.entry) ON CONFLICT DO NOTHING;
END;

CREATE TRIGGER message_text_changed AFTER UPDATE OF text, edited_text ON message BEGIN
    INSERT INTO text_due VALUES (new.entry) ON CONFLICT DO NOTHING;
END;

CREATE TRIGGER message_text_removed AFTER DELETE ON message BEGIN
    INSERT INTO text_due VALUES (old.entry) ON CONFLICT DO NOTHING;
END;
