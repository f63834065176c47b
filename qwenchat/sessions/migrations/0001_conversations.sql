-- Sessions, their messages as trees, pieces of answers that are still streaming, and attached files.
-- Times are Unix milliseconds. `n` is a row's short name inside the database; `id` is what the world knows.
-- The longest columns stand last, so that the short ones are read without them.
-- Each table has its own number and kinds of columns: `sessions recover` tells them apart by it. Add columns at the end only.

PRAGMA application_id = 1364673870; -- "QWEN"

CREATE TABLE sessions (
    n INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    trashed INTEGER,
    pinned INTEGER NOT NULL,
    leaf TEXT,
    model TEXT NOT NULL,
    title TEXT NOT NULL,
    tags TEXT NOT NULL, -- a JSON list
    sampling TEXT NOT NULL, -- a JSON object of what is set
    draft TEXT NOT NULL,
    system TEXT NOT NULL
) STRICT;

CREATE INDEX sessions_listed ON sessions (trashed, pinned, updated);
CREATE INDEX sessions_latest ON sessions (updated) WHERE trashed IS NULL;

CREATE TABLE messages (
    n INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    session INTEGER NOT NULL REFERENCES sessions (n) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    parent INTEGER REFERENCES messages (n) DEFERRABLE INITIALLY DEFERRED,
    role TEXT NOT NULL CHECK (role IN ('user', 'assistant')),
    status TEXT NOT NULL
        CHECK (status IN ('streaming', 'complete', 'stopped', 'truncated', 'interrupted', 'failed')),
    created INTEGER NOT NULL,
    finished INTEGER,
    removed INTEGER, -- the message (n) whose removal took this one along
    removed_at INTEGER,
    model TEXT NOT NULL,
    model_file TEXT NOT NULL,
    details TEXT NOT NULL, -- a JSON object: sampling, finish_reason, usage, timings, error
    text TEXT NOT NULL,
    token_ids BLOB NOT NULL -- little-endian uint32
) STRICT;

CREATE INDEX messages_of_session ON messages (session);
CREATE INDEX messages_by_time ON messages (created);
CREATE INDEX messages_below ON messages (parent) WHERE parent IS NOT NULL;
CREATE INDEX messages_streaming ON messages (session) WHERE status = 'streaming';
CREATE INDEX messages_removed ON messages (removed) WHERE removed IS NOT NULL;

-- What an answer has got since it began to stream: short rows that are added, instead of one that is rewritten.
CREATE TABLE pieces (
    n INTEGER PRIMARY KEY,
    message INTEGER NOT NULL REFERENCES messages (n) ON DELETE CASCADE,
    token_ids BLOB NOT NULL,
    text TEXT NOT NULL
) STRICT;

CREATE INDEX pieces_of_message ON pieces (message);

CREATE TABLE blobs (
    n INTEGER PRIMARY KEY,
    sha256 TEXT NOT NULL UNIQUE,
    data BLOB NOT NULL
) STRICT;

CREATE TABLE attachments (
    n INTEGER PRIMARY KEY,
    message INTEGER NOT NULL REFERENCES messages (n) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    blob INTEGER NOT NULL REFERENCES blobs (n),
    name TEXT NOT NULL,
    media_type TEXT NOT NULL,
    UNIQUE (message, position)
) STRICT;

CREATE INDEX attachments_of_blob ON attachments (blob);
