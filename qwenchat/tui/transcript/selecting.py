"""What the mouse selects in messages: a drag, the word at a double click, the paragraph at a triple one.

Labels, margins and rules are never part of it. Textual knows places in a widget by character and row; here a row is
a message and one of its lines, however heights change. No widget here.
"""

import re
from collections.abc import Callable, Sequence

from rich.cells import cell_len
from rich.style import Style
from textual.geometry import Offset
from textual.selection import Selection

from qwenchat.markdown.lines import Line
from qwenchat.tui.transcript.drawing import GUTTER, Highlight

_LINES = 1 << 20
"""More lines than a message ever has."""
_HAN = "\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003fffd"
_WORD = f"[{_HAN}]+|[^\\W{_HAN}]+(?:['’][^\\W{_HAN}]+)*"


def selection_row(message: int, line: int) -> int:
    """Return the row by which Textual's text selection knows a line of a message."""
    return message * _LINES + line


def clicked(lines: Sequence[Line], *, message: int, line: int, cell: int, clicks: int) -> Selection | None:
    """Return the word that was clicked twice or the paragraph that was clicked more often; None where none is.

    `lines` are those of the message; `cell` is counted from the left edge of the view.
    """
    first, last = _paragraph(lines, line)
    starts, text = [], ""
    for number in range(first, last + 1):
        starts.append(len(text))
        text += lines[number].text + (lines[number].glue or "")
    start, end = 0, len(text)
    if clicks == 2:
        at = starts[line - first] + _character(lines[line], cell - GUTTER)
        word = next((match for match in re.finditer(_WORD, text) if match.start() <= at < match.end()), None)
        start, end = word.span() if word else (0, 0)
    if start == end:
        return None
    head = max(number for number, begin in enumerate(starts) if begin <= start)
    tail = max(number for number, begin in enumerate(starts) if begin < end)
    return Selection(
        Offset(GUTTER + lines[first + head].margin + start - starts[head], selection_row(message, first + head)),
        Offset(GUTTER + lines[first + tail].margin + end - starts[tail], selection_row(message, first + tail)),
    )


def highlight(selection: Selection | None, message: int, number: int, line: Line, style: Style) -> Highlight | None:
    """Return what of a line is selected; None for nothing."""
    span = selection.get_span(selection_row(message, number)) if selection else None
    if span is None:
        return None
    end = sum(len(segment.text) for segment in line.segments) if span[1] < 0 else span[1] - GUTTER
    return max(span[0] - GUTTER, line.margin), max(end, 0), style


def selected_text(selection: Selection, count: int, lines_of: Callable[[int], Sequence[Line]]) -> str:
    """Return the words that are selected in `count` messages, wrapped lines as the paragraphs that they are."""
    first, first_line = divmod(selection.start.y, _LINES) if selection.start else (0, 0)
    last, last_line = divmod(selection.end.y, _LINES) if selection.end else (count - 1, _LINES)
    parts = []
    for message in range(first, min(last, count - 1) + 1):
        begin = (first_line, selection.start.x - GUTTER) if selection.start and message == first else (0, 0)
        end = (last_line, selection.end.x - GUTTER) if selection.end and message == last else (_LINES, 0)
        parts.append(_between(lines_of(message), begin, end))
    return "\n\n".join(part.strip("\n") for part in parts if part.strip("\n"))


def _between(lines: Sequence[Line], begin: tuple[int, int], end: tuple[int, int]) -> str:
    """Return the words from one line and character to another."""
    text = ""
    for number in range(begin[0], min(end[0] + 1, len(lines))):
        line = lines[number]
        whole = "".join(segment.text for segment in line.segments)
        if whole and line.margin >= len(whole):
            continue
        low = max(begin[1] if number == begin[0] else 0, line.margin)
        high = max(end[1], low) if number == end[0] else len(whole)
        text += whole[low:high].rstrip()
        if number < end[0]:
            text += "\n" if line.glue is None else line.glue
    return text


def _paragraph(lines: Sequence[Line], line: int) -> tuple[int, int]:
    """Return the first and the last of the lines that were wrapped from one."""
    first = last = line
    while first and lines[first - 1].glue is not None:
        first -= 1
    while last + 1 < len(lines) and lines[last].glue is not None:
        last += 1
    return first, last


def _character(line: Line, cell: int) -> int:
    """Return which of a line's characters, decoration not counted, is in a cell; one past the last one for no other."""
    whole = "".join(segment.text for segment in line.segments)
    width = 0
    for at, character in enumerate(whole):
        width += cell_len(character)
        if cell < width:
            return at - line.margin
    return len(whole)
