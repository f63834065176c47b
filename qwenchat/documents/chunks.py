"""Divides a document into chunks: what a search finds, and what a model judges at once.

Chunks follow each other without a gap, so that joined they are the document. A chunk begins at a heading or a page
where it can; a longer stretch is divided into about equal parts between paragraphs, else between lines or sentences,
else between words. Tokens are estimates: which model will read the chunks is not known here.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from qwenchat.documents.document import PAGE_BREAK, Document
from qwenchat.text.clusters import boundary
from qwenchat.text.token_estimate import estimated_tokens

LIMIT = 512
"""Tokens."""
_SMALL = 4
"""A stretch below a heading, or a page, of less than the limit divided by this is joined with the next one."""
_LONGEST_CHARACTER = 64
"""Code points; a longer cluster is no character that anybody wrote."""
_BREAK = re.compile(
    rf"(?P<page>{PAGE_BREAK})|(?P<paragraph>\n(?:[^\S\n\f]*\n)+)|(?P<line>\n)"
    "|(?P<sentence>[.!?…][\"')\\]”’]*[^\\S\\n\\f]+(?=[^a-z\\s])|[。！？；…]+[”’」』）》]*[^\\S\\n\\f]*)"
)
_BETWEEN_WORDS = re.compile(r"[\s,;|，、：]+(?=[^\s,;|，、：])")
_CHINESE = re.compile("[\u3400-\u9fff，、]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of a document, which is `document.text[start:end]`."""

    number: int
    """The first is 0."""
    start: int
    end: int
    page: int | None
    """Where it begins, the first being 1; None for a document without pages."""
    heading: str
    """What it begins with or stands below; empty where the document has no headings."""
    text: str


class _Rank(IntEnum):
    """How well a text can be divided at a place."""

    WORD = 0
    """Between words, or in a long one; also where a line of a paragraph ends."""
    SENTENCE = 1
    """Between sentences, or between lines that are no paragraph, as in code and tables."""
    PARAGRAPH = 2
    SECTION = 3
    """Where a page or what is below a heading ends."""


@dataclass(frozen=True, slots=True)
class _Atom:
    """A piece that is not divided any more."""

    end: int
    tokens: float
    rank: _Rank
    """Of its end."""


def chunks_of(document: Document, limit: int = LIMIT) -> list[Chunk]:
    """Return the chunks of a document, each of at most `limit` tokens by `text.token_estimate`."""
    ends = [end for section in _sections(document, limit) for end in _ends(section, limit)]
    starts = [0, *ends]
    return [_chunk(document, number, start, end) for number, (start, end) in enumerate(zip(starts, ends, strict=False))]


def _chunk(document: Document, number: int, start: int, end: int) -> Chunk:
    text = document.text[start:end]
    place = start + len(text) - len(text.lstrip())
    place = place if place < end else start
    return Chunk(
        number=number,
        start=start,
        end=end,
        page=document.page_at(place),
        heading=document.heading_at(place),
        text=text,
    )


def _sections(document: Document, limit: int) -> Iterator[list[_Atom]]:
    """Yield what no chunk reaches beyond: pages and what stands below a heading, small ones joined."""
    section: list[_Atom] = []
    tokens = 0.0
    for atom in _atoms(document, limit):
        section.append(atom)
        tokens += atom.tokens
        if atom.rank is _Rank.SECTION and tokens >= limit / _SMALL:
            yield section
            section, tokens = [], 0.0
    if section:
        yield section


def _ends(section: Sequence[_Atom], limit: int) -> Iterator[int]:
    """Yield where the chunks of a section end: as few as possible, of about equal length."""
    left = sum(atom.tokens for atom in section)
    first = 0
    while left > limit:
        wanted = left / math.ceil(left / limit)
        best, value, tokens, until = first, (-1, 0.0), 0.0, 0.0
        for at in range(first, len(section)):
            tokens += section[at].tokens
            if tokens > limit:
                break
            rank = section[at].rank if tokens >= wanted / 2 else -1
            if (rank, -abs(tokens - wanted)) >= value or at == first:
                best, value, until = at, (rank, -abs(tokens - wanted)), tokens
        yield section[best].end
        first, left = best + 1, left - until
    if first < len(section):
        yield section[-1].end


def _atoms(document: Document, limit: int) -> Iterator[_Atom]:
    """Yield sentences and lines, and pieces of those that are longer than the limit."""
    text, start = document.text, 0
    headings = {place for place, _heading in document.headings}
    for found in _BREAK.finditer(text):
        rank = _Rank.SECTION if found.end() in headings else _rank(text, found)
        yield from _pieces(text, start, _Atom(found.end(), _tokens(text, start, found.end()), rank), limit)
        start = found.end()
    if start < len(text):
        last = _Atom(len(text), _tokens(text, start, len(text)), _Rank.SECTION)
        yield from _pieces(text, start, last, limit)


def _tokens(text: str, start: int, end: int) -> float:
    """Return the tokens of a piece: together, pieces never take more than these sums."""
    goes_on = start and text[start - 1] != "\n" and (text[start - 1].isspace() or text[start - 1].isalpha())
    return estimated_tokens(text[start - 1 if goes_on else start : end])  # a run of letters or spaces counts as one


def _rank(text: str, found: re.Match[str]) -> _Rank:
    match found.lastgroup:
        case "page":
            return _Rank.SECTION
        case "paragraph":
            return _Rank.PARAGRAPH
        case "line" if _is_wrapped(text[max(0, found.start() - 1) : found.end() + 1]):
            return _Rank.WORD
        case _:
            return _Rank.SENTENCE


def _is_wrapped(around: str) -> bool:
    """Return whether a sentence goes on in the next line, given the characters around the newline."""
    if len(around) < 3:
        return False
    before, after = around[0], around[-1]
    if _CHINESE.match(after):
        return _CHINESE.match(before) is not None
    return after.islower() and (before.isalnum() or before in ",-")


def _pieces(text: str, start: int, atom: _Atom, limit: int) -> Iterator[_Atom]:
    """Yield an atom or, as one without a sentence's end may be as long as the document, pieces within the limit."""
    if atom.tokens <= limit:
        yield atom
        return
    width = 4 * limit
    while start < atom.end:
        end = min(atom.end, start + width)
        while (tokens := _tokens(text, start, end)) > limit:
            end = start + (end - start) // 2
        if end < atom.end:
            end = _between(text, start, end)
            tokens = _tokens(text, start, end)
        yield _Atom(end, tokens, atom.rank if end == atom.end else _Rank.WORD)
        start, width = end, min(4 * limit, 2 * (end - start))  # the next piece is likely to be as dense


def _between(text: str, start: int, end: int) -> int:
    """Return a place before `end`, or there, that is between words, or at least between characters."""
    words = [found.end() for found in _BETWEEN_WORDS.finditer(text, (start + end) // 2, end)]
    if words:
        return words[-1]
    begin = max(start, end - _LONGEST_CHARACTER)
    place = begin + boundary(text[begin : end + 1], end - begin)
    return place if place > begin else end
