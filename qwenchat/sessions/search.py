"""Finds messages and titles by words, in English, Chinese or mixed text, and returns an excerpt of each.

Few matches are ranked by BM25; if there are very many, the newest come first, at a cost that does not depend on their
number. If the query finds little, its last word is tried as the beginning of a word. Reasoning has its own index, which
is searched instead of the texts on request (`in:reasoning`). Excerpts mark matches as positions, never as markup. FTS5
itself finds the matching words in the few texts that are shown, so that the same rules find and mark them.
"""

import json
import re
import sqlite3
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from qwenchat.chat.message import Role
from qwenchat.sessions.query import Query, parse_query
from qwenchat.storage.database import Database
from qwenchat.text.pinyin import initials
from qwenchat.text.safe import clean, clean_line
from qwenchat.text.words import TOKENIZER, fold, tokens, unspaced

MANY = 1000
"""More matches than this are not ranked and not counted."""
_FEW = 20
"""If there are fewer matches than this, beginnings of words match too."""
_MAX_TITLES = 10
"""The maximum number of titles before the messages."""
_BEFORE = 40
"""Characters shown before the first mark."""
_MOST_WORDS = 50
"""Different words that match in one text."""
_WIDTH = 200
"""Characters of an excerpt."""

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A clean line of text; `marks` are the (begin, end) positions of matches in it."""

    text: str
    marks: tuple[Span, ...] = ()
    words: tuple[str, ...] = ()
    """The different words that match anywhere in the whole text, as they are written there."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A message, or a session's title where `message` is None."""

    session: str
    title: str
    message: str | None
    role: Role | None
    created: int
    """The time of the message, or of the last update of the session; Unix milliseconds."""
    excerpt: Excerpt


@dataclass(frozen=True, slots=True)
class SearchResults:
    """A page of hits."""

    hits: tuple[Hit, ...]
    messages: int
    """The number of matching messages, at most MANY."""
    ranked: bool
    """Whether the best matches come first, rather than the newest."""


class SessionSearch:
    """Searches all sessions, inside or outside the trash. Every method may raise StoreError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, typed: str, limit: int = 50, offset: int = 0, *, trashed: bool = False) -> SearchResults:
        """Return matching titles (on the first page) and a page of messages; no hits for an empty query.

        If `trashed`, only the trash is searched.
        """
        query = parse_query(typed)
        match = query.match
        if not match and (query.items or not query.narrows):
            return SearchResults((), 0, True)
        with self._database.read() as connection:
            newest = _Messages(connection, query, trashed, match)
            first = newest.page(MANY, 0)
            if len(first) < _FEW and query.wider:
                match = query.wider
                newest = _Messages(connection, query, trashed, match)
                first = newest.page(MANY, 0)
            ranked = bool(match) and len(first) < MANY
            if ranked:
                page = newest.page(limit, offset, ranked=True)
            elif offset + limit <= len(first):
                page = first[offset : offset + limit]
            else:
                page = newest.page(limit, offset)
            titles: list[Hit] = []
            if not (offset or query.roles or query.models or query.reasoning):
                titles = _titles(connection, query, trashed, match)
                known = {hit.session for hit in titles}
                titles += [hit for hit in _titles_by_initials(connection, query, trashed) if hit.session not in known]
            return SearchResults((*titles[:_MAX_TITLES], *_hits(connection, query, page, match)), len(first), ranked)


@dataclass(frozen=True, slots=True)
class _Index:
    """A full-text index and the relation of its rows to messages. All fields are SQL."""

    name: str
    source: str
    """The index, joined with `messages`."""
    row: str
    """The number of a message: the index's rowid if they are the same, so that the index can skip rows."""
    grouping: str
    """Combines several rows of the same message; empty if there is only one."""
    text: str
    """The indexed text of a message; NULL if it has none."""


_TEXTS = _Index(
    name="words",
    source="words CROSS JOIN messages ON messages.n = words.rowid",
    row="words.rowid",
    grouping="",
    text="messages.text",
)
_REASONING = _Index(
    name="reasoning",
    source="reasoning CROSS JOIN parts ON parts.n = reasoning.rowid CROSS JOIN messages ON messages.n = parts.message",
    row="messages.n",
    grouping="GROUP BY messages.n",
    text="(SELECT group_concat(text, char(10)) FROM parts WHERE message = messages.n AND kind = 'reasoning')",
)


def _index_of(query: Query) -> _Index:
    return _REASONING if query.reasoning else _TEXTS


