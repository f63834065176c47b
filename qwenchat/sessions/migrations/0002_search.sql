-- The search index over texts and titles. It holds no text: `index_text` (words.py) makes its words when a row comes,
-- and makes the same ones again to take them out.

CREATE VIRTUAL TABLE words USING fts5 (text, content = '', tokenize = "porter ascii tokenchars '+#$%&@<=>^~_|'");
CREATE VIRTUAL TABLE titles USING fts5 (title, content = '', tokenize = "porter ascii tokenchars '+#$%&@<=>^~_|'");

INSERT INTO words (rowid, text) SELECT n, index_text(text) FROM messages WHERE text <> '' ORDER BY n;
INSERT INTO titles (rowid, title) SELECT n, index_text(title) FROM sessions WHERE title <> '' ORDER BY n;

CREATE TRIGGER words_in AFTER INSERT ON messages WHEN new.text <> '' BEGIN
    INSERT INTO words (rowid, text) VALUES (new.n, index_text(new.text));
END;

CREATE TRIGGER words_out AFTER DELETE ON messages WHEN old.text <> '' BEGIN
    INSERT INTO words (words, rowid, text) VALUES ('delete', old.n, index_text(old.text));
END;

-- One trigger for out and in: SQLite promises no order among triggers.
CREATE TRIGGER words_changed AFTER UPDATE OF text ON messages WHEN old.text <> new.text BEGIN
    INSERT INTO words (words, rowid, text) SELECT 'delete', old.n, index_text(old.text) WHERE old.text <> '';
    INSERT INTO words (rowid, text) SELECT new.n, index_text(new.text) WHERE new.text <> '';
END;

CREATE TRIGGER titles_in AFTER INSERT ON sessions WHEN new.title <> '' BEGIN
    INSERT INTO titles (rowid, title) VALUES (new.n, index_text(new.title));
END;

CREATE TRIGGER titles_out AFTER DELETE ON sessions WHEN old.title <> '' BEGIN
    INSERT INTO titles (titles, rowid, title) VALUES ('delete', old.n, index_text(old.title));
END;

CREATE TRIGGER titles_changed AFTER UPDATE OF title ON sessions WHEN old.title <> new.title BEGIN
    INSERT INTO titles (titles, rowid, title) SELECT 'delete', old.n, index_text(old.title) WHERE old.title <> '';
    INSERT INTO titles (rowid, title) SELECT new.n, index_text(new.title) WHERE new.title <> '';
END;
