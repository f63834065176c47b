"""A column of messages in a view that scrolls: what is drawn where, following the end, selecting text.

`Transcript` builds on it what a conversation needs. Nothing is animated: a position in motion can't be corrected
while messages above it are being measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region, Size
from textual.message import Message as Event
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip
from textual.theme import Theme

from qwenchat.chat.message import Role
from qwenchat.i18n import _, ngettext
from qwenchat.tui.markdown.colours import Palette
from qwenchat.tui.markdown.wrap import Line
from qwenchat.tui.transcript.column import Column
from qwenchat.tui.transcript.drawing import Highlight, copied, place, placed, strip_of
from qwenchat.tui.transcript.look import GUTTER, Look


class Viewport(ScrollView, can_focus=True):
    """Draws the messages of a `Column` and keeps the reader's place."""

    ALLOW_SELECT = True
    DEFAULT_CSS = """
    Viewport {
        background: $background;
        color: $foreground;
        overflow-x: hidden;
        overflow-y: scroll;
        scrollbar-size-vertical: 1;
        scrollbar-background: $background;
        scrollbar-background-hover: $background;
        scrollbar-background-active: $background;
    }
    """

    @dataclass
    class Following(Event, namespace="transcript"):
        """The view began to follow the end, or stopped because the reader left it."""

        transcript: "Viewport"
        following: bool

        @property
        def control(self) -> "Viewport":
            """The sender."""
            return self.transcript

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.column = Column(Look(80, Palette()))
        self._following = True
        self._settling = False
        self._end = 0
        """The most lines that there were since the last repaint of a part."""
        self._base: Style | None = None
        """The view's own colours while it is being painted: Textual works them out anew whenever it is asked."""

    @property
    def following(self) -> bool:
        """Whether the view stays at the end as text comes."""
        return self._following

    @property
    def columns(self) -> int:
        """Cells that a line has, beside the scrollbar."""
        return max(self.size.width - self.styles.scrollbar_size_vertical, 0)

    @property
    def lines_below(self) -> int:
        """About how many lines lie below what is visible."""
        return max(0, self.column.total - round(self.scroll_y) - self.size.height)

    def follow(self) -> None:
        """Go to the end and stay there."""
        self._set_following(True)
        self.settle()
        self.refresh()

    def go_to(self, line: int) -> None:
        """Show this line of the column at the top, or as near as the end allows."""
        self._set_following(False)
        self.settle(line)
        self._set_following(self.lines_below == 0)
        self.refresh()

    def settle(self, top: int | None = None) -> None:
        """Measure what is visible and put the view where it belongs: the end, `top`, or where the reader is."""
        height = self.size.height
        if not height:
            return
        self._settling = True
        try:
            if self._following:
                top = self.column.settle_end(height)
            else:
                top = self.column.settle(round(self.scroll_y) if top is None else top, height)
            self.virtual_size = Size(self.columns, self.column.total)
            self._end = max(self._end, self.column.total)
            self.scroll_target_y = self.scroll_y = top
        finally:
            self._settling = False

    def anchor_of_view(self) -> tuple[str, int] | None:
        """Return the id of the message at the top, and how many of its lines are above."""
        if not len(self.column):
            return None
        top = round(self.scroll_y)
        index = self.column.at(top)
        return self.column.shown[index].message.id, top - self.column.start(index)

    def redraw(self, index: int) -> None:
        """Draw one message anew; its lines have not changed."""
        self.column.shown[index].strips.clear()
        self.refresh_message(index)

    def redraw_all(self) -> None:
        """Draw every message anew; their lines have not changed."""
        for shown in self.column.shown:
            shown.strips.clear()
        self.refresh()

    def refresh_message(self, index: int, first: int = 0) -> None:
        """Repaint a message from its line `first` on, and what is or was below it."""
        scrolled = round(self.scroll_y)
        y = max(self.column.start(index) + first - scrolled, 0)
        end = min(self._end - scrolled, self.size.height)
        self._end = self.column.total
        if y < end:
            self.refresh(Region(0, y, self.size.width, end - y))

    # For classes below to say

    def is_selected(self, index: int) -> bool:
        """Whether to mark a message as selected."""
        return False

    def dressed(self, index: int, number: int, line: Line) -> Line:
        """Return a line as it is drawn here; what is added at its end is neither found nor copied."""
        return line

    def highlights(self, index: int, line: int) -> Sequence[Highlight]:
        """Return what is to be highlighted in a line."""
        return ()

    # Textual's side

    def on_mount(self) -> None:
        """Take the theme's colours and follow its changes."""
        self.app.theme_changed_signal.subscribe(self, self._on_theme)
        self._on_theme(self.app.current_theme)

    def on_resize(self) -> None:
        """Lay out for the new width; the reader stays at the same part of the same message."""
        column = self.column
        if column.look.width == self.columns:
            self.settle()
            return
        anchor = None if self._following else self.anchor_of_view()
        part = 0.0
        index = 0
        if anchor and (found := column.position(anchor[0])) is not None:
            index = found
            part = anchor[1] / max(column.height(index), 1)
        self.screen.clear_selection()
        column.draw_with(Look(self.columns, column.look.palette))
        if anchor:
            column.measure(index)
            self.settle(column.start(index) + round(part * column.height(index)))
        else:
            self.settle()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Measure what comes into view; leaving the end stops following, reaching it begins again."""
        super().watch_scroll_y(old_value, new_value)
        if not self._settling and round(old_value) != round(new_value):
            self._set_following(False)
            self.settle()
            self._set_following(self.lines_below == 0)
            self.refresh()

    def scroll_to(self, *arguments: Any, **options: Any) -> None:
        """Scroll at once."""
        super().scroll_to(*arguments, **(options | {"animate": False}))

    def action_scroll_end(self) -> None:
        """Go to the end and follow it."""
        self.follow()

    def render_lines(self, crop: Region) -> list[Strip]:
        """Return the lines of a part of the view."""
        self._base = self.rich_style
        try:
            return super().render_lines(crop)
        finally:
            self._base = None

    def render_line(self, y: int) -> Strip:
        """Return a visible line."""
        width, base = self.columns, self._base or self.rich_style
        line = round(self.scroll_y) + y
        if line >= self.column.total or not width:
            return Strip.blank(width, base)
        strip = self._strip(line, width, base)
        if y == self.size.height - 1 and self.lines_below:
            mark = self._mark()
            strip = Strip.join([strip.crop(0, max(width - mark.cell_length - 1, 0)), mark, Strip.blank(1, base)])
        return strip

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """Return the text that the mouse selected, as paragraphs, without decoration."""
        column = self.column
        if selection.start is None and selection.end is None:
            return "\n\n".join(shown.message.text for shown in column.shown), "\n"
        first, first_line = placed(selection.start.y) if selection.start else (0, 0)
        last, last_line = placed(selection.end.y) if selection.end else (len(column) - 1, 1 << 19)
        parts = []
        for index in range(first, min(last, len(column) - 1) + 1):
            lines = column.lines(index)
            at_first, at_last = index == first, index == last
            start = selection.start.x - GUTTER if selection.start and at_first else None
            end = selection.end.x - GUTTER if selection.end and at_last else None
            begin, stop = first_line if at_first else 0, last_line if at_last else len(lines) - 1
            parts.append(copied(lines, begin, stop, start, end))
        return "\n".join(parts), "\n"

    def selection_updated(self, selection: Selection | None) -> None:
        """Show what is selected."""
        self.refresh()

    def on_mark(self, x: int, y: int) -> bool:
        """Whether the pointer is on the mark that leads to the end."""
        if y != self.size.height - 1 or not self.lines_below:
            return False
        return self.columns - 1 - self._mark().cell_length <= x < self.columns - 1

    def _strip(self, line: int, width: int, base: Style) -> Strip:
        index = self.column.at(line)
        number = line - self.column.start(index)
        shown = self.column.shown[index]
        lines = shown.lines if shown.lines is not None else self.column.lines(index)
        if number >= len(lines):
            return Strip.blank(width, base)
        selection = self.text_selection
        span = selection.get_span(place(index, number)) if selection else None
        if span is None and (cached := shown.strips.get(number)):
            return cached
        palette = self.column.look.palette
        own = shown.above <= number < len(lines) - 1
        if own and shown.message.role is Role.USER:
            base = base + palette.question
        gutter = Segment("▌ ", palette.selected) if own and self.is_selected(index) else Segment(" " * GUTTER)
        drawn = self.dressed(index, number, lines[number])
        if span is not None:
            style = self.screen.get_component_rich_style("screen--selection")
            text = sum(len(segment.text) for segment in lines[number].segments)
            start, end = span[0] - GUTTER, text if span[1] < 0 else span[1] - GUTTER
            strip = strip_of(drawn, width, gutter, base, [(max(start, 0), max(end, 0), style)])
            return strip.apply_offsets(0, place(index, number))
        strip = strip_of(drawn, width, gutter, base, self.highlights(index, number))
        strip = strip.apply_offsets(0, place(index, number))
        shown.strips[number] = strip
        return strip

    def _mark(self) -> Strip:
        below = self.lines_below
        text = ngettext(" ↓ {count:,} line below · End ", " ↓ {count:,} lines below · End ", below).format(count=below)
        if cell_len(text) > self.columns // 2:
            text = _(" ↓ End ")
        return Strip([Segment(text, self.column.look.palette.mark)])

    def _set_following(self, following: bool) -> None:
        if following != self._following:
            self._following = following
            self.post_message(self.Following(self, following))

    def _on_theme(self, _theme: Theme) -> None:
        palette = Palette.of(self.app.theme_variables, colour=not self.app.no_color)
        self.column.draw_with(Look(self.column.look.width, palette))
        self.settle()
        self.refresh()
