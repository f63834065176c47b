"""The index of documents: finds chunks by words, and remembers what models found in them.

It holds nothing that can't be made again, so a damaged one is deleted. A document belongs to owners: the chats that it
was attached to (`chat:SESSION_ID`) and collections (`collection:NAME`). What nobody owns any more is deleted, with
every word of it. Nothing here reads a file or asks a model.
"""

import json
import sqlite3
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from qwenchat.documents.chunks import Chunk, chunks_of
from qwenchat.documents.document import PAGE_BREAK, Document
from qwenchat.errors import NotFound, StoreDamaged, StoreError
from qwenchat.i18n import _
from qwenchat.storage.database import Database, MemoryDatabase
from qwenchat.storage.migrate import Schema, in_memory, migrate
from qwenchat.text.safe import encodable
from qwenchat.text.token_estimate import estimated_tokens
from qwenchat.text.words import fold, phrase, quoted, tokens, unspaced

SCHEMA = Schema(Path(__file__).parent / "migrations", application_id=0x51574544)
"""`QWED` marks indexes of documents."""
BUSY_S = 120.0
"""Seconds that a writer waits for another one: a very large document is one long transaction."""
_CHAT, _COLLECTION = "chat:", "collection:"
_MOST_WORDS = 100
"""Words of one search."""
_MOST_SEGMENTS = 8
"""Pieces that the index of words consists of; each one makes searching slower."""
_AROUND = 6_000
"""Characters before and after a place that are shown with it."""
_MOST_READINGS = 100
"""Questions for which the verdicts about one document are stored; the oldest are forgotten first."""
_CHUNK_COLUMNS = "chunks.number, chunks.start, chunks.page, chunks.heading, chunks.text"


def chat_owner(session_id: str) -> str:
    """Return the owner that stands for a chat."""
    return _CHAT + session_id


