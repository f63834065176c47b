"""Parts of answers that stream: collected, and drawn at most 20 times a second.

They are drawn less often where drawing is slow, so that it never takes more than about an eighth of the time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from time import monotonic

from textual.timer import Timer
from textual.widget import Widget

from qwenchat.chat.message import Part, Reasoning, Text, merged

_REPAINT_S = 0.05
_IDLE_SHARE = 8
"""After drawing, wait at least this many times as long as it took."""


@dataclass(frozen=True, slots=True)
class StreamedPiece:
    """What the part `index` of a message grew by."""

    index: int
    fragment: Part

    @property
    def length(self) -> int:
        """Characters of the text."""
        return len(self.fragment.text) if isinstance(self.fragment, Text | Reasoning) else 0


class StreamedPieces:
    """Pieces by message id that are not drawn yet. `draw` is called with them, on a timer of `widget`."""

    def __init__(self, widget: Widget, draw: Callable[[dict[str, list[StreamedPiece]]], object]) -> None:
        self._widget, self._draw = widget, draw
        self._pieces: dict[str, list[StreamedPiece]] = {}
        self._timer: Timer | None = None
        self._not_before = 0.0
        """When pieces may be drawn next, in seconds of the monotonic clock."""

    def add(self, message_id: str, piece: StreamedPiece) -> None:
        """Add a piece; it is drawn soon."""
        self._pieces.setdefault(message_id, []).append(piece)
        if self._timer is None:
            self._timer = self._widget.set_timer(max(self._not_before - monotonic(), 0.0001), self.flush)

    def length(self, message_id: str, index: int) -> int:
        """Return how many characters of a part are not drawn yet."""
        return sum(piece.length for piece in self._pieces.get(message_id, ()) if piece.index == index)

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
        began = monotonic()
        pieces, self._pieces = self._pieces, {}
        self._draw({message_id: _merged(grown) for message_id, grown in pieces.items()})
        took = monotonic() - began
        self._not_before = began + max(_REPAINT_S, _IDLE_SHARE * took)


def _merged(pieces: list[StreamedPiece]) -> list[StreamedPiece]:
    """Return one piece for those in a row that belong to one part: each piece is parsed and laid out once."""
    return [
        StreamedPiece(index, fragment)
        for index, same in groupby(pieces, key=lambda piece: piece.index)
        for fragment in merged(piece.fragment for piece in same)
    ]
