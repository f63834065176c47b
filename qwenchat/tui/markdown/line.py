"""One laid-out line: what is drawn, and how it is copied."""

from collections.abc import Iterable
from typing import NamedTuple

from rich.cells import cell_len
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