def collection_owner(name: str) -> str:
    """Return the owner that stands for a collection."""
    return _COLLECTION + name


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedDocument:
    """A document as its owner knows it."""

    name: str
    digest: str
    pages: int | None
    tokens: int
    """Estimated."""
    chunks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedFile:
    """A file of a collection as it was when it was read last."""

    path: str
    size: int
    """Bytes."""
    modified: int
    """Nanoseconds since 1970."""
    problem: str = ""
    """Why it can't be read; empty also for a file that is no document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A chunk that a search found."""

    document: str
    """The name of the document."""
    digest: str
    chunk: Chunk
    score: float
    """The more, the better; only results of the same search can be compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentPage:
    """A page of a document, or what stands around a place in one that has no pages or very long ones."""

    number: int | None
    start: int
    """Where its text begins in the document, in characters."""
    text: str


@dataclass(frozen=True, slots=True)
class _Scoped:
    """A document that is searched."""

    first: int
    chunks: int
    digest: str
    name: str


@dataclass(frozen=True, slots=True)
class _Divided:
    """A document, and what is stored of it."""

    document: Document
    chunks: Sequence[Chunk] = ()
    tokens: int = 0


class DocumentIndex:
    """All documents. Safe for use by several threads and programs; every method blocks and may raise StoreError."""

    def __init__(self, file: Path | None, busy_s: float = BUSY_S) -> None:
        """Open an index, or create it; None: in memory, where nothing outlives this object."""
        self._file, self._busy_s = file, busy_s
        self._database = self._opened()

    @property
    def is_read_only(self) -> bool:
        """Whether it can only be searched, as on a read-only disk; every change then raises StoreError."""
        return self._database.is_read_only

    def close(self) -> None:
        """Close the database. May be called twice."""
        self._database.close()

    def add(self, owner: str, documents: Iterable[Document]) -> None:
        """Make an owner own documents. What is indexed already is not indexed again."""
        for document in documents:
            self._put(owner, [(document.digest, document, (None, None, ""))])
        with self._read() as connection:
            segments: int = connection.execute("SELECT count(DISTINCT segid) FROM words_idx").fetchone()[0]
        if segments > _MOST_SEGMENTS:
            self.tidy()

    def put_files(self, owner: str, files: Sequence[tuple[IndexedFile, Document | None]]) -> None:
        """Store files and their documents in place of what was stored of these files; None for what has no text.

        `tidy` is for when all files are stored.
        """
        self._put(
            owner,
            [(encodable(file.path), document, (file.size, file.modified, file.problem)) for file, document in files],
        )

    def _put(self, owner: str, rows: Sequence[tuple[str, Document | None, tuple[int | None, int | None, str]]]) -> None:
        divided = {each.digest: self._divided(each) for _key, each, _state in rows if each}
        with self._write() as connection:
            for key, document, state in rows:
                number = _indexed(connection, divided[document.digest]) if document else None
                name = encodable(document.name if document else key)
                connection.execute(
                    "INSERT INTO owned (owner, key, name, document, size, modified, problem) VALUES (?,?,?,?,?,?,?) "
                    "ON CONFLICT (owner, key) DO UPDATE SET name = excluded.name, document = excluded.document, "
                    "size = excluded.size, modified = excluded.modified, problem = excluded.problem",
                    (owner, key, name, number, *state),
                )

    def _divided(self, document: Document) -> _Divided:
        """Return a document with its chunks, made while nobody waits for the database; without, if it is indexed."""
        with self._read() as connection:
            known = connection.execute("SELECT 1 FROM documents WHERE digest = ?", (document.digest,)).fetchone()
        return _Divided(document) if known else _divided(document)

    def files(self, owner: str) -> dict[str, IndexedFile]:
        """Return the files of a collection as they were read last, by their paths."""
        with self._read() as connection:
            found = connection.execute(
                "SELECT key, size, modified, problem FROM owned WHERE owner = ? AND size IS NOT NULL ORDER BY n",
                (owner,),
            ).fetchall()
        return {
            path: IndexedFile(path=path, size=size, modified=modified, problem=problem)
            for path, size, modified, problem in found
        }

    def remove_files(self, owner: str, paths: Iterable[str]) -> None:
        """Remove files from a collection; their documents are deleted unless somebody else owns them, then `tidy`."""
        with self._write() as connection:
            connection.executemany("DELETE FROM owned WHERE owner = ? AND key = ?", [(owner, each) for each in paths])

    def tidy(self) -> None:
        """Make searching fast, and overwrite every word of what was deleted, in the files of the database too."""
        with self._write() as connection:
            connection.execute("INSERT INTO words (words) VALUES ('optimize')")  # until then it has the deleted words
        self._database.empty_log()

    def sweep(self, session_exists: Callable[[str], bool], collection_exists: Callable[[str], bool]) -> None:
        """Delete what belongs to chats and collections that do not exist any more, given their ids and their names."""
        for owner in self.owners():
            kind, _colon, name = owner.partition(":")
            exists = session_exists if f"{kind}:" == _CHAT else collection_exists
            if not exists(name):
                self.drop(owner)

    def owners(self) -> list[str]:
        """Return all owners."""
        with self._read() as connection:
            return [owner for (owner,) in connection.execute("SELECT DISTINCT owner FROM owned ORDER BY owner")]

    def owned(self, owner: str) -> list[OwnedDocument]:
        """Return the documents of an owner, in the order in which they were added."""
        with self._read() as connection:
            found = connection.execute(
                "SELECT name, digest, pages, tokens, chunks FROM owned "
                "JOIN documents ON documents.n = owned.document WHERE owner = ? ORDER BY owned.n",
                (owner,),
            ).fetchall()
        return [
            OwnedDocument(name=name, digest=digest, pages=pages, tokens=tokens, chunks=chunks)
            for name, digest, pages, tokens, chunks in found
        ]

    def drop(self, owner: str) -> None:
        """Delete what belongs to an owner alone, from the files of the database too."""
        with self._write() as connection:
            dropped = connection.execute("DELETE FROM owned WHERE owner = ?", (owner,)).rowcount
        if dropped:
            self.tidy()

    def search(self, among: Sequence[str], words: Sequence[str], limit: int) -> list[Found]:
        """Return the chunks that match any of the words, the best first.

        `among` are owners or digests of documents. A word may be a phrase or a question: its single words are searched
        for too. Chinese is searched for by pairs of characters.
        """
        match = _match(words)
        if not match:
            return []
        with self._read() as connection:
            scope = _documents(connection, among)
            if not scope:
                return []
            best = _best(connection, match, scope, limit)
            return [
                Found(document=found.name, digest=found.digest, chunk=_chunk_in(connection, n), score=-worse)
                for n, worse, found in best
            ]

    def chunks(self, digest: str) -> list[Chunk]:
        """Return all chunks of a document, which joined are its text. Raises NotFound."""
        with self._read() as connection:
            document = _number_of(connection, digest)
            columns = f"SELECT {_CHUNK_COLUMNS} FROM chunks WHERE document = ? ORDER BY number"
            return [_chunk(row) for row in connection.execute(columns, (document,))]

    def text(self, digest: str) -> str:
        """Return the text of a document. Raises NotFound."""
        return "".join(chunk.text for chunk in self.chunks(digest))

    def page(self, digest: str, place: int) -> DocumentPage:
        """Return the page that a place is on, the place being a number of characters. Raises NotFound."""
        with self._read() as connection:
            around = [
                _chunk(row)
                for row in connection.execute(
                    f"SELECT {_CHUNK_COLUMNS} FROM chunks WHERE document = ? AND start BETWEEN "
                    "(SELECT max(start) FROM chunks WHERE document = ? AND start <= max(0, ?)) AND ? ORDER BY number",
                    (*[_number_of(connection, digest)] * 2, place - _AROUND, place + _AROUND),
                )
            ]
        if not around:  # a document without text
            return DocumentPage(number=None, start=0, text="")
        first = around[0]
        text = "".join(chunk.text for chunk in around)
        at = max(0, place - first.start)
        begin, end = text.rfind(PAGE_BREAK, 0, at) + 1, text.find(PAGE_BREAK, at)
        number = first.page
        if number is not None:  # it is the page of the chunk's first word
            leading = len(first.text) - len(first.text.lstrip())
            number += text.count(PAGE_BREAK, 0, at) - text.count(PAGE_BREAK, 0, leading)
        return DocumentPage(number=number, start=first.start + begin, text=text[begin : end if end >= 0 else len(text)])

    def verdicts(self, digest: str, question: str, model: str) -> dict[int, str]:
        """Return what was added about the chunks of a document, by their numbers."""
        with self._read() as connection:
            found = connection.execute(
                "SELECT chunk, verdict FROM verdicts JOIN readings ON readings.n = verdicts.reading "
                "JOIN documents ON documents.n = readings.document WHERE digest = ? AND question = ? AND model = ?",
                (digest, _hashed(question), model),
            )
            return dict(found.fetchall())

    def add_verdict(self, digest: str, question: str, model: str, *, chunk: int, verdict: str) -> None:
        """Remember what a model found in a chunk for a question. Raises NotFound for an unknown document."""
        with self._write() as connection:
            document = _number_of(connection, digest)
            reading = (document, _hashed(question), model)
            connection.execute(
                "INSERT INTO readings (document, question, model) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", reading
            )
            connection.execute(
                "INSERT OR REPLACE INTO verdicts (reading, chunk, verdict) SELECT n, ?, ? FROM readings "
                "WHERE document = ? AND question = ? AND model = ?",
                (chunk, verdict, *reading),
            )
            connection.execute(
                "DELETE FROM readings WHERE document = ? AND n NOT IN "
                f"(SELECT n FROM readings WHERE document = ? ORDER BY n DESC LIMIT {_MOST_READINGS})",
                (document, document),
            )

    def _opened(self) -> Database | MemoryDatabase:
        if self._file is None:
            return in_memory(SCHEMA)
        try:
            migrate(self._file, SCHEMA, busy_s=self._busy_s)
        except StoreDamaged:
            _delete(self._file)
            migrate(self._file, SCHEMA, busy_s=self._busy_s)
        return Database(self._file, self._busy_s)

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        with self._made_anew_if_damaged(), self._database.read() as connection:
            yield connection

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._made_anew_if_damaged(), self._database.write() as connection:
            yield connection

    @contextmanager
    def _made_anew_if_damaged(self) -> Iterator[None]:
        try:
            yield
        except StoreDamaged as error:
            if self._file is None or self.is_read_only:
                raise
            self._database.close()
            _delete(self._file)
            self._database = self._opened()
            raise StoreError(
                _("The index of documents was damaged and has been deleted. Your files and chats are unchanged."),
                _("Try again: documents are indexed again when they are needed."),
            ) from error


def _delete(file: Path) -> None:
    """Delete the files of a database."""
    for suffix in ("", "-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)


def _divided(document: Document) -> _Divided:
    chunks = chunks_of(document)
    return _Divided(document, chunks, round(sum(estimated_tokens(chunk.text) for chunk in chunks)))


def _indexed(connection: sqlite3.Connection, divided: _Divided) -> int:
    """Index a document unless it is, and return its number."""
    document = divided.document
    found = connection.execute("SELECT n FROM documents WHERE digest = ?", (document.digest,)).fetchone()
    if found:
        return int(found[0])
    if document.text and not divided.chunks:  # another program has deleted it meanwhile
        divided = _divided(document)
    first: int = connection.execute("SELECT coalesce(max(n), 0) + 1 FROM chunks").fetchone()[0]
    added = connection.execute(
        "INSERT INTO documents (digest, media_type, pages, tokens, chunks, first) VALUES (?, ?, ?, ?, ?, ?)",
        (document.digest, document.media_type, document.pages, divided.tokens, len(divided.chunks), first),
    )
    number = added.lastrowid or 0
    connection.executemany(
        "INSERT INTO chunks (n, document, number, start, page, heading, text) VALUES (?, ?, ?, ?, ?, ?, ?)",
        ((first + c.number, number, c.number, c.start, c.page, c.heading, c.text) for c in divided.chunks),
    )
    return number


def _documents(connection: sqlite3.Connection, among: Sequence[str]) -> list[_Scoped]:
    """Return the documents among owners and digests, in the order of their chunks; each has its name for an owner."""
    found = connection.execute(
        "SELECT first, chunks, digest, name FROM documents JOIN owned ON owned.document = documents.n "
        "WHERE owner IN (SELECT value FROM json_each(:among)) OR digest IN (SELECT value FROM json_each(:among)) "
        "ORDER BY owner IN (SELECT value FROM json_each(:among)), owned.n DESC",  # what comes last counts
        {"among": json.dumps(list(among))},
    )
    documents = {first: _Scoped(first, chunks, digest, name) for first, chunks, digest, name in found if chunks}
    return sorted(documents.values(), key=lambda each: each.first)


def _best(
    connection: sqlite3.Connection, match: str, scope: Sequence[_Scoped], limit: int
) -> list[tuple[int, float, _Scoped]]:
    """Return the numbers of the best chunks in some documents, how bad each is, and the document that has it."""
    bounds = (scope[0].first, scope[-1].first + scope[-1].chunks - 1)
    best: list[tuple[int, float, _Scoped]] = []
    for most in (4 * limit, -1):  # all matches, which takes longer, only where most of the first are elsewhere
        matches = connection.execute(
            "SELECT rowid, rank FROM words WHERE words MATCH ? AND rowid BETWEEN ? AND ? ORDER BY rank LIMIT ?",
            (match, *bounds, most),
        ).fetchall()
        inside = ((n, worse, found) for n, worse in matches if (found := _document_with(scope, n)))
        best = list(islice(inside, limit))
        if len(best) == limit or len(matches) < most:
            break
    return best


def _document_with(scope: Sequence[_Scoped], n: int) -> _Scoped | None:
    """Return the document that has a chunk; None if it is not among the given ones, which are sorted."""
    at = bisect_right(scope, n, key=lambda each: each.first) - 1
    return scope[at] if at >= 0 and n < scope[at].first + scope[at].chunks else None


def _number_of(connection: sqlite3.Connection, digest: str) -> int:
    found = connection.execute("SELECT n FROM documents WHERE digest = ?", (digest,)).fetchone()
    if found is None:
        raise NotFound(_("This document is no longer in the index."), _("It may have been removed or changed since."))
    return int(found[0])


def _chunk_in(connection: sqlite3.Connection, n: int) -> Chunk:
    return _chunk(connection.execute(f"SELECT {_CHUNK_COLUMNS} FROM chunks WHERE n = ?", (n,)).fetchone())


def _chunk(row: Sequence[Any]) -> Chunk:
    number, start, page, heading, text = row
    return Chunk(number=number, start=start, end=start + len(text), page=page, heading=heading, text=text)


def _hashed(question: str) -> str:
    """Return what stands for a question, so that its words are stored nowhere but in its chat."""
    return sha256(encodable(question).encode()).hexdigest()


def _match(words: Sequence[str]) -> str:
    """Return the FTS5 expression that finds any of some words and, where one is several, the whole as well."""
    terms: dict[str, None] = {}
    for word in words:
        single = [token for token, _start, _end in tokens(fold(encodable(word)))]
        for at, token in enumerate(single):
            is_rest = at and len(token) == 1 and unspaced(token) and len(single[at - 1]) == 2
            if not is_rest:  # the pair before has it
                terms[phrase(token) if len(token) == 1 else quoted([token])] = None
        if len(single) > 1:
            terms[phrase(encodable(word))] = None
    return " OR ".join(list(terms)[:_MOST_WORDS])
