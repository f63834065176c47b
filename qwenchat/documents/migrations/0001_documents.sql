-- The index of documents: their chunks, who owns them, and what models found in them. It holds nothing that can't be
-- made again. `n` is a row's short name inside the database.

PRAGMA application_id = 1364673860; -- "QWED"

CREATE TABLE documents (
    n INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE, -- the sha256 of the text
    media_type TEXT NOT NULL,
    pages INTEGER,
    tokens INTEGER NOT NULL, -- estimated
    chunks INTEGER NOT NULL,
    first INTEGER NOT NULL -- `n` of the first chunk; the others follow it
) STRICT;

-- What belongs to whom. A document that no row names is deleted.
CREATE TABLE owned (
    n INTEGER PRIMARY KEY,
    owner TEXT NOT NULL, -- `chat:SESSION_ID` or `collection:NAME`
    key TEXT NOT NULL, -- the path of a file of a collection; the digest of a document of a chat
    name TEXT NOT NULL,
    document INTEGER REFERENCES documents (n), -- NULL for a file that can't be read
    size INTEGER, -- of the file, in bytes
    modified INTEGER, -- of the file, in nanoseconds since 1970
    problem TEXT NOT NULL, -- why the file can't be read
    UNIQUE (owner, key)
) STRICT;

CREATE INDEX owned_document ON owned (document);

-- Together, in the order of their numbers, the chunks of a document are its text.
CREATE TABLE chunks (
    n INTEGER PRIMARY KEY,
    document INTEGER NOT NULL REFERENCES documents (n) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    start INTEGER NOT NULL,
    page INTEGER,
    heading TEXT NOT NULL,
    text TEXT NOT NULL,
    UNIQUE (document, number)
) STRICT;

CREATE INDEX chunks_by_place ON chunks (document, start);

CREATE VIRTUAL TABLE words USING fts5 (text, heading, content = '', tokenize = "porter ascii tokenchars '+#$%&@<=>^~_|'");

INSERT INTO words (words, rank) VALUES ('rank', 'bm25(1.0, 0.5)'); -- a word in the heading counts half

CREATE TRIGGER words_in AFTER INSERT ON chunks BEGIN
    INSERT INTO words (rowid, text, heading) VALUES (new.n, index_text(new.text), index_text(new.heading));
END;

CREATE TRIGGER words_out AFTER DELETE ON chunks BEGIN
    INSERT INTO words (words, rowid, text, heading)
    VALUES ('delete', old.n, index_text(old.text), index_text(old.heading));
END;

-- What a model found when it read a document for a question, which is stored as a hash only.
CREATE TABLE readings (
    n INTEGER PRIMARY KEY,
    document INTEGER NOT NULL REFERENCES documents (n) ON DELETE CASCADE,
    question TEXT NOT NULL,
    model TEXT NOT NULL,
    UNIQUE (document, question, model)
) STRICT;

CREATE TABLE verdicts (
    reading INTEGER NOT NULL REFERENCES readings (n) ON DELETE CASCADE,
    chunk INTEGER NOT NULL,
    verdict TEXT NOT NULL,
    PRIMARY KEY (reading, chunk)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER owned_out AFTER DELETE ON owned
WHEN old.document IS NOT NULL AND NOT EXISTS (SELECT 1 FROM owned WHERE document = old.document) BEGIN
    DELETE FROM documents WHERE n = old.document;
END;

CREATE TRIGGER owned_changed AFTER UPDATE OF document ON owned
WHEN old.document IS NOT new.document AND NOT EXISTS (SELECT 1 FROM owned WHERE document = old.document) BEGIN
    DELETE FROM documents WHERE n = old.document;
END;
