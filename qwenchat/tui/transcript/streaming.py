"""Parts of answers that stream: collected, and drawn 8 to 20 times a second.

The model that generates them computes on the same cores, and each frame interrupts it. So frames are the rarer the more
processor time they cost: between 8 and 20 a second, they take about 3 % of a core.
"""

from collections.abc import Callable
from itertools import groupby
from time import monotonic, thread_time

from msgspec import Struct, structs
from textual.timer import Timer
from textual.widget import Widget

from qwenchat.chat.message import Message, Part, Reasoning, Text, merged

_SHORTEST_S, _LONGEST_S = 0.05, 0.125
"""Seconds between two frames."""
_IDLE_SHARE = 32
"""Between two frames, wait this many times the processor time of one: of all that the screen did for it."""


class StreamedPiece(Struct, frozen=True):
    """What the part `index` of a message grew by."""

    index: int
    fragment: Part


class StreamedPieces:
    """Pieces by message id that are not drawn yet. `draw` is called with them, on a timer of `widget`."""

    def __init__(self, widget: Widget, draw: Callable[[dict[str, list[StreamedPiece]]], object]) -> None:
        self._widget, self._draw = widget, draw
        self._pieces: dict[str, list[StreamedPiece]] = {}
        self._timer: Timer | None = None
        self._not_before = 0.0
        """When pieces may be drawn next, in seconds of the monotonic clock."""
        self._used = 0.0
        """The processor time of the screen's thread when the last frame began, in seconds."""

    def add(self, message: Message, piece: StreamedPiece, offset: int | None = None) -> None:
        """Add a piece of a message; it is drawn soon.

        `offset` is how many characters of the part come before it: what is there already is not added again.
        """
        fragment = piece.fragment
        if offset is not None and isinstance(fragment, Text | Reasoning):
            drawn = _length(message.parts[piece.index]) if piece.index < len(message.parts) else 0
            waiting = sum(
                _length(each.fragment) for each in self._pieces.get(message.id, ()) if each.index == piece.index
            )
            known = max(drawn + waiting - offset, 0)
            if known >= len(fragment.text):
                return
            piece = structs.replace(piece, fragment=structs.replace(fragment, text=fragment.text[known:]))
        self._pieces.setdefault(message.id, []).append(piece)
        if self._timer is None:
            self._timer = self._widget.set_timer(max(self._not_before - monotonic(), 0.0001), self.flush)

    def clear(self) -> None:
        """Forget what is not drawn yet."""
        self._pieces.clear()

    def flush(self) -> None:
        """Draw now."""
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        if not self._pieces:
            return
        before, self._used = self._used, thread_time()
        self._not_before = monotonic() + min(max(_SHORTEST_S, _IDLE_SHARE * (self._used - before)), _LONGEST_S)
        pieces, self._pieces = self._pieces, {}
        self._draw({message_id: _merged(grown) for message_id, grown in pieces.items()})


def _length(part: Part) -> int:
    """Return the characters of a text."""
    return len(part.text) if isinstance(part, Text | Reasoning) else 0


def _merged(pieces: list[StreamedPiece]) -> list[StreamedPiece]:
    """Return one piece for those in a row that belong to one part: each piece is parsed and laid out once."""
    return [
        StreamedPiece(index, fragment)
        for index, same in groupby(pieces, key=lambda piece: piece.index)
        for fragment in merged(piece.fragment for piece in same)
    ]
