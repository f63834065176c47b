"""Lines to strips: the gutter, the background to the right edge, highlights.

Also `Look`, what all messages are drawn with. It is needed before the first message is, so nothing here imports what
reads Markdown.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from time import monotonic

from msgspec import Struct, field
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from qwenchat.chat.message import Message
from qwenchat.i18n import ngettext
from qwenchat.markdown.lines import Line
from qwenchat.markdown.palette import Palette
from qwenchat.text.safe import clean_line

GUTTER = 2
"""Cells left of every line, for the mark of the selected message."""
WIDEST = 120
"""Cells beyond which lines of prose are hard to read."""
Highlight = tuple[int, int, Style]
"""First and end character, and the style laid over them."""


class Look(Struct, frozen=True, eq=False):
    """A width, colours, the names of models and what is shown. Another width or theme is another look."""

    width: int = 80
    """Of the view, in cells."""
    palette: Palette = field(default_factory=Palette)
    name_of: Callable[[str], str] = clean_line
    """Returns the name of a model, given its reference."""
    host_of: Callable[[Message], str] = lambda answer: clean_line(answer.host)
    """Returns the host that an answer came from; empty for a model on this computer."""
    can_continue: bool = True
    """Whether continuing an answer is offered."""
    timestamps: bool = True
    """Whether each message has its time."""
    call_since: Callable[[], float] = monotonic
    """Returns when the call of a tool that runs began, in seconds of the monotonic clock."""

    @property
    def measure(self) -> int:
        """The width of the words, in cells."""
        return min(self.width - GUTTER - 1, WIDEST)


class Note(Struct, frozen=True):
    """What is said below a message, and what can be done about it by a click."""

    words: str
    actions: tuple[tuple[str, str], ...] = ()
    """Words and ids of actions."""
    call: str = ""
    """The id of the call in the message that the note is about; empty for the message as a whole."""


class Marks(Struct, frozen=True, kw_only=True):
    """What is drawn between and below messages, by their ids."""

    boundary: str | None = None
    """The oldest message that the model sees; None where it sees all, empty for none of them."""
    fork: str = ""
    """The message that the next question follows, where that is not the last one; else empty."""
    notes: Mapping[str, Note] = field(default_factory=dict)


class Frame(Struct, frozen=True, kw_only=True):
    """How a message is drawn because of what surrounds it."""

    boundary: bool = False
    """Whether the model sees nothing above it."""
    boundary_below: bool = False
    """Whether it is the last one, and the model does not see it either."""
    left_behind: int = 0
    """Of the first message that the next question will not follow: how many such messages there are; else 0."""
    is_left_behind: bool = False
    note: Note | None = None


def strip_of(line: Line, width: int, gutter: Segment, base: Style, highlights: Sequence[Highlight] = ()) -> Strip:
    """Return a line behind its gutter, padded to the width, all over the base style."""
    segments = [gutter, *restyled(line.segments, highlights)]
    fill = width - gutter.cell_length - line.width
    if fill > 0:
        segments.append(Segment(" " * fill))
    return Strip(Segment.apply_style(segments, base), gutter.cell_length + line.width + max(fill, 0))


def end_mark(below: int, columns: int, palette: Palette) -> Strip:
    """Return the mark over the last line that leads to the end, as long as there is room for; `below` in lines."""
    text = ngettext("{count:,} line below", "{count:,} lines below", below).format(count=below)
    fitting = (words for words in (f" ↓ {text} · Ctrl+End ", " ↓ Ctrl+End ") if 2 * cell_len(words) <= columns)
    return Strip([Segment(next(fitting, " ↓ "), palette.mark)])


def restyled(segments: Iterable[Segment], highlights: Sequence[Highlight]) -> Iterable[Segment]:
    """Yield segments with styles laid over spans of characters; spans are in order and do not overlap."""
    at = 0
    waiting = list(reversed(highlights))
    for text, style, _ in segments:
        end = at + len(text)
        here = at
        while waiting and waiting[-1][0] < end:
            first, last, over = waiting[-1]
            first, stop = max(first, here), min(last, end)
            if first > here:
                yield Segment(text[here - at : first - at], style)
            if stop > first:
                yield Segment(text[first - at : stop - at], (style or Style.null()) + over)
            here = max(stop, here)
            if last > end:
                break
            waiting.pop()
        if here < end:
            yield Segment(text[here - at :], style)
        at = end
