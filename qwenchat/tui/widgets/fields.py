"""Where a user writes: a line and an area, in which the caret steps over what is seen as one character.

Textual's own step over code points, which takes emoji, flags and letters with marks apart. Every place where text is
typed uses these two, never Textual's.
"""

from typing import ClassVar

from rich.segment import Segment
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Offset
from textual.strip import Strip
from textual.widgets import Input, OptionList, TextArea
from textual.widgets.input import Selection
from textual.widgets.text_area import EditResult, Location

from qwenchat.text.clusters import boundary, next_boundary, previous_boundary
from qwenchat.tui.textual_private.drawing import SteadyTextArea
from qwenchat.tui.textual_private.widgets import own_action


class LineField(Input):
    """One line of text."""

    async def on_key(self, event: events.Key) -> None:
        """Carry out a key of this field in its turn."""
        await _carry_out(self, event)

    def validate_selection(self, selection: Selection) -> Selection:
        """Return a selection that begins and ends between clusters."""
        start, end = super().validate_selection(selection)
        return Selection(boundary(self.value, start), boundary(self.value, end))

    def action_cursor_left(self, select: bool = False) -> None:
        """Go left by a cluster."""
        start, end = self.selection
        if select or start == end:
            target = previous_boundary(self.value, end)
            self.selection = Selection(start if select else target, target)
        else:
            super().action_cursor_left(select)

    def action_cursor_right(self, select: bool = False) -> None:
        """Go right by a cluster, or take the suggestion."""
        start, end = self.selection
        if (select or start == end) and end < len(self.value):
            target = next_boundary(self.value, end)
            self.selection = Selection(start if select else target, target)
        else:
            super().action_cursor_right(select)

    def action_delete_left(self) -> None:
        """Delete the selection or the cluster to the left."""
        if self.selection.is_empty:
            self.delete(previous_boundary(self.value, self.cursor_position), self.cursor_position)
        else:
            self.delete_selection()

    def action_delete_right(self) -> None:
        """Delete the selection or the cluster to the right."""
        if self.selection.is_empty:
            self.delete(self.cursor_position, next_boundary(self.value, self.cursor_position))
        else:
            self.delete_selection()

    def render_line(self, y: int) -> Strip:
        """Return the line, with clusters whole."""
        return _with_whole_clusters(super().render_line(y))


class Filter(LineField):
    """Filters the OptionList in the same container: arrows move in it, Enter chooses the highlighted line."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(key, f"move('{move}')", show=False)
        for key, move in (
            ("up", "cursor_up"),
            ("down", "cursor_down"),
            ("pageup", "page_up"),
            ("pagedown", "page_down"),
            ("enter", "select"),
        )
    ]

    async def action_move(self, move: str) -> None:
        """Do in the list what the key would do there."""
        if self.parent:
            await self.parent.query_one(OptionList).run_action(move)


class AreaField(SteadyTextArea):
    """Lines of text."""

    async def on_key(self, event: events.Key) -> None:
        """Carry out a key of this field in its turn."""
        await _carry_out(self, event)

    def clamp_visitable(self, location: Location) -> Location:
        """Return the nearest place between clusters."""
        row, column = super().clamp_visitable(location)
        return row, boundary(self.document[row], column)

    def get_cursor_left_location(self) -> Location:
        """Return the place a cluster to the left."""
        row, column = self.cursor_location
        return (row, previous_boundary(self.document[row], column)) if column else super().get_cursor_left_location()

    def get_cursor_right_location(self) -> Location:
        """Return the place a cluster to the right."""
        row, column = self.cursor_location
        line = self.document[row]
        return (row, next_boundary(line, column)) if column < len(line) else super().get_cursor_right_location()

    def get_cursor_word_right_location(self) -> Location:
        """Return the place a word to the right."""
        return self._cluster_end(super().get_cursor_word_right_location())

    def delete(self, start: Location, end: Location, *, maintain_selection_offset: bool = True) -> EditResult:
        """Delete text, and whole clusters only."""
        start, end = sorted((start, end))
        start, end = self.clamp_visitable(start), self._cluster_end(end)
        return super().delete(start, end, maintain_selection_offset=maintain_selection_offset)

    def _cluster_end(self, location: Location) -> Location:
        row, column = location
        if row >= self.document.line_count:
            return location
        line = self.document[row]
        begins = boundary(line, column)
        return row, column if begins == column else next_boundary(line, begins)

    @property
    def cursor_screen_offset(self) -> Offset:
        """Where the caret is, as the text is wrapped now."""
        x, y = self.wrapped_document.location_to_offset(self.cursor_location)
        scroll_x, scroll_y = self.scroll_offset
        region = self.content_region
        return Offset(region.x + x - scroll_x + self.gutter_width, region.y + y - scroll_y)

    def render_line(self, y: int) -> Strip:
        """Return a line, with clusters whole."""
        return _with_whole_clusters(super().render_line(y))


async def _carry_out(field: Input | TextArea, event: events.Key) -> None:
    """Carry out a key that a field binds, at once.

    Textual carries it out when the event has risen to the program, which is after the characters typed behind it.
    """
    if event.is_printable:
        return
    if field.screen.focused is field:
        bound = field.screen.active_bindings.get(event.key)
        action = bound.binding.action if bound and bound.node is field else ""
    else:  # a key that was typed behind this one has led away
        action = own_action(field, event.key)
    if action and await field.app.run_action(action, field):
        event.stop()
        event.prevent_default()


def _with_whole_clusters(strip: Strip) -> Strip:
    """Return a line in which no change of style, such as that of the caret, divides a cluster."""
    if strip.text.isascii():
        return strip
    segments: list[Segment] = []
    for segment in strip:
        rest = segment.text
        if segments and segments[-1].text:
            before = segments[-1]
            both, length = before.text + rest, len(before.text)
            begins = boundary(both, length)
            end = length if begins == length else next_boundary(both, begins)
            segments[-1] = Segment(both[:end], before.style, before.control)
            rest = both[end:]
        segments.append(Segment(rest, segment.style, segment.control))
    return Strip(segments, strip.cell_length)
