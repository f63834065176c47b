-- Documents: attachments that are read in parts, the collections and the level of a session, the passages that an
-- answer was made of (a kind of part, so that the table of parts is made anew).

ALTER TABLE attachments ADD COLUMN in_parts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE outbox_files ADD COLUMN in_parts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN collections TEXT NOT NULL DEFAULT '[]';
ALTER TABLE sessions ADD COLUMN level INTEGER;

CREATE TABLE new_parts (
    n INTEGER PRIMARY KEY,
    message INTEGER NOT NULL REFERENCES messages (n) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('text', 'reasoning', 'tool_call', 'tool_result', 'citation')),
    details TEXT NOT NULL, -- a JSON object: what the kind has beside its text and tokens
    token_ids BLOB NOT NULL, -- little-endian uint32
    text TEXT NOT NULL, -- of a call its arguments
    UNIQUE (message, position)
) STRICT;

INSERT INTO new_parts SELECT n, message, position, kind, details, token_ids, text FROM parts;
DROP TRIGGER reasoning_in;
DROP TRIGGER reasoning_out;
DROP TABLE parts;
ALTER TABLE new_parts RENAME TO parts;

CREATE TRIGGER reasoning_in AFTER INSERT ON parts WHEN new.kind = 'reasoning' BEGIN
    INSERT INTO reasoning (rowid, text) VALUES (new.n, index_text(new.text));
END;

CREATE TRIGGER reasoning_out AFTER DELETE ON parts WHEN old.kind = 'reasoning' BEGIN
    INSERT INTO reasoning (reasoning, rowid, text) VALUES ('delete', old.n, index_text(old.text));
END;
