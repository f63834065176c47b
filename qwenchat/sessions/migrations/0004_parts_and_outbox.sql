-- The parts of answers that are more than one text. An answer with rows here consists of them, in the order of
-- `position`, and `messages.text` has its texts joined, for search and titles; any other message is the one text that
-- stands in `messages`. What a streaming answer has got since (`pieces`) comes after either and has a kind, too.

ALTER TABLE pieces ADD COLUMN kind TEXT NOT NULL DEFAULT 'text';
ALTER TABLE pieces ADD COLUMN details TEXT NOT NULL DEFAULT '{}';

CREATE TABLE parts (
    n INTEGER PRIMARY KEY,
    message INTEGER NOT NULL REFERENCES messages (n) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('text', 'reasoning', 'tool_call', 'tool_result')),
    details TEXT NOT NULL, -- a JSON object: id and name of the call, is_error and took_ms of its result
    token_ids BLOB NOT NULL, -- little-endian uint32
    text TEXT NOT NULL, -- of a call its arguments
    UNIQUE (message, position)
) STRICT;

-- Reasoning has an index of its own: it is found on request alone.
CREATE VIRTUAL TABLE reasoning USING fts5 (text, content = '', tokenize = "porter ascii tokenchars '+#$%&@<=>^~_|'");

CREATE TRIGGER reasoning_in AFTER INSERT ON parts WHEN new.kind = 'reasoning' BEGIN
    INSERT INTO reasoning (rowid, text) VALUES (new.n, index_text(new.text));
END;

CREATE TRIGGER reasoning_out AFTER DELETE ON parts WHEN old.kind = 'reasoning' BEGIN
    INSERT INTO reasoning (reasoning, rowid, text) VALUES ('delete', old.n, index_text(old.text));
END;

-- Questions that wait for their turn. Each becomes a message with its `id` and leaves the outbox in one transaction.

CREATE TABLE outbox (
    n INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    session INTEGER NOT NULL REFERENCES sessions (n) ON DELETE CASCADE,
    follows TEXT, -- the id of the message or waiting question that it was asked after
    created INTEGER NOT NULL,
    owner TEXT NOT NULL, -- names the lock that the program which will ask it holds
    text TEXT NOT NULL
) STRICT;

CREATE INDEX outbox_of_session ON outbox (session);

CREATE TABLE outbox_files (
    n INTEGER PRIMARY KEY,
    question INTEGER NOT NULL REFERENCES outbox (n) ON DELETE CASCADE,
    blob INTEGER NOT NULL REFERENCES blobs (n),
    name TEXT NOT NULL,
    media_type TEXT NOT NULL
) STRICT;

CREATE INDEX outbox_files_of_question ON outbox_files (question);
CREATE INDEX outbox_files_of_blob ON outbox_files (blob);
