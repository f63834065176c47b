"""Lines to strips: the gutter, the background to the right edge, highlights, and where a mouse selects.

Also `Look`, what all messages are drawn with. It is needed before the first message is, so nothing here imports what
reads Markdown.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from qwenchat.markdown.lines import Line
from qwenchat.markdown.palette import Palette

GUTTER = 2
"""Cells left of every line, for the mark of the selected message."""
WIDEST = 120
"""Cells beyond which lines of prose are hard to read."""
Highlight = tuple[int, int, Style]
"""First and end character, and the style laid over them."""
_LINES = 1 << 20
"""More lines than a message ever has."""


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """A width and colours. Another width or theme is another look."""

    width: int
    """Of the view, in cells."""
    palette: Palette

    @property
    def measure(self) -> int:
        """The width of the words, in cells."""
        return min(self.width - GUTTER - 1, WIDEST)


def selection_row(message: int, line: int) -> int:
    """Return the row by which Textual's text selection knows a line of a message, however heights change."""
    return message * _LINES + line


def selected_line(row: int) -> tuple[int, int]:
    """Return the message and line of a selection's row."""
    return divmod(row, _LINES)


def strip_of(line: Line, width: int, gutter: Segment, base: Style, highlights: Sequence[Highlight] = ()) -> Strip:
    """Return a line behind its gutter, padded to the width, all over the base style."""
    segments = [gutter, *restyled(line.segments, highlights)]
    fill = width - gutter.cell_length - line.width
    if fill > 0:
        segments.append(Segment(" " * fill))
    return Strip(Segment.apply_style(segments, base), gutter.cell_length + line.width + max(fill, 0))


def restyled(segments: Iterable[Segment], highlights: Sequence[Highlight]) -> Iterable[Segment]:
    """Yield segments with styles laid over spans of characters; spans are in order and do not overlap."""
    at = 0
    waiting = list(reversed(highlights))
    for text, style, _ in segments:
        end = at + len(text)
        here = at
        while waiting and waiting[-1][0] < end:
            first, last, over = waiting[-1]
            first, stop = max(first, here), min(last, end)
            if first > here:
                yield Segment(text[here - at : first - at], style)
            if stop > first:
                yield Segment(text[first - at : stop - at], (style or Style.null()) + over)
            here = max(stop, here)
            if last > end:
                break
            waiting.pop()
        if here < end:
            yield Segment(text[here - at :], style)
        at = end


def selected_text(lines: Sequence[Line], first: int, last: int, *, start: int | None, end: int | None) -> str:
    """Return the words of lines `first` to `last`, from character `start` of the first to `end` of the last.

    Wrapped lines come back as the paragraph they are.
    """
    text = ""
    for number in range(first, min(last + 1, len(lines))):
        line = lines[number]
        whole = "".join(segment.text for segment in line.segments)
        low = max(start or 0, line.margin) if number == first else line.margin
        high = len(whole) if number != last or end is None else max(end, low)
        text += whole[low:high].rstrip()
        if number < last:
            text += "\n" if line.glue is None else line.glue
    return text
