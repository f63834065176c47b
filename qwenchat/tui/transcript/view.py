"""The transcript widget: messages in; what a person wants, out.

It knows messages and nothing else: no store, no engine, no prompt. Whoever owns it calls

- `load` with the branch to show, `add` and `replace` as messages come and change, `append` as an answer streams;
- `show_boundary` when the model stops seeing the oldest messages;
- `select`, `select_next`, `find`, `find_next`, `follow`, `code_blocks` for keys that are bound elsewhere;

and handles its messages `Selected`, `ActionChosen`, `VariantChosen`, `LinkActivated`, `CodeActivated`, `Following`,
`Found`.

Only what is visible is read and laid out. All other heights are estimates, corrected as they come into view
without moving what is being read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message as Event

from qwenchat.chat.message import Message
from qwenchat.tui.markdown.wrap import Line
from qwenchat.tui.transcript.drawing import Highlight
from qwenchat.tui.transcript.find import Search, occurrences
from qwenchat.tui.transcript.messages import Messages


@dataclass
class _Said(Event):
    transcript: "Transcript"

    @property
    def control(self) -> "Transcript":
        """The sender."""
        return self.transcript


class Transcript(Messages, inherit_bindings=True):
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
    class ActionChosen(_Said):
        """A person clicked something to do with the selected message; `action` is empty for all that there is."""

        action: str

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

    def load(
        self,
        branch: Sequence[Message],
        variants: Mapping[str, tuple[int, int]] | None = None,
        *,
        boundary: str | None = None,
        show: str | None = None,
    ) -> None:
        self._search = None
        super().load(branch, variants, boundary=boundary, show=show)
        if self._selected and self.column.position(self._selected) is None:
            self._choose(None)

    @property
    def selected(self) -> Message | None:
        """The selected message."""
        index = self.column.position(self._selected) if self._selected else None
        return None if index is None else self.column.shown[index].message

    def select(self, message_id: str | None) -> None:
        """Select a message and bring it into view; None selects nothing. Raises KeyError for an unknown one."""
        if message_id is None:
            self._choose(None)
            return
        index = self.index_of(message_id)
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
            self._want_variant(self.index_of(message.id), step)

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
        elif "action" in meta:
            self.post_message(self.ActionChosen(self, str(meta["action"])))
        elif "variant" in meta:
            self._want_variant(index, int(meta["variant"]))
        else:
            self._choose(index)

    def is_selected(self, index: int) -> bool:
        """Whether a message is the selected one."""
        return self._selected is not None and self.column.shown[index].message.id == self._selected

    def dressed(self, index: int, number: int, line: Line) -> Line:
        """Put things to do behind the heading of the selected message."""
        shown, look = self.column.shown[index], self.column.look
        if number != shown.above or not self.is_selected(index):
            return line
        return shown.with_actions(line, look)

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
