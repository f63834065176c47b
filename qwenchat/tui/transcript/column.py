"""Messages below one another: where each lies, laid out as far as they have been seen.

Heights of what was never seen are estimates. `settle` finds the top line of a view such that everything in it
is measured and what the reader was looking at stays where it was. No widget here.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from qwenchat.chat.message import Message
from qwenchat.tui.markdown.wrap import Line
from qwenchat.tui.transcript.heights import Heights
from qwenchat.tui.transcript.look import Look

if TYPE_CHECKING:
    from qwenchat.tui.transcript.shown import Shown

_KEPT_LINES = 1500
"""Lines whose layout is kept, more than any terminal shows; others are laid out again when they come back."""


class Column:
    """A branch, drawn with one look."""

    def __init__(self, look: Look) -> None:
        self.look = look
        self.shown: list[Shown] = []
        self._index: dict[str, int] = {}
        self._heights = Heights()
        self._measured: set[int] = set()
        self._kept: OrderedDict[int, int] = OrderedDict()
        self._kept_lines = 0

    def __len__(self) -> int:
        return len(self.shown)

    def load(self, branch: Sequence[Message], variants: Mapping[str, tuple[int, int]]) -> None:
        """Show these messages; what was laid out of those that were here and are unchanged stays."""
        before = {shown.message.id: shown for shown in self.shown}
        self.shown = []
        for message in branch:
            variant = variants.get(message.id, (1, 1))
            old = before.get(message.id)
            if old is None or (old.message, old.variant, old.boundary) != (message, variant, False):
                old = _shown(message, variant)
            self.shown.append(old)
        self._index = {message.id: at for at, message in enumerate(branch)}
        self._estimate()

    def add(self, message: Message, variant: tuple[int, int]) -> None:
        """Add a message at the end."""
        self._index[message.id] = len(self.shown)
        self.shown.append(_shown(message, variant))
        self._heights.append(self.shown[-1].estimate(self.look.width))

    def mark_boundary(self, message_id: str | None) -> None:
        """Draw a line above the oldest message that the model sees; None where it sees all."""
        for index, shown in enumerate(self.shown):
            if shown.boundary != (shown.message.id == message_id):
                shown.boundary = not shown.boundary
                shown.forget()
                self._measured.discard(index)

    def draw_with(self, look: Look) -> None:
        """Draw everything in another width or with other colours."""
        narrowed = look.width != self.look.width
        self.look = look
        for index in list(self._kept):
            self.shown[index].forget()
        self._kept.clear()
        self._kept_lines = 0
        if narrowed:
            self._estimate()

    def position(self, message_id: str) -> int | None:
        """Return a message's place from the top, None for one that is not here."""
        return self._index.get(message_id)

    @property
    def total(self) -> int:
        """Lines of all messages, as far as is known."""
        return self._heights.total

    def start(self, index: int) -> int:
        """Return the first line of a message."""
        return self._heights.start(index)

    def height(self, index: int) -> int:
        """Return the lines of a message, as far as is known."""
        return self._heights[index]

    def at(self, line: int) -> int:
        """Return the message in which a line lies."""
        return self._heights.at(line)

    def lines(self, index: int) -> list[Line]:
        """Return the lines of a message and keep them for a while."""
        lines = self.shown[index].lay_out(self.look)
        self._kept_lines += len(lines) - self._kept.pop(index, 0)
        self._kept[index] = len(lines)
        while self._kept_lines > _KEPT_LINES and len(self._kept) > 1:
            oldest, count = self._kept.popitem(last=False)
            self._kept_lines -= count
            self.shown[oldest].forget()
        return lines

    def measure(self, index: int) -> int:
        """Lay a message out and return by how much its height was wrong."""
        if index in self._measured and self.shown[index].lines is not None:
            return 0
        height = len(self.lines(index))
        wrong = height - self._heights[index]
        self._heights[index] = height
        self._measured.add(index)
        return wrong

    def guess(self, index: int) -> None:
        """Estimate a message that has changed out of sight."""
        self._measured.discard(index)
        self._heights[index] = self.shown[index].estimate(self.look.width)

    def settle(self, top: int, height: int) -> int:
        """Return the line to show at the top of a view of `height` lines that was to begin at `top`."""
        while self.shown:
            top = max(0, min(top, self.total - height))
            first = self.at(top)
            wrong = self._unmeasured(first)
            if wrong and self.start(first) < top:
                top += wrong
                continue
            index = first
            while index < len(self.shown) and self.start(index) < top + height:
                self._unmeasured(index)
                index += 1
            if top <= max(0, self.total - height):
                return top
        return 0

    def settle_end(self, height: int) -> int:
        """Return the line to show at the top of a view that shows the end."""
        index, seen = len(self.shown) - 1, 0
        while index >= 0 and seen < height:
            self._unmeasured(index)
            seen += self._heights[index]
            index -= 1
        return max(0, self.total - height)

    def _unmeasured(self, index: int) -> int:
        return 0 if index in self._measured else self.measure(index)

    def _estimate(self) -> None:
        self._measured.clear()
        self._kept.clear()
        self._kept_lines = 0
        width = self.look.width
        self._heights = Heights(shown.estimate(width) for shown in self.shown)
        for index, shown in enumerate(self.shown):
            if shown.lines is not None:
                self.measure(index)


def _shown(message: Message, variant: tuple[int, int]) -> "Shown":
    from qwenchat.tui.transcript.shown import Shown  # noqa: PLC0415 - an empty chat needs no Markdown

    return Shown(message, variant)
