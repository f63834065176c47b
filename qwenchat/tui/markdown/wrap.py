"""Breaks text into lines by display width, in any script; a `Line` is what is drawn, found and copied.

Lines break at spaces and between Chinese, Japanese and wide characters, never before closing punctuation nor
after opening punctuation where a break elsewhere exists. A word wider than the line is cut between graphemes.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size, split_graphemes
from rich.segment import Segment
from rich.style import Style

Run = tuple[str, Style]
"""A piece of text in one style, without newlines."""


class Line(NamedTuple):
    """A line that fits the width it was laid out for."""

    segments: tuple[Segment, ...]
    width: int
    """In cells."""
    margin: int = 0
    """Characters at the start that are decoration: never found, never copied."""
    glue: str | None = None
    """What joins the next line to this one where a wrapped line is copied whole; None: a newline."""

    @property
    def text(self) -> str:
        """The words, without decoration."""
        return "".join(segment.text for segment in self.segments)[self.margin :]


BLANK = Line((), 0)


def line_of(runs: Iterable[Run], margin: int = 0, glue: str | None = None) -> Line:
    """Return runs as a line."""
    segments = tuple(Segment(text, style) for text, style in runs if text)
    return Line(segments, sum(cell_len(segment.text) for segment in segments), margin, glue)


def prefixed(lines: Iterable[Line], first: Run, rest: Run) -> list[Line]:
    """Return lines behind a bullet (`first`) and its hanging indent (`rest`).

    The indent is decoration, as is a bar, which is the same beside every line; a bullet belongs to the words.
    """
    head, tail = Segment(*first), Segment(*rest)
    head_width, tail_width = cell_len(first[0]), cell_len(rest[0])
    out: list[Line] = []
    for line in lines:
        if out:
            margin = line.margin + len(rest[0])
            out.append(Line((tail, *line.segments), line.width + tail_width, margin, line.glue))
        else:
            margin = line.margin + len(first[0]) if first == rest else 0
            out.append(Line((head, *line.segments), line.width + head_width, margin, line.glue))
    return out


_WIDE = (
    "\u1100-\u115f\u2e80-\u2fff\u3001-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe4f\uff01-\uff60"
    "\U0001f300-\U0001faff\U00020000-\U0003fffd"
)
_OPEN = "（《「『【〔〈“‘［｛([{"
_CLOSE = "，。、；：？！）》」』】〕〉”’…—～·％］｝,.!?;:)\\]}%"
_JOIN = (
    "\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u20d0-\u20ff\u3099\u309a\ufe00-\ufe0f\ufe20-\ufe2f\U0001f3fb-\U0001f3ff"
)
_UNIT = re.compile(
    f"[ \t]+"
    f"|[{_OPEN}]*[{_WIDE}](?:[{_JOIN}]|\u200d.)*[{_CLOSE}]*"
    f"|(?:(?![{_WIDE}])(?:[^ \t\u200d]|\u200d.?))+[{_CLOSE}]*"
)
# A joiner outside an emoji sequence is drawn as nothing by terminals and measured differently by each of them.
_STRAY_JOINER = re.compile(
    "(?<![\u2190-\u2bff\ufe0f\U0001f000-\U0001faff])\u200d|\u200d(?![\u2190-\u2bff\U0001f000-\U0001faff])"
)
_INVISIBLE = re.compile("[\u200b\u200e\u200f\u2060\ufeff\u00ad\u061c]")

_Cut = tuple[int, int, str | None]
"""Start, end and glue of a line."""


def drawable(text: str, tab: int = 4) -> str:
    """Return clean text without what has no fixed width: tabs, stray joiners, direction marks, soft hyphens."""
    if text.isascii():
        return text.expandtabs(tab) if "\t" in text else text
    return _STRAY_JOINER.sub("", _INVISIBLE.sub("", text.expandtabs(tab)))


def wrap(runs: Sequence[Run], width: int) -> list[Line]:
    """Return the runs of one paragraph as lines of at most `width` cells; one empty line where there are none."""
    width = max(width, 2)
    text = "".join(run[0] for run in runs)
    if not text:
        return [BLANK]
    cells = sum(cell_len(run[0]) for run in runs)
    if cells <= width:
        return [Line(tuple(Segment(*run) for run in runs if run[0]), cells)]
    lines: list[Line] = []
    cuts = _cuts(text, width)
    for segments, (_, _, glue) in zip(_slices(runs, cuts), cuts, strict=True):
        lines.append(_fitted(segments, width, glue))
    return lines


def chop(runs: Sequence[Run], width: int) -> list[Line]:
    """Return the runs as lines cut at exactly `width` cells, as code is."""
    width = max(width, 2)
    cells = sum(cell_len(run[0]) for run in runs)
    if cells <= width:
        return [Line(tuple(Segment(*run) for run in runs if run[0]), cells)]
    text = "".join(run[0] for run in runs)
    pieces = _pieces(text, 0, width, width)
    cuts: list[_Cut] = [(start, end, "" if end < len(text) else None) for start, end in pieces]
    return [_fitted(segments, width, glue) for segments, (_, _, glue) in zip(_slices(runs, cuts), cuts, strict=True)]


def _cuts(text: str, width: int) -> list[_Cut]:
    cuts: list[_Cut] = []
    start = end = used = 0
    gap = ""
    for match in _UNIT.finditer(text):
        unit = match.group()
        if unit[0] in " \t":
            gap = unit
            continue
        cells = len(unit) if unit.isascii() else cell_len(unit)
        if end > start and used + len(gap) + cells > width:
            cuts.append((start, end, gap))
            start, used = match.start(), 0
        elif end == start and not cuts:
            used = min(len(gap), width - 1)
            start = match.start() - used
        else:
            used += len(gap)
        if used + cells > width:
            *pieces, (last, stop) = _pieces(unit, 0, width - used, width)
            cuts += [(start if not i else match.start() + a, match.start() + b, "") for i, (a, b) in enumerate(pieces)]
            if pieces:
                start = match.start() + last
            used, cells = 0, cell_len(unit[last:stop])
        used, end, gap = used + cells, match.end(), ""
    cuts.append((start, max(end, start), None))
    return cuts


def _pieces(text: str, start: int, room: int, width: int) -> list[tuple[int, int]]:
    """Cut text between graphemes: a first piece of `room` cells, then pieces of `width`."""
    pieces: list[tuple[int, int]] = []
    used = 0
    for at, _end, cells in split_graphemes(text)[0]:
        if used + cells > room and at > start:
            pieces.append((start, at))
            start, used, room = at, 0, width
        used += cells
    pieces.append((start, len(text)))
    return pieces


def _slices(runs: Sequence[Run], cuts: Sequence[_Cut]) -> Iterator[list[Segment]]:
    """Yield the segments between each start and end; cuts are in order."""
    at, index = 0, 0
    for start, end, _ in cuts:
        segments: list[Segment] = []
        while at + len(runs[index][0]) <= start and index + 1 < len(runs):
            at += len(runs[index][0])
            index += 1
        offset, here = at, index
        while here < len(runs) and offset < end:
            text, style = runs[here]
            if piece := text[max(start - offset, 0) : end - offset]:
                segments.append(Segment(piece, style))
            offset += len(text)
            here += 1
        yield segments


def _fitted(segments: list[Segment], width: int, glue: str | None) -> Line:
    """Return the line; what measures wider in pieces than as a whole is trimmed."""
    cells = sum(cell_len(segment.text) for segment in segments)
    while cells > width and segments:
        last = segments.pop()
        cells -= (had := cell_len(last.text))
        if cells < width:
            segments.append(Segment(set_cell_size(last.text, min(had, width - cells)), last.style))
            cells = sum(cell_len(segment.text) for segment in segments)
            break
    return Line(tuple(segments), cells, 0, glue)
