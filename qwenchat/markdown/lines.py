"""Styled text as lines: a `Line` is what is drawn, found and copied.

`qwenchat.text.wrap` decides where lines break; here the styles are cut along.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style

from qwenchat.text.wrap import Cut, exact_cuts, paragraph_cuts

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


def wrap(runs: Sequence[Run], width: int) -> list[Line]:
    """Return the runs of one paragraph as lines of at most `width` cells; one empty line where there are none."""
    return _laid(runs, width, paragraph_cuts)


def chop(runs: Sequence[Run], width: int) -> list[Line]:
    """Return the runs as lines cut at exactly `width` cells, as code is; one empty line where there are none."""
    return _laid(runs, width, exact_cuts)


def _laid(runs: Sequence[Run], width: int, cuts_of: Callable[[str, int], list[Cut]]) -> list[Line]:
    total = sum(cell_len(text) for text, _ in runs)
    if total <= max(width, 2):
        return [Line(tuple(Segment(*run) for run in runs if run[0]), total)]
    cuts = cuts_of("".join(text for text, _ in runs), width)
    return [
        _fitted(segments, max(width, 2), glue) for segments, (_, _, glue) in zip(_slices(runs, cuts), cuts, strict=True)
    ]


def _slices(runs: Sequence[Run], cuts: Sequence[Cut]) -> Iterator[list[Segment]]:
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