class _Messages:
    """The numbers of the messages that `match` finds (all, if empty) and that pass the query's filters."""

    def __init__(self, connection: sqlite3.Connection, query: Query, trashed: bool, match: str) -> None:
        sessions, values = _sessions(query, trashed)
        times = _times(query, "messages.created")
        # If only a few sessions pass, they are looked up in advance; otherwise the session of each message is checked.
        of_session = f"messages.session IN ({sessions})"
        narrows = query.narrows_sessions
        where = [*times, of_session if narrows else f"EXISTS ({sessions} AND sessions.n = messages.session)"]
        index = _index_of(query)
        row = index.row if match else "messages.n"
        for name, condition in (("times", " AND ".join(times)), ("sessions", of_session if narrows else "")):
            if condition:
                # Limit the search to the range from the first to the last candidate: the index skips all other rows.
                bounds = f"SELECT min(n), max(n) FROM messages WHERE {condition}"
                values[f"{name}_first"], values[f"{name}_last"] = connection.execute(bounds, values).fetchone()
                where.append(f"{row} BETWEEN :{name}_first AND :{name}_last")
        where.append("messages.removed IS NULL")
        if query.roles:
            where.append("messages.role IN (SELECT value FROM json_each(:roles))")
            values["roles"] = json.dumps(sorted(query.roles))
        for number, model in enumerate(query.models):
            where.append(f"instr(lower(messages.model), lower(:model{number}))")
            values[f"model{number}"] = model
        if match:
            where.append(f"{index.name} MATCH :match")
        else:
            where.append(f"{index.text} IS NOT NULL")
        self._connection, self._values = connection, {**values, "match": match}
        self._select = f"""
            SELECT messages.n FROM {index.source if match else "messages"} WHERE {" AND ".join(where)}
            {index.grouping if match else ""}
        """
        self._newest = f"{row} DESC"
        self._best = f"min(round({index.name}.rank, 1))" if index.grouping else f"round({index.name}.rank, 1)"

    def page(self, limit: int, offset: int, *, ranked: bool = False) -> list[int]:
        """Return a page, newest first or, if `ranked`, best first (and newest first among equals)."""
        order = f"{self._best}, {self._newest}" if ranked else self._newest
        statement = f"{self._select} ORDER BY {order} LIMIT :limit OFFSET :offset"
        values = {**self._values, "limit": limit, "offset": offset}
        return [n for (n,) in self._connection.execute(statement, values)]


def _sessions(query: Query, trashed: bool) -> tuple[str, dict[str, Any]]:
    """Return a SELECT of the numbers of the sessions that pass the filters, and the values of all filters."""
    where = [f"trashed IS {'NOT ' if trashed else ''}NULL"]
    values: dict[str, Any] = {"before": query.before, "after": query.after}
    for number, tag in enumerate(query.tags):
        where.append(f"EXISTS (SELECT 1 FROM json_each(tags) WHERE lower(value) = lower(:tag{number}))")
        values[f"tag{number}"] = tag
    for number, session in enumerate(query.sessions):
        where.append(f"id BETWEEN :in{number} AND :in{number} || '\U0010ffff'")
        values[f"in{number}"] = session.lower()
    return f"SELECT n FROM sessions WHERE {' AND '.join(where)}", values


def _times(query: Query, column: str) -> list[str]:
    before = [] if query.before is None else [f"{column} < :before"]
    return before if query.after is None else [*before, f"{column} >= :after"]


def _titles(connection: sqlite3.Connection, query: Query, trashed: bool, match: str) -> list[Hit]:
    if not match:
        return []
    sessions, values = _sessions(query, trashed)
    where = [*_times(query, "updated"), f"sessions.n IN ({sessions})"]
    found = connection.execute(
        f"""
        SELECT id, sessions.title, updated FROM titles CROSS JOIN sessions ON sessions.n = titles.rowid
        WHERE titles MATCH :match AND {" AND ".join(where)} ORDER BY titles.rowid DESC LIMIT {_MAX_TITLES}
        """,
        {**values, "match": match},
    ).fetchall()
    shown = excerpts([title for _id, title, _updated in found], match)
    return [
        Hit(session, title, message=None, role=None, created=updated, excerpt=excerpt)
        for (session, title, updated), excerpt in zip(found, shown, strict=True)
    ]


def _titles_by_initials(connection: sqlite3.Connection, query: Query, trashed: bool) -> list[Hit]:
    """Return the newest titles in which the query's only word is the pinyin initials of Chinese characters."""
    letters = query.initials
    if not letters:
        return []
    sessions, values = _sessions(query, trashed)
    where = [*_times(query, "updated"), f"n IN ({sessions})", "title GLOB '*[一-鿿]*'"]
    found: list[Hit] = []
    statement = f"SELECT id, title, updated FROM sessions WHERE {' AND '.join(where)} ORDER BY updated DESC"
    for session, title, updated in connection.execute(statement, values):
        if letters not in initials(title.lower()):
            continue
        line = clean_line(title)
        at = initials(line.lower()).find(letters)
        if at >= 0:
            found.append(
                Hit(
                    session,
                    title,
                    message=None,
                    role=None,
                    created=updated,
                    excerpt=Excerpt(line, ((at, at + len(letters)),)),
                )
            )
            if len(found) == _MAX_TITLES:
                break
    return found


