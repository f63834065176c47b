"""The transcript widget: messages in; what a person wants, out.

It knows messages and nothing else: no store, no engine, no prompt. Whoever owns it calls

- `load` with the branch to show, `add` and `replace` as messages come and change, `append` as an answer streams;
- `show_boundary` when the model stops seeing the oldest messages;
- `select`, `select_next`, `find`, `find_next`, `follow`, `code_blocks` for keys that are bound elsewhere;

and handles its messages `Selected`, `VariantChosen`, `LinkActivated`, `CodeActivated`, `Following`, `Found`.

Only what is visible is read and laid out. All other heights are estimates, corrected as they come into view
without moving what is being read. Streamed text is drawn at most 20 times a second, less often where drawing is
slow, so that it never takes more than about an eighth of the time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message as Event
from textual.timer import Timer

from qwenchat.chat.conversation import Message
from qwenchat.tui.markdown.render import CodeBlock
from qwenchat.tui.transcript.drawing import Highlight
from qwenchat.tui.transcript.find import Search, occurrences
from qwenchat.tui.transcript.viewport import Viewport

_REPAINT_S = 0.05
_IDLE_SHARE = 8
"""After drawing streamed text, wait at least this many times as long as it took."""


@dataclass
class _Said(Event):
    transcript: "Transcript"

    @property
    def control(self) -> "Transcript":
        """The sender."""
        return self.transcript


class Transcript(Viewport, inherit_bindings=True):
    """All messages of a branch, newest at the bottom."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("pagedown,space", "page_down", "Page down", show=False),
        Binding("home,g", "scroll_home", "To the beginning", show=False),
        Binding("end,G", "scroll_end", "To the end", show=False),
        Binding("k,alt+up", "select_step(-1)", "Previous message", show=False),
        Binding("j,alt+down", "select_step(1)", "Next message", show=False),
        Binding("left,h", "variant(-1)", "Previous variant", show=False),
        Binding("right,l", "variant(1)", "Next variant", show=False),
        Binding("n", "find_step(1)", "Next match", show=False),
        Binding("N", "find_step(-1)", "Previous match", show=False),
    ]

    @dataclass
    class Selected(_Said):
        """Another message is selected, or none."""

        message: Message | None

    @dataclass
    class VariantChosen(_Said):
        """A person wants the sibling of a message that is `step` away (-1 or 1); it has one there."""

        message: Message
        step: int

    @dataclass
    class LinkActivated(_Said):
        """A person clicked a link. Nothing was opened; the target is untrusted."""

        target: str

    @dataclass
    class CodeActivated(_Said):
        """A person clicked the head of a code block: `transcript.code_blocks(message.id)[index]`."""

        message: Message
        index: int

    @dataclass
    class Found(_Said):
        """Where a search stands: the `message`th of `messages` that say the words, counted from 1; 0 of 0 if none."""

        words: str
        message: int
        messages: int

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._selected: str | None = None
        self._search: Search | None = None
        self._pieces: dict[str, list[str]] = {}
        self._flush_timer: Timer | None = None
        self._flush_after = 0.0

    def load(
        self,
        branch: Sequence[Message],
        variants: Mapping[str, tuple[int, int]] | None = None,
        *,
        boundary: str | None = None,
        show: str | None = None,
    ) -> None:
        """Show a branch, oldest first.

        `variants` gives (number, count) for messages with siblings; `boundary` is the id of the oldest message that
        the model sees; `show` the id of a message to go to. Without it the reader stays with the message at the
        top where that is still there, else goes to the end.
        """
        column = self.column
        anchor = None if self.following else self.anchor_of_view()
        self._pieces.clear()
        self._search = None
        self.screen.clear_selection()
        column.load(branch, variants or {})
        column.mark_boundary(boundary)
        if self._selected and column.position(self._selected) is None:
            self._choose(None)
        if show is not None and (index := column.position(show)) is not None:
            self.go_to(column.start(index))
        elif anchor and (index := column.position(anchor[0])) is not None:
            column.measure(index)
            self.go_to(column.start(index) + anchor[1])
        else:
            self.follow()

    def add(self, message: Message, variant: tuple[int, int] = (1, 1)) -> None:
        """Add a message at the end, such as a question that was sent or an answer that begins."""
        self.column.add(message, variant)
        self.settle()
        self.refresh()

    def replace(self, message: Message, variant: tuple[int, int] | None = None) -> None:
        """Show another state of a message, such as an answer that has ended. Raises KeyError for an unknown one."""
        index = self._position(message.id)
        self._flush()
        shown = self.column.shown[index]
        shown.variant = variant or shown.variant
        shown.replace(message)
        shown.strips.clear()
        self._changed(index)
        self.refresh_message(index)

    def append(self, message_id: str, text: str) -> None:
        """Add a piece of an answer as it streams; it is drawn soon. Raises KeyError for an unknown message."""
        self._position(message_id)
        self._pieces.setdefault(message_id, []).append(text)
        if self._flush_timer is None:
            self._flush_timer = self.set_timer(max(self._flush_after - monotonic(), 0.0001), self._flush)

    def show_boundary(self, message_id: str | None) -> None:
        """Draw a line above the oldest message that the model sees; None where it sees all."""
        self.column.mark_boundary(message_id)
        self.settle()
        self.refresh()

    @property
    def messages(self) -> list[Message]:
        """The messages shown, with the text that has streamed so far."""
        return [shown.message for shown in self.column.shown]

    @property
    def selected(self) -> Message | None:
        """The selected message."""
        index = self.column.position(self._selected) if self._selected else None
        return None if index is None else self.column.shown[index].message

    def code_blocks(self, message_id: str) -> list[CodeBlock]:
        """Return the code blocks of a message, in order. Raises KeyError for an unknown one."""
        return self.column.shown[self._position(message_id)].code_blocks

    def select(self, message_id: str | None) -> None:
        """Select a message and bring it into view; None selects nothing. Raises KeyError for an unknown one."""
        if message_id is None:
            self._choose(None)
            return
        index = self._position(message_id)
        self._choose(index)
        column, height = self.column, self.size.height
        column.measure(index)
        top, start = round(self.scroll_y), column.start(index)
        if start < top or column.height(index) >= height:
            self.go_to(start)
        elif start + column.height(index) > top + height:
            self.go_to(start + column.height(index) - height)

    def select_next(self, step: int = 1) -> None:
        """Select the message below the selected one, or above it with -1; from none, the nearest in view."""
        column = self.column
        if not len(column):
            return
        at = column.position(self._selected) if self._selected else None
        if at is not None:
            index = max(0, min(at + step, len(column) - 1))
        else:
            index = column.at(round(self.scroll_y) + (0 if step > 0 else self.size.height - 1))
        self.select(column.shown[index].message.id)

    def find(self, words: str) -> None:
        """Mark words wherever they stand and go to the last message that says them; empty words end the search."""
        texts = [shown.message.text for shown in self.column.shown] if words else []
        self._search = Search.through(texts, words) if words else None
        self.redraw_all()
        if self._search:
            self._search.to_last()
            self._show_found()

    def find_next(self, step: int = 1) -> None:
        """Go to the next occurrence of the words, or the previous one with -1."""
        if self._search and (index := self._search.message) is not None:
            self._search.step(step, len(occurrences(self.column.lines(index), self._search.words)))
            self.redraw(index)
            self._show_found()

    def action_select_step(self, step: int) -> None:
        """Select the message below or above."""
        self.select_next(step)

    def action_find_step(self, step: int) -> None:
        """Go to the next or previous match."""
        self.find_next(step)

    def action_variant(self, step: int) -> None:
        """Ask for a sibling of the selected message."""
        if message := self.selected:
            self._want_variant(self._position(message.id), step)

    def on_click(self, event: events.Click) -> None:
        """Select the message under the pointer, or do what is written there."""
        if self.text_selection is not None:
            return
        if self.on_mark(event.x, event.y):
            self.follow()
            return
        line = round(self.scroll_y) + event.y
        if line >= self.column.total:
            return
        index = self.column.at(line)
        meta = event.style.meta
        if "link" in meta:
            self.post_message(self.LinkActivated(self, str(meta["link"])))
        elif "code" in meta:
            self.post_message(self.CodeActivated(self, self.column.shown[index].message, int(meta["code"])))
        elif "variant" in meta:
            self._want_variant(index, int(meta["variant"]))
        else:
            self._choose(index)

    def is_selected(self, index: int) -> bool:
        """Whether a message is the selected one."""
        return self._selected is not None and self.column.shown[index].message.id == self._selected

    def highlights(self, index: int, line: int) -> Sequence[Highlight]:
        """Return where the words that are searched for stand in a line."""
        if self._search is None:
            return ()
        palette = self.column.look.palette
        current = self._search.occurrence if index == self._search.message else None
        found = occurrences(self.column.lines(index), self._search.words)
        return [
            (*span, palette.found_current if number == current else palette.found)
            for number, pieces in enumerate(found)
            for at, span in pieces
            if at == line
        ]

    def _show_found(self) -> None:
        search, column = self._search, self.column
        if search is None:
            return
        self.post_message(self.Found(self, search.words, search.at + 1 if search.hits else 0, len(search.hits)))
        if (index := search.message) is None:
            return
        column.measure(index)
        found = occurrences(column.lines(index), search.words)
        search.occurrence %= max(len(found), 1)
        line = column.start(index) + (found[search.occurrence][0][0] if found else 0)
        top, height = round(self.scroll_y), self.size.height
        self.redraw(index)
        if not top <= line < top + height - 1:
            self.go_to(line - height // 3)

    def _want_variant(self, index: int, step: int) -> None:
        shown = self.column.shown[index]
        number, count = shown.variant
        if 1 <= number + step <= count:
            self.post_message(self.VariantChosen(self, shown.message, step))

    def _choose(self, index: int | None) -> None:
        chosen = None if index is None else self.column.shown[index].message
        before = self.column.position(self._selected) if self._selected else None
        if (chosen.id if chosen else None) == self._selected:
            return
        self._selected = chosen.id if chosen else None
        for changed in (before, index):
            if changed is not None:
                self.redraw(changed)
        self.post_message(self.Selected(self, chosen))

    def _position(self, message_id: str) -> int:
        index = self.column.position(message_id)
        if index is None:
            raise KeyError(message_id)
        return index

    def _flush(self) -> None:
        """Draw what has streamed since the last time."""
        if self._flush_timer is not None:
            self._flush_timer.stop()
            self._flush_timer = None
        if not self._pieces:
            return
        began = monotonic()
        for message_id, pieces in self._pieces.items():
            index = self._position(message_id)
            shown = self.column.shown[index]
            shown.append("".join(pieces))
            self._changed(index)
            self.refresh_message(index, shown.unchanged)
        self._pieces.clear()
        now = monotonic()
        self._flush_after = began + max(_REPAINT_S, _IDLE_SHARE * (now - began))

    def _changed(self, index: int) -> None:
        """Take in a message whose lines have changed."""
        column = self.column
        bottom = round(self.scroll_y) + self.size.height
        if self.following or column.start(index) < bottom:
            column.measure(index)
        else:
            column.guess(index)
        self.settle()
