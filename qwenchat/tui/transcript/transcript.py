"""The transcript widget: messages in; what the user wants, out.

It knows messages and nothing else: no store, no engine, no prompt. The screen calls `load` with the branch to
show, `add` and `replace` as messages come and change, `append` as an answer streams, and handles its messages.

Only what is visible is read and laid out. All other heights are estimates, corrected as they come into view
without moving what is being read.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace
from rich.style import Style
from textual import events
from textual.color import Color
from textual.geometry import Region
from textual.message import Message as Event
from textual.selection import Selection
from textual.strip import Strip
from textual.theme import Theme
from textual.timer import Timer

from qwenchat.chat.message import Message, Part, ToolCall, ToolResult
from qwenchat.chat.tree import VariantPlace
from qwenchat.tui.actions import MENU_BUTTON
from qwenchat.tui.colours import palette_of
from qwenchat.tui.model_names import ModelNames
from qwenchat.tui.textual_private.drawing import SteadyScrollView
from qwenchat.tui.transcript.column import Column, LayoutMaker
from qwenchat.tui.transcript.drawing import Look, Marks, Note
from qwenchat.tui.transcript.find import Finder
from qwenchat.tui.transcript.painting import Painter
from qwenchat.tui.transcript.selecting import clicked
from qwenchat.tui.transcript.streaming import StreamedPiece, StreamedPieces
from qwenchat.tui.transcript.viewport import Viewport

if TYPE_CHECKING:
    from qwenchat.markdown.render import CodeBlock


@dataclass(eq=False, repr=False)  # the first frame waits for each of these to be made: without, for half as long
class TranscriptEvent(Event):
    """Something that the user did in a transcript."""

    transcript: "Transcript"

    @property
    def control(self) -> "Transcript":
        """The sender."""
        return self.transcript


class Transcript(SteadyScrollView, can_focus=True):
    """All messages of a branch, newest at the bottom."""

    ALLOW_SELECT = True
    FOCUS_ON_CLICK = False
    DEFAULT_CSS = """
    Transcript {
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

    @dataclass(eq=False, repr=False)
    class Selected(TranscriptEvent):
        """Another message is selected, or none."""

        message: Message | None

    @dataclass(eq=False, repr=False)
    class FollowingChanged(TranscriptEvent):
        """The view began to follow the end, or stopped because the reader left it."""

        following: bool

    @dataclass(eq=False, repr=False)
    class ActionChosen(TranscriptEvent):
        """The user clicked an action on the selected message; `action` is empty for all that there are."""

        action: str

    @dataclass(eq=False, repr=False)
    class VariantChosen(TranscriptEvent):
        """The user wants the sibling of a message that is `step` away (-1 or 1); it has one there."""

        message: Message
        step: int

    @dataclass(eq=False, repr=False)
    class LinkActivated(TranscriptEvent):
        """The user clicked a link. Nothing was opened; the target is untrusted."""

        target: str

    @dataclass(eq=False, repr=False)
    class CodeActivated(TranscriptEvent):
        """The user clicked the first line of a code block: `transcript.code_blocks(message.id)[index]`."""

        message: Message
        index: int

    @dataclass(eq=False, repr=False)
    class Found(TranscriptEvent):
        """The state of a search: the `message`th of `messages` that have the words, counted from 1; 0 of 0 if none."""

        words: str
        message: int
        messages: int

    def __init__(
        self,
        look: Look | None = None,
        *,
        id: str | None = None,
        classes: str | None = None,
        layout: LayoutMaker | None = None,
    ) -> None:
        """`layout` makes the layouts of messages, where they are other ones than a chat's."""
        super().__init__(id=id, classes=classes)
        self.column = Column(look or Look(), layout)
        self.viewport = Viewport(
            self, self.column, lambda following: self.post_message(self.FollowingChanged(self, following))
        )
        self.finder = Finder(
            self.column, self.viewport, lambda words, at, count: self.post_message(self.Found(self, words, at, count))
        )
        self._painter = Painter(self.column, self.viewport, self.finder)
        self.keys: Mapping[str, str] = {}
        """By action, the keys that work while the transcript has the focus."""
        self._streamed = StreamedPieces(self, self._draw_streamed)
        self._counting: Timer | None = None
        """Until the seconds of calls are drawn again."""
        self._selected: str | None = None
        self._colours: tuple[Style, Color] | None = None
        """The view's own, until its styles change."""

    # Messages

    @property
    def messages(self) -> list[Message]:
        """The messages shown, with the text that has streamed so far."""
        return [layout.message for layout in self.column.layouts]

    def position(self, message_id: str) -> int | None:
        """Return a message's place from the top, counted from 0; None for one that is not here."""
        return self.column.position(message_id)

    def code_blocks(self, message_id: str) -> "list[CodeBlock]":
        """Return the code blocks of a message, in order. Raises KeyError for an unknown one."""
        return self.column.layouts[self._index(message_id)].code_blocks

    def load(
        self,
        branch: Sequence[Message],
        variants: Mapping[str, VariantPlace] | None = None,
        *,
        boundary: str | None = None,
        show: str | None = None,
    ) -> None:
        """Show a branch, oldest first.

        `variants` are the places of messages with siblings; `boundary` is the id of the oldest message that
        the model sees; `show` the id of a message to go to. Without it the reader stays with the message at the
        top where that is still there, else goes to the end.
        """
        column, viewport = self.column, self.viewport
        anchor = viewport.anchor()
        self.finder.forget()
        self._streamed.clear()
        self.screen.clear_selection()
        column.load(branch, variants or {})
        column.mark(replace(column.marks, boundary=boundary, fork=""))
        if show is not None and (index := column.position(show)) is not None:
            viewport.go_to(column.start(index))
        elif anchor and (index := column.position(anchor[0])) is not None:
            column.measure(index)
            viewport.go_to(column.start(index) + anchor[1])
        else:
            viewport.follow()
        if self._selected and column.position(self._selected) is None:
            self._select(None)
        self._count_seconds()

    def add(self, message: Message) -> None:
        """Add a message at the end, such as a question that was sent or an answer that begins."""
        self.column.add(message)
        self.viewport.settle()
        self.refresh()

    def replace(self, message: Message, variant: VariantPlace | None = None) -> None:
        """Show another state of a message, such as an answer that has ended. Raises KeyError for an unknown one."""
        index = self._index(message.id)
        self._streamed.flush()
        layout = self.column.layouts[index]
        layout.variant = variant or layout.variant
        layout.replace(message)
        layout.strips.clear()
        self._measure_changed(index)
        self.viewport.repaint(index)

    def append(self, message_id: str, fragment: Part, *, index: int = 0, offset: int | None = None) -> None:
        """Let the part `index` of an answer grow by a fragment as it streams; it is drawn soon.

        `offset` is how many characters of the part come before it: what is here already is not added again. Raises
        KeyError for an unknown message.
        """
        message = self.column.layouts[self._index(message_id)].message
        self._streamed.add(message, StreamedPiece(index, fragment), offset)

    def show_boundary(self, message_id: str | None) -> None:
        """Draw a line above the oldest message that the model sees; None where it sees all, empty for none of them."""
        self._mark(replace(self.column.marks, boundary=message_id))

    def show_fork(self, message_id: str) -> None:
        """Draw what follows a message as left behind by the next question; nothing where the id is empty."""
        if message_id != self.column.marks.fork:
            self._mark(replace(self.column.marks, fork=message_id))
            if (index := self.column.position(message_id)) is not None:
                self.viewport.show(index + 1)
                self.viewport.show(index)

    def show_notes(self, notes: Mapping[str, Note]) -> None:
        """Show notes below messages, by their ids; those of other messages go."""
        self._mark(replace(self.column.marks, notes=notes))

    def _mark(self, marks: Marks) -> None:
        if marks != self.column.marks:
            self.column.mark(marks)
            self.viewport.settle()
            self.refresh()

    @property
    def timestamps(self) -> bool:
        """Whether each message has its time."""
        return self.column.look.timestamps

    @timestamps.setter
    def timestamps(self, shown: bool) -> None:
        if shown != self.timestamps:
            self._draw_with(replace(self.column.look, timestamps=shown))

    # Moving and selecting

    def follow(self) -> None:
        """Go to the end and stay there."""
        self.viewport.follow()

    @property
    def selected(self) -> Message | None:
        """The selected message."""
        index = self.column.position(self._selected) if self._selected else None
        return None if index is None else self.column.layouts[index].message

    def select(self, message_id: str | None) -> None:
        """Select a message and bring it into view; None selects nothing. Raises KeyError for an unknown one."""
        if message_id is None:
            self._select(None)
        else:
            index = self._index(message_id)
            self._select(index)
            self.viewport.show(index)

    def select_next(self, step: int = 1) -> None:
        """Select the message below the selected one, or above it with -1; from none in view, the nearest that is."""
        column, viewport = self.column, self.viewport
        if not len(column):
            return
        at = column.position(self._selected) if self._selected else None
        if at is not None and viewport.shows(at):
            index = max(0, min(at + step, len(column) - 1))
        else:
            index = column.at(viewport.top + (0 if step > 0 else viewport.height - 1))
        self.select(column.layouts[index].message.id)

    def action_select_step(self, step: int) -> None:
        """Select the message below or above."""
        self.select_next(step)

    def action_select_end(self, end: int) -> None:
        """Go to the end and follow it, or to the beginning with -1; the selection goes along."""
        if self.selected:
            self.select(self.messages[0 if end < 0 else -1].id)
        if end < 0:
            self.viewport.go_to(0)
        else:
            self.viewport.follow()

    def action_find_step(self, step: int) -> None:
        """Go to the next or previous match."""
        self.finder.step(step)

    def action_variant(self, step: int) -> None:
        """Ask for a sibling of the selected message, or of the nearest one that has some."""
        if message := self.selected:
            selected = self._index(message.id)
            some = [at for at, layout in enumerate(self.column.layouts) if layout.variant.count > 1]
            if some:
                self._choose_variant(min(some, key=lambda at: abs(at - selected)), step)

    def action_unfold_message(self) -> None:
        """Unfold or fold the reasoning and the calls of the selected message, else of the last one that has some."""
        index = self.column.position(self._selected) if self._selected else None
        layouts = self.column.layouts
        if index is None:
            index = next((at for at in reversed(range(len(layouts))) if layouts[at].can_unfold), None)
        if index is not None and layouts[index].can_unfold:
            layouts[index].toggle_all()
            self._draw_changed(index)

    def action_scroll_end(self) -> None:
        """Go to the end and follow it."""
        self.viewport.follow()

    def on_click(self, event: events.Click) -> None:
        """Do what is written there, or select the message; two clicks select a word, three a paragraph."""
        if event.chain > 1:
            event.prevent_default()  # Textual would select all messages
        if self.text_selection is not None:
            return
        if self._painter.is_end_mark(event.x, event.y):
            self.viewport.follow()
            return
        line = self.viewport.top + event.y
        if line >= self.column.total:
            return
        index = self.column.at(line)
        meta = event.style.meta
        if event.button == MENU_BUTTON:
            self._select(index)
        elif "link" in meta:
            self.post_message(self.LinkActivated(self, str(meta["link"])))
        elif "code" in meta:
            self.post_message(self.CodeActivated(self, self.column.layouts[index].message, int(meta["code"])))
        elif "fold" in meta:
            self.column.layouts[index].toggle(meta["fold"])
            self._draw_changed(index)
        elif "action" in meta:
            self._select(index)
            self.post_message(self.ActionChosen(self, str(meta["action"])))
        elif "variant" in meta:
            self._choose_variant(index, int(meta["variant"]))
        elif event.chain > 1:
            row = line - self.column.start(index)
            words = clicked(self.column.lines(index), message=index, line=row, cell=event.x, clicks=event.chain)
            self.screen.selections = {self: words} if words else {}
        else:
            self._select(index)

    def _choose_variant(self, index: int, step: int) -> None:
        layout = self.column.layouts[index]
        if 1 <= layout.variant.number + step <= layout.variant.count:
            self.post_message(self.VariantChosen(self, layout.message, step))

    def _select(self, index: int | None) -> None:
        message = None if index is None else self.column.layouts[index].message
        before = self.column.position(self._selected) if self._selected else None
        if (message.id if message else None) == self._selected:
            return
        self._selected = message.id if message else None
        for changed in (before, index):
            if changed is not None:
                self.viewport.redraw(changed)
        self.post_message(self.Selected(self, message))

    def _index(self, message_id: str) -> int:
        """Return the place of a message. Raises KeyError for an unknown one."""
        index = self.column.position(message_id)
        if index is None:
            raise KeyError(message_id)
        return index

    def _draw_streamed(self, pieces: Mapping[str, Sequence[StreamedPiece]]) -> None:
        """Take in what has streamed since the last time."""
        for message_id, grown in pieces.items():
            index = self._index(message_id)
            layout = self.column.layouts[index]
            for piece in grown:
                layout.append(piece.index, piece.fragment)
            self._measure_changed(index)
            self.viewport.repaint(index, layout.unchanged)
            if any(isinstance(piece.fragment, ToolCall | ToolResult) for piece in grown):
                self._count_seconds()

    def _count_seconds(self) -> None:
        """Draw the seconds of calls that run, as long as one does."""
        if self._counting is None and any(layout.is_calling for layout in self.column.layouts):
            self._counting = self.set_timer(1, self._draw_seconds)

    def _draw_seconds(self) -> None:
        self._counting = None
        for index, layout in enumerate(self.column.layouts):
            if layout.is_calling:
                layout.lines = None
                self._measure_changed(index)
                self.viewport.repaint(index, layout.unchanged)
        self._count_seconds()

    def _draw_changed(self, index: int) -> None:
        """Draw a message whose lines have changed from its beginning."""
        self._measure_changed(index)
        self.viewport.repaint(index)

    def _measure_changed(self, index: int) -> None:
        """Take in a message whose lines have changed."""
        if self.viewport.is_in_reach(index):
            self.column.measure(index)
        else:
            self.column.guess(index)
        self.viewport.settle()

    # Textual's side

    def on_mount(self) -> None:
        """Take the theme's colours and follow its changes."""
        self.app.theme_changed_signal.subscribe(self, self._use_theme)
        self._use_theme(self.app.current_theme)

    def watch_has_focus(self, _has_focus: bool) -> None:
        """Show the keys of the selected message's actions only while they work."""
        super().watch_has_focus(_has_focus)
        if message := self.selected:
            self.viewport.redraw(self._index(message.id))

    def show_names(self, names: ModelNames) -> None:
        """Name models, and their hosts, in another way than before."""
        self._draw_with(replace(self.column.look, name_of=names, host_of=names.host_of))

    def show_can_continue(self, can: bool) -> None:
        """Offer to continue answers, or do not."""
        if can != self.column.look.can_continue:
            self._draw_with(replace(self.column.look, can_continue=can))

    def on_resize(self) -> None:
        """Lay out for the new width."""
        look = self.column.look
        if look.width == self.viewport.columns:
            self.viewport.settle()
        else:
            self._draw_with(replace(look, width=self.viewport.columns))

    def _draw_with(self, look: Look) -> None:
        """Lay out for another look; the reader stays at the same part of the same message."""
        column, viewport = self.column, self.viewport
        anchor = viewport.anchor()
        index = (column.position(anchor[0]) or 0) if anchor else 0
        part = anchor[1] / max(column.height(index), 1) if anchor else 0.0
        self.screen.clear_selection()
        column.draw_with(look)
        if anchor:
            column.measure(index)
            viewport.settle(column.start(index) + round(part * column.height(index)))
        else:
            viewport.settle()
        self.refresh()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Measure what comes into view when the reader scrolls."""
        super().watch_scroll_y(old_value, new_value)
        if round(old_value) != round(new_value):
            self.viewport.scrolled()

    def notify_style_update(self) -> None:
        """Look the view's own colours up again."""
        self._colours = None
        super().notify_style_update()

    def scroll_to(self, *arguments: Any, **options: Any) -> None:
        """Scroll at once."""
        super().scroll_to(*arguments, **(options | {"animate": False}))

    def render_lines(self, crop: Region) -> list[Strip]:
        """Return the lines of a part of the view.

        A line that has only moved is the same strip as before, with all that was computed from it. Textual's own cache
        is by rows of the view, all of which change with each new line.
        """
        strips = self._painted(crop.line_range)
        _base, background = self._own_colours()
        for line_filter in self.get_line_filters():
            strips = [strip.apply_filter(line_filter, background) for strip in strips]
        return [strip.crop(crop.x, crop.right) for strip in strips]

    def render_line(self, y: int) -> Strip:
        """Return a visible line."""
        return self._painted([y])[0]

    def _painted(self, rows: Iterable[int]) -> list[Strip]:
        (base, _background), width = self._own_colours(), self.size.width
        painted = self._painter.paint(
            rows,
            base,
            selected=self._selected,
            keys=self.keys if self.has_focus else {},
            text_selection=self.text_selection,
        )
        return [strip.adjust_cell_length(width, base) for strip in painted]

    def _own_colours(self) -> tuple[Style, Color]:
        """Return the style and the background of the view, which Textual computes whenever it is asked."""
        if self._colours is None:
            self._colours = self.rich_style, self.background_colors[1]
        return self._colours

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """Return the text that the mouse selected, as paragraphs, without decoration."""
        return self.column.selected_text(selection), "\n"

    def selection_updated(self, selection: Selection | None) -> None:
        """Show what is selected."""
        self.refresh()

    def _use_theme(self, _theme: Theme) -> None:
        palette = palette_of(self.app.theme_variables, colour=not self.app.no_color)
        self.column.draw_with(replace(self.column.look, palette=palette))
        self.viewport.settle()
        self.refresh()
