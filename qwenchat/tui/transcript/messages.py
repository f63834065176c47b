"""The messages of a transcript: shown, changed, and growing while an answer streams.

Streamed text is drawn at most 20 times a second, less often where drawing is slow, so that it never takes more than
about an eighth of the time.
"""

from collections.abc import Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING

from textual.timer import Timer

from qwenchat.chat.conversation import Message
from qwenchat.tui.transcript.viewport import Viewport

if TYPE_CHECKING:
    from qwenchat.tui.markdown.render import CodeBlock

_REPAINT_S = 0.05
_IDLE_SHARE = 8
"""After drawing streamed text, wait at least this many times as long as it took."""


class Messages(Viewport):
    """What stands in the view. Searching and selecting in it is `Transcript`'s."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._pieces: dict[str, list[str]] = {}
        self._flush_timer: Timer | None = None
        self._flush_after = 0.0
        self._boundary: str | None = None

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
        self._boundary = boundary
        self.screen.clear_selection()
        column.load(branch, variants or {})
        column.mark_boundary(boundary)
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
        index = self.index_of(message.id)
        self._flush()
        shown = self.column.shown[index]
        shown.variant = variant or shown.variant
        shown.replace(message)
        shown.strips.clear()
        self._changed(index)
        self.refresh_message(index)

    def append(self, message_id: str, text: str, offset: int | None = None) -> None:
        """Add a piece of an answer as it streams; it is drawn soon. Raises KeyError for an unknown message.

        `offset` is how many characters of the answer come before it: what is here already is not added again.
        """
        shown, pieces = self.column.shown[self.index_of(message_id)], self._pieces.setdefault(message_id, [])
        if offset is not None:
            text = text[max(len(shown.message.text) + sum(map(len, pieces)) - offset, 0) :]
        if not text:
            return
        pieces.append(text)
        if self._flush_timer is None:
            self._flush_timer = self.set_timer(max(self._flush_after - monotonic(), 0.0001), self._flush)

    def show_boundary(self, message_id: str | None) -> None:
        """Draw a line above the oldest message that the model sees; None where it sees all."""
        if message_id == self._boundary:
            return
        self._boundary = message_id
        self.column.mark_boundary(message_id)
        self.settle()
        self.refresh()

    def position(self, message_id: str) -> int | None:
        """Return a message's place from the top, counted from 0; None for one that is not here."""
        return self.column.position(message_id)

    @property
    def messages(self) -> list[Message]:
        """The messages shown, with the text that has streamed so far."""
        return [shown.message for shown in self.column.shown]

    def code_blocks(self, message_id: str) -> "list[CodeBlock]":
        """Return the code blocks of a message, in order. Raises KeyError for an unknown one."""
        return self.column.shown[self.index_of(message_id)].code_blocks

    def index_of(self, message_id: str) -> int:
        """Return the place of a message. Raises KeyError for an unknown one."""
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
            index = self.index_of(message_id)
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
