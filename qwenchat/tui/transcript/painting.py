"""Paints the lines of the transcript that are visible: words, what is selected and found in them, the mark of the end.

A line that the mouse does not select in comes from its message's cache, which has the lines painted last. No widget
here.
"""

from collections.abc import Iterable, Mapping

from rich.style import Style
from textual.selection import Selection
from textual.strip import Strip

from qwenchat.tui.transcript.column import Column
from qwenchat.tui.transcript.drawing import end_mark
from qwenchat.tui.transcript.find import Finder
from qwenchat.tui.transcript.selecting import highlight, selection_row
from qwenchat.tui.transcript.viewport import Viewport

_SCREENS = 3
"""So many heights of the view one message's lines stay painted: one takes 10 KB, and an answer may have thousands."""


class Painter:
    """Paints what a viewport shows of a column; `finder` knows what is found there."""

    def __init__(self, column: Column, viewport: Viewport, finder: Finder) -> None:
        self._column, self._viewport, self._finder = column, viewport, finder

    def paint(
        self,
        rows: Iterable[int],
        base: Style,
        *,
        selected: str | None,
        keys: Mapping[str, str],
        text_selection: Selection | None,
    ) -> list[Strip]:
        """Return the lines in these rows of the view, over the base style.

        `selected` is the id of the selected message, `keys` are those that work on it, `text_selection` is what the
        mouse selected.
        """
        viewport, total = self._viewport, self._column.total
        width, top, below = viewport.columns, viewport.top, viewport.lines_below
        last = viewport.height - 1 if below else -1
        strips = []
        for row in rows:
            if top + row < total and width:
                strip = self._strip(top + row, width, base, selected=selected, keys=keys, text_selection=text_selection)
            else:
                strip = Strip.blank(width, base)
            if row == last and width:
                mark = self._end_mark()
                strip = Strip.join([strip.crop(0, max(width - mark.cell_length - 1, 0)), mark, Strip.blank(1, base)])
            strips.append(strip)
        return strips

    def is_end_mark(self, x: int, y: int) -> bool:
        """Whether a cell of the view is part of the mark that leads to the end."""
        viewport = self._viewport
        if y != viewport.height - 1 or not viewport.lines_below:
            return False
        return viewport.columns - 1 - self._end_mark().cell_length <= x < viewport.columns - 1

    def _strip(
        self,
        line: int,
        width: int,
        base: Style,
        *,
        selected: str | None,
        keys: Mapping[str, str],
        text_selection: Selection | None,
    ) -> Strip:
        column = self._column
        index = column.at(line)
        number = line - column.start(index)
        layout = column.layouts[index]
        lines = layout.lines if layout.lines is not None else column.lines(index)
        if number >= len(lines):
            return Strip.blank(width, base)
        marked = highlight(text_selection, index, number, lines[number], column.look.palette.selection)
        if marked is None and (cached := layout.strips.get(number)):
            return cached
        highlights = [marked] if marked else self._finder.highlights(index, number)
        is_selected = layout.message.id == selected
        strip = layout.strip(number, width, base, keys=keys, is_selected=is_selected, highlights=highlights)
        strip = strip.apply_offsets(0, selection_row(index, number))
        if marked is None:
            layout.strips[number] = strip
            if len(layout.strips) > _SCREENS * self._viewport.height:
                del layout.strips[next(iter(layout.strips))]
        return strip

    def _end_mark(self) -> Strip:
        return end_mark(self._viewport.lines_below, self._viewport.columns, self._column.look.palette)
