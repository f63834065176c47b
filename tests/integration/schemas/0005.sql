-- A database of schema 5 with a message of every kind, as `sqlite3 .dump` gives it; the search index is filled by hand.
PRAGMA journal_mode = WAL;
PRAGMA application_id = 1364673870;
PRAGMA user_version = 5;
BEGIN TRANSACTION;
CREATE TABLE attachments (
    n INTEGER PRIMARY KEY,
    message INTEGER NOT NULL REFERENCES messages (n) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    blob INTEGER NOT NULL REFERENCES blobs (n),
    name TEXT NOT NULL,
    media_type TEXT NOT NULL,
    UNIQUE (message, position)
) STRICT;
INSERT INTO "attachments" VALUES(1,1,0,1,'notes.txt','text/plain');
INSERT INTO "attachments" VALUES(2,1,1,1,'same.txt','text/x');
CREATE TABLE blobs (
    n INTEGER PRIMARY KEY,
    sha256 TEXT NOT NULL UNIQUE,
    data BLOB NOT NULL
) STRICT;
INSERT INTO "blobs" VALUES(1,'ff5403b4c89ea35d49bbf8a5a2722e03c3ca71ac8a2ba7788af41e3d17f8c9b3',X'00FF6E6F746573');
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
INSERT INTO "messages" VALUES(1,'q1',1,NULL,'user','complete',1,NULL,NULL,NULL,'','','{}','How does C++ differ? 我爱北京',X'');
INSERT INTO "messages" VALUES(2,'a1',1,1,'assistant','truncated',2,3,2,1795415673690,'7b:q4_k_m','ffffffffffffffffffffffffffffffff','{"sampling":{"temperature":0.5,"top_k":0,"seed":7,"stop":["END"]},"finish_reason":"length","usage":{"prompt_tokens":10,"cached_tokens":5,"completion_tokens":3},"timings":{"load_s":0.1,"prefill_s":0.0,"prefill_tps":0.0,"decode_s":0.0,"decode_tps":33.3,"ttft_s":0.0},"error":"a reason"}','It has classes.',X'000000005D500200FFFFFFFF');
INSERT INTO "messages" VALUES(3,'a2',1,1,'assistant','truncated',2,3,NULL,NULL,'7b:q4_k_m','ffffffffffffffffffffffffffffffff','{"sampling":{"temperature":0.5,"top_k":0,"seed":7,"stop":["END"]},"finish_reason":"length","usage":{"prompt_tokens":10,"cached_tokens":5,"completion_tokens":3},"timings":{"load_s":0.1,"prefill_s":0.0,"prefill_tps":0.0,"decode_s":0.0,"decode_tps":33.3,"ttft_s":0.0},"error":"a reason"}','It has templates.',X'000000005D500200FFFFFFFF');
INSERT INTO "messages" VALUES(4,'q2',1,3,'user','complete',5,NULL,NULL,NULL,'','','{}','Thanks',X'');
INSERT INTO "messages" VALUES(5,'t1',2,NULL,'user','complete',1,NULL,NULL,NULL,'','','{}','Half an answer?',X'');
INSERT INTO "messages" VALUES(6,'t2',2,5,'assistant','streaming',5,NULL,NULL,NULL,'','','{}','It',X'01000000');
CREATE TABLE pieces (
    n INTEGER PRIMARY KEY,
    message INTEGER NOT NULL REFERENCES messages (n) ON DELETE CASCADE,
    token_ids BLOB NOT NULL,
    text TEXT NOT NULL
, kind TEXT NOT NULL DEFAULT 'text', details TEXT NOT NULL DEFAULT '{}') STRICT;
INSERT INTO "pieces" VALUES(1,6,X'02000000',' be','text','{}');
INSERT INTO "pieces" VALUES(2,6,X'03000000','gan','text','{}');
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
, context INTEGER, tools INTEGER) STRICT;
INSERT INTO "sessions" VALUES(1,'s',1,5,NULL,1,'q2','7b','A title 标题','["work","中文"]','{"top_p":0.5}','half a que','Be brief.',NULL,NULL);
INSERT INTO "sessions" VALUES(2,'t',3,5,NULL,0,'t2','','Second','[]','{}','','',NULL,NULL);
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
CREATE TABLE outbox (
    n INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    session INTEGER NOT NULL REFERENCES sessions (n) ON DELETE CASCADE,
    follows TEXT, -- the id of the message or waiting question that it was asked after
    created INTEGER NOT NULL,
    owner TEXT NOT NULL, -- names the lock that the program which will ask it holds
    text TEXT NOT NULL
) STRICT;
CREATE TABLE outbox_files (
    n INTEGER PRIMARY KEY,
    question INTEGER NOT NULL REFERENCES outbox (n) ON DELETE CASCADE,
    blob INTEGER NOT NULL REFERENCES blobs (n),
    name TEXT NOT NULL,
    media_type TEXT NOT NULL
) STRICT;
CREATE INDEX sessions_listed ON sessions (trashed, pinned, updated);
CREATE INDEX sessions_latest ON sessions (updated) WHERE trashed IS NULL;
CREATE INDEX messages_of_session ON messages (session);
CREATE INDEX messages_by_time ON messages (created);
CREATE INDEX messages_below ON messages (parent) WHERE parent IS NOT NULL;
CREATE INDEX messages_streaming ON messages (session) WHERE status = 'streaming';
CREATE INDEX messages_removed ON messages (removed) WHERE removed IS NOT NULL;
CREATE INDEX pieces_of_message ON pieces (message);
CREATE INDEX attachments_of_blob ON attachments (blob);
CREATE INDEX outbox_of_session ON outbox (session);
CREATE INDEX outbox_files_of_question ON outbox_files (question);
CREATE INDEX outbox_files_of_blob ON outbox_files (blob);
CREATE VIRTUAL TABLE words USING fts5 (text, content = '', tokenize = "porter ascii tokenchars '+#$%&@<=>^~_|'");
CREATE VIRTUAL TABLE titles USING fts5 (title, content = '', tokenize = "porter ascii tokenchars '+#$%&@<=>^~_|'");
CREATE VIRTUAL TABLE reasoning USING fts5 (text, content = '', tokenize = "porter ascii tokenchars '+#$%&@<=>^~_|'");
INSERT INTO words (rowid, text) VALUES (1, 'how does c + + differ 我爱 爱北 北京 京');
INSERT INTO words (rowid, text) VALUES (2, 'it has classes');
INSERT INTO words (rowid, text) VALUES (3, 'it has templates');
INSERT INTO words (rowid, text) VALUES (4, 'thanks');
INSERT INTO words (rowid, text) VALUES (5, 'half an answer');
INSERT INTO words (rowid, text) VALUES (6, 'it');
INSERT INTO titles (rowid, title) VALUES (1, 'a title 标题 题');
INSERT INTO titles (rowid, title) VALUES (2, 'second');
CREATE TRIGGER words_in AFTER INSERT ON messages WHEN new.text <> '' BEGIN
    INSERT INTO words (rowid, text) VALUES (new.n, index_text(new.text));
END;
CREATE TRIGGER words_out AFTER DELETE ON messages WHEN old.text <> '' BEGIN
    INSERT INTO words (words, rowid, text) VALUES ('delete', old.n, index_text(old.text));
END;
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
CREATE TRIGGER reasoning_in AFTER INSERT ON parts WHEN new.kind = 'reasoning' BEGIN
    INSERT INTO reasoning (rowid, text) VALUES (new.n, index_text(new.text));
END;
CREATE TRIGGER reasoning_out AFTER DELETE ON parts WHEN old.kind = 'reasoning' BEGIN
    INSERT INTO reasoning (reasoning, rowid, text) VALUES ('delete', old.n, index_text(old.text));
END;
COMMIT;