def _hits(connection: sqlite3.Connection, query: Query, page: list[int], match: str) -> list[Hit]:
    statement = f"""
        SELECT sessions.id, sessions.title, messages.id, role, messages.created, {_index_of(query).text}
        FROM messages JOIN sessions ON sessions.n = messages.session WHERE messages.n = ?
    """
    found = [connection.execute(statement, (n,)).fetchone() for n in page]
    shown = excerpts([row[-1] for row in found], match)
    return [
        Hit(session, title, message=message, role=Role(role), created=created, excerpt=excerpt)
        for (session, title, message, role, created, _text), excerpt in zip(found, shown, strict=True)
    ]


def excerpts(texts: Sequence[str], match: str) -> list[Excerpt]:
    """Return an excerpt of each text around the matches of the FTS5 expression `match`; if empty, its beginning."""
    marks = marked(texts, match) if match else [[] for _text in texts]
    return [_around(text, spans) for text, spans in zip(texts, marks, strict=True)]


def marked(texts: Sequence[str], match: str) -> list[list[Span]]:
    """Return the positions of the matches of `match` in each text."""
    found: list[list[Span]] = [[] for _text in texts]
    folded = [_fold_with_origins(text) for text in texts]
    cut = [list(tokens(text)) for text, _origins in folded]
    memory = sqlite3.connect(":memory:")
    try:
        memory.execute(f'CREATE VIRTUAL TABLE shown USING fts5 (text, tokenize = "{TOKENIZER}")')
        memory.executemany(
            "INSERT INTO shown (rowid, text) VALUES (?, ?)",
            ((n, " ".join(token for token, _start, _end in words)) for n, words in enumerate(cut)),
        )
        query = "SELECT rowid, highlight(shown, 0, '\x02', '\x03') FROM shown WHERE shown MATCH ?"
        for n, text in memory.execute(query, (match,)):
            origins = folded[n][1]
            spans = _spans(text.split(" "), cut[n], match)
            found[n] = [(origins[start], origins[end]) for start, end in spans]
    finally:
        memory.close()
    return found


def _spans(shown: Sequence[str], words: Sequence[tuple[str, int, int]], match: str) -> Iterator[Span]:
    """Yield the positions of marked tokens; adjacent ones are combined."""
    inside, begun = False, None
    end = 0
    for word, (token, start, stop) in zip(shown, words, strict=True):
        inside = inside or "\x02" in word
        if inside:
            if begun is not None and start > end:
                yield begun, end
                begun = None
            begun = start if begun is None else begun
            # A single character is searched for as the beginning of a pair.
            end = start + 1 if unspaced(token) and token not in match else stop
        inside = inside and "\x03" not in word
    if begun is not None:
        yield begun, end


def _fold_with_origins(text: str) -> tuple[str, Sequence[int]]:
    """Return the folded text and, for each of its characters and its end, the original position in `text`."""
    folded = fold(text)
    if len(folded) == len(text):
        return folded, range(len(text) + 1)
    pieces = [fold(character) for character in text]
    origins = [index for index, piece in enumerate(pieces) for _character in piece]
    return "".join(pieces), [*origins, len(text)]


def _around(text: str, spans: Sequence[Span]) -> Excerpt:
    """Return the stretch of `text` with the most matches, as one line without control characters."""
    starts = [start for start, _stop in spans]
    near = [bisect_left(starts, start + _WIDTH - _BEFORE) - n for n, start in enumerate(starts)]
    first = starts[near.index(max(near))] if near else 0
    begin = _word_before(text, max(0, first - _BEFORE), first)
    end = min(len(text), begin + _WIDTH)
    line, marks = "…" if begin else "", []
    at = begin
    for start, stop in spans:
        if begin <= start < end:
            line += _flat(text[at:start], line)
            piece = _flat(text[start : min(stop, end)], line)
            marks.append((len(line), len(line) + len(piece)))
            line += piece
            at = min(stop, end)
    line += _flat(text[at:end], line)
    words = {text[start:stop].casefold(): text[start:stop] for start, stop in reversed(spans)}
    return Excerpt(
        line.rstrip() + ("…" if end < len(text) else ""), tuple(marks), tuple(reversed(words.values()))[:_MOST_WORDS]
    )


def _word_before(text: str, at: int, limit: int) -> int:
    """Return the position of a word's beginning at or after `at` and before `limit`; `at` if there is none."""
    if at == 0 or text[at - 1].isspace():
        return at
    space = re.compile(r"\s").search(text, at, limit)
    return space.end() if space else at


def _flat(text: str, before: str) -> str:
    line = re.sub(r"\s+", " ", clean(text))
    return line.lstrip() if not before or before.endswith((" ", "…")) else line
