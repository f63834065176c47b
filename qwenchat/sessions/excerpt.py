"""The part of a text around what was found, with the found words marked as data, never as markup.

FTS5 itself says which words match, on the few texts that are shown: so that stems, phrases and beginnings are
marked by the rules that found them. Nothing is read from the conversations' database here.
"""

import re
import sqlite3
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from qwenchat.sessions.words import TOKENIZER, fold, tokens, unspaced
from qwenchat.text import clean

Span = tuple[int, int]

_BEFORE = 40
"""Characters shown before the first mark."""
_WIDTH = 200


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A clean line of text; `marks` are the (begin, end) of what was found in it."""

    text: str
    marks: tuple[Span, ...] = ()


def excerpts(texts: Sequence[str], match: str) -> list[Excerpt]:
    """Return an excerpt of each text; `match` is the FTS5 expression that found them, empty for beginnings."""
    marks = marked(texts, match) if match else [[] for _text in texts]
    return [_around(text, spans) for text, spans in zip(texts, marks, strict=True)]


def marked(texts: Sequence[str], match: str) -> list[list[Span]]:
    """Return where in each text the words of `match` stand."""
    found: list[list[Span]] = [[] for _text in texts]
    folded = [_fold_with_places(text) for text in texts]
    cut = [list(tokens(text)) for text, _places in folded]
    memory = sqlite3.connect(":memory:")
    try:
        memory.execute(f'CREATE VIRTUAL TABLE shown USING fts5 (text, tokenize = "{TOKENIZER}")')
        memory.executemany(
            "INSERT INTO shown (rowid, text) VALUES (?, ?)",
            ((n, " ".join(token for token, _start, _end in words)) for n, words in enumerate(cut)),
        )
        query = "SELECT rowid, highlight(shown, 0, '\x02', '\x03') FROM shown WHERE shown MATCH ?"
        for n, text in memory.execute(query, (match,)):
            places = folded[n][1]
            spans = _spans(text.split(" "), cut[n], match)
            found[n] = [(places[start], places[end]) for start, end in spans]
    finally:
        memory.close()
    return found


def _spans(shown: Sequence[str], words: Sequence[tuple[str, int, int]], match: str) -> Iterator[Span]:
    """Yield the places of marked tokens, those that touch as one."""
    inside, begun = False, None
    end = 0
    for word, (token, start, stop) in zip(shown, words, strict=True):
        inside = inside or "\x02" in word
        if inside:
            if begun is not None and start > end:
                yield begun, end
                begun = None
            begun = start if begun is None else begun
            # A single character is looked up as the beginning of a pair.
            end = start + 1 if unspaced(token) and token not in match else stop
        inside = inside and "\x03" not in word
    if begun is not None:
        yield begun, end


def _fold_with_places(text: str) -> tuple[str, Sequence[int]]:
    """Return the folded text and, for each of its characters and its end, the place in `text`."""
    folded = fold(text)
    if len(folded) == len(text):
        return folded, range(len(text) + 1)
    pieces = [fold(character) for character in text]
    places = [place for place, piece in enumerate(pieces) for _character in piece]
    return "".join(pieces), [*places, len(text)]


def _around(text: str, spans: Sequence[Span]) -> Excerpt:
    """Return the stretch of `text` with the most marks, on one line, control characters taken out."""
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
    return Excerpt(line.rstrip() + ("…" if end < len(text) else ""), tuple(marks))


def _word_before(text: str, at: int, limit: int) -> int:
    """Return where a word begins at or after `at`, but not after `limit`."""
    if at == 0 or text[at - 1].isspace():
        return at
    space = re.compile(r"\s").search(text, at, limit)
    return space.end() if space else at


def _flat(text: str, before: str) -> str:
    line = re.sub(r"\s+", " ", clean(text))
    return line.lstrip() if not before or before.endswith((" ", "…")) else line
