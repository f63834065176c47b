"""Which lines of the column the transcript shows: it follows the end, or stays where the reader is.

Nothing is animated: a position in motion can't be corrected while messages above it are being measured.
"""

from collections.abc import Callable

from textual.geometry import Region, Size
from textual.scroll_view import ScrollView

from qwenchat.tui.textual_private.drawing import scroll_within
from qwenchat.tui.transcript.column import Column

Anchor = tuple[str, int]
"""The id of the message at the top of the view, and how many of its lines are above."""


class Viewport:
    """The scroll position of a widget that shows a column. `on_following` is called when `following` changes."""

    def __init__(self, widget: ScrollView, column: Column, on_following: Callable[[bool], object]) -> None:
        self._widget, self._column, self._on_following = widget, column, on_following
        self.following = True
        """Whether the view stays at the end as text comes."""
        self._settling = False
        self._end = 0
        """The most lines that there were since the last repaint of a part."""

    @property
    def top(self) -> int:
        """The line of the column that is at the top."""
        return round(self._widget.scroll_y)

    @property
    def height(self) -> int:
        """Lines of the view."""
        return self._widget.size.height

    @property
    def columns(self) -> int:
        """Cells that a line has, beside the scrollbar."""
        return max(self._widget.size.width - self._widget.styles.scrollbar_size_vertical, 0)

    @property
    def lines_below(self) -> int:
        """About how many lines lie below what is visible."""
        return max(0, self._column.total - self.top - self.height)

    def follow(self) -> None:
        """Go to the end and stay there."""
        self._set_following(True)
        self.settle()
        self._widget.refresh()

    def go_to(self, line: int) -> None:
        """Show this line of the column at the top, or as near as the end allows."""
        self._set_following(False)
        self.settle(line)
        self._set_following(self.lines_below == 0)
        self._widget.refresh()

    def scrolled(self) -> None:
        """Take in that the reader scrolled: leaving the end stops following, reaching it begins again."""
        if not self._settling:
            self.go_to(self.top)

    def settle(self, top: int | None = None) -> None:
        """Measure what is visible and put the view where it belongs: the end, `top`, or where the reader is."""
        widget, height = self._widget, self.height
        if not height:
            return
        self._settling = True
        try:
            if self.following:
                top = self._column.settle_end(height)
            else:
                top = self._column.settle(self.top if top is None else top, height)
            scroll_within(widget, Size(self.columns, self._column.total), top)
            self._end = max(self._end, self._column.total)
        finally:
            self._settling = False

    def anchor(self) -> Anchor | None:
        """Return where the reader is; None at the end that the view follows, and in an empty column."""
        if self.following or not len(self._column):
            return None
        index = self._column.at(self.top)
        return self._column.layouts[index].message.id, self.top - self._column.start(index)

    def is_in_reach(self, index: int) -> bool:
        """Whether a message has to be measured: it is in the view, above it, or the view follows the end."""
        return self.following or self._column.start(index) < self.top + self.height

    def shows(self, index: int) -> bool:
        """Whether a part of a message is in view."""
        start = self._column.start(index)
        return start < self.top + self.height and start + self._column.height(index) > self.top

    def show(self, index: int) -> None:
        """Bring a message into view, its beginning if it is taller than the view."""
        column, height = self._column, self.height
        column.measure(index)
        start = column.start(index)
        if start < self.top or column.height(index) >= height:
            self.go_to(start)
        elif start + column.height(index) > self.top + height:
            self.go_to(start + column.height(index) - height)

    def repaint(self, index: int, first: int = 0) -> None:
        """Repaint a message from its line `first` on, and what is or was below it."""
        y = max(self._column.start(index) + first - self.top, 0)
        end = min(self._end - self.top, self.height)
        self._end = self._column.total
        if y < end:
            self._widget.refresh(Region(0, y, self.columns, end - y))

    def redraw(self, index: int) -> None:
        """Draw one message again; its lines have not changed."""
        self._column.layouts[index].strips.clear()
        self.repaint(index)

    def redraw_all(self) -> None:
        """Draw all messages again; their lines have not changed."""
        for layout in self._column.layouts:
            layout.strips.clear()
        self._widget.refresh()

    def _set_following(self, following: bool) -> None:
        if following != self.following:
            self.following = following
            self._on_following(following)
