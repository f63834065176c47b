"""Messages below one another: where each lies, laid out as far as they have been seen. No widget here.

Heights of what was never seen are estimates. `settle` finds the top line of a view such that everything in it is
measured and what the reader was looking at stays where it was.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from textual.selection import Selection

from qwenchat.chat.message import Message
from qwenchat.chat.tree import VariantPlace
from qwenchat.markdown.lines import Line
from qwenchat.tui.transcript.drawing import Frame, Look, Marks
from qwenchat.tui.transcript.selecting import selected_text

if TYPE_CHECKING:
    from qwenchat.tui.transcript.message_layout import MessageLayout

LayoutMaker = Callable[[Message, VariantPlace], "MessageLayout"]
_CACHED_LINES = 1500
"""Lines whose layout stays in memory, more than any terminal shows; others are laid out again when they come back."""
_ALONE = VariantPlace()
"""Of a message without siblings."""


class Heights:
    """Heights of messages in lines, with sums cached as far as they are valid: changing the last one costs nothing."""

    def __init__(self, heights: Iterable[int] = ()) -> None:
        self._heights = list(heights)
        self._ends: list[int] = []

    def __len__(self) -> int:
        return len(self._heights)

    def __getitem__(self, index: int) -> int:
        return self._heights[index]

    def __setitem__(self, index: int, height: int) -> None:
        if self._heights[index] != height:
            self._heights[index] = height
            del self._ends[index:]

    def append(self, height: int) -> None:
        """Add one at the end."""
        self._heights.append(height)

    @property
    def total(self) -> int:
        """The sum of all."""
        return self.start(len(self._heights))

    def start(self, index: int) -> int:
        """Return the first line of a message."""
        if index == 0:
            return 0
        if len(self._ends) < index:
            known = len(self._ends)
            self._ends += accumulate(self._heights[known:], initial=self._ends[-1] if known else 0)
            del self._ends[known]
        return self._ends[index - 1]

    def at(self, line: int) -> int:
        """Return the message in which a line lies; the last one for lines past the end."""
        total = self.total
        return min(bisect_right(self._ends, min(line, total)), len(self._heights) - 1)


class Column:
    """A branch, drawn with one look."""

    def __init__(self, look: Look, layout: "LayoutMaker | None" = None) -> None:
        """`layout` makes the layout of a message, where that is another one than a chat's."""
        self.look, self.marks = look, Marks()
        self._layout = layout or _layout
        self.layouts: list[MessageLayout] = []
        self._index: dict[str, int] = {}
        self._heights = Heights()
        self._measured: set[int] = set()
        self._cached: OrderedDict[int, int] = OrderedDict()
        self._cached_lines = 0

    def __len__(self) -> int:
        return len(self.layouts)

    def load(self, branch: Sequence[Message], variants: Mapping[str, VariantPlace]) -> None:
        """Show these messages; what was laid out of those that were here and are unchanged stays."""
        before = {layout.message.id: layout for layout in self.layouts}
        self.layouts = []
        for message in branch:
            variant = variants.get(message.id, _ALONE)
            old = before.get(message.id)
            if old is None or (old.message, old.variant) != (message, variant):
                old = self._layout(message, variant)
            self.layouts.append(old)
        self._index = {message.id: at for at, message in enumerate(branch)}
        self._estimate()

    def add(self, message: Message) -> None:
        """Add a message at the end."""
        self._index[message.id] = len(self.layouts)
        self.layouts.append(self._layout(message, _ALONE))
        self._heights.append(self.layouts[-1].estimate(self.look.width))
        if self.marks != Marks():
            self.mark(self.marks)

    def mark(self, marks: Marks) -> None:
        """Draw what depends on several messages: where the model begins to see, where the next question goes, notes."""
        self.marks = marks
        count = len(self.layouts)
        at = self.position(marks.fork) if marks.fork else None
        first = count if at is None else at + 1
        for index, layout in enumerate(self.layouts):
            frame = Frame(
                boundary=layout.message.id == marks.boundary,
                boundary_below=marks.boundary == "" and index == count - 1,
                left_behind=count - first if index == first else 0,
                is_left_behind=index >= first,
                note=marks.notes.get(layout.message.id),
            )
            if frame != layout.frame:
                layout.frame = frame
                layout.forget()
                self._measured.discard(index)

    def draw_with(self, look: Look) -> None:
        """Use another look from now on."""
        recoloured = look.palette is not self.look.palette
        self.look = look
        for index in list(self._cached):
            self.layouts[index].forget()
        self._cached.clear()
        self._cached_lines = 0
        if not recoloured:  # colours change no height
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
        """Return the lines of a message; they stay in memory for a while."""
        lines = self.layouts[index].lay_out(self.look)
        self._cached_lines += len(lines) - self._cached.pop(index, 0)
        self._cached[index] = len(lines)
        while self._cached_lines > _CACHED_LINES and len(self._cached) > 1:
            oldest, count = self._cached.popitem(last=False)
            self._cached_lines -= count
            self.layouts[oldest].forget()
        return lines

    def selected_text(self, selection: Selection) -> str:
        """Return the text that the mouse selected, as paragraphs, without decoration."""
        if selection.start is None and selection.end is None:
            return "\n\n".join(layout.message.text for layout in self.layouts)
        return selected_text(selection, len(self), self.lines)

    def measure(self, index: int) -> int:
        """Lay a message out and return by how much its height was wrong."""
        if index in self._measured and self.layouts[index].lines is not None:
            return 0
        height = len(self.lines(index))
        wrong = height - self._heights[index]
        self._heights[index] = height
        self._measured.add(index)
        return wrong

    def guess(self, index: int) -> None:
        """Estimate a message that has changed out of sight."""
        self._measured.discard(index)
        self._heights[index] = self.layouts[index].estimate(self.look.width)

    def settle(self, top: int, height: int) -> int:
        """Return the line to show at the top of a view of `height` lines that was to begin at `top`."""
        while self.layouts:
            top = max(0, min(top, self.total - height))
            first = self.at(top)
            wrong = self._unmeasured(first)
            if wrong and self.start(first) < top:
                top += wrong
                continue
            index = first
            while index < len(self.layouts) and self.start(index) < top + height:
                self._unmeasured(index)
                index += 1
            if top <= max(0, self.total - height):
                return top
        return 0

    def settle_end(self, height: int) -> int:
        """Return the line to show at the top of a view that shows the end."""
        index, seen = len(self.layouts) - 1, 0
        while index >= 0 and seen < height:
            self._unmeasured(index)
            seen += self._heights[index]
            index -= 1
        return max(0, self.total - height)

    def _unmeasured(self, index: int) -> int:
        return 0 if index in self._measured else self.measure(index)

    def _estimate(self) -> None:
        self._measured.clear()
        self._cached.clear()
        self._cached_lines = 0
        width = self.look.width
        self._heights = Heights(layout.estimate(width) for layout in self.layouts)
        for index, layout in enumerate(self.layouts):
            if layout.lines is not None:
                self.measure(index)


def layout_class() -> "type[MessageLayout]":
    """Return what lays out a message. The first call imports Markdown, for which no key should have to wait."""
    from qwenchat.tui.transcript.message_layout import MessageLayout  # noqa: PLC0415 - an empty chat needs no Markdown

    return MessageLayout


def _layout(message: Message, variant: VariantPlace) -> "MessageLayout":
    return layout_class()(message, variant)
