"""Parts of answers that stream: collected, and drawn at most 20 times a second.

They are drawn less often where drawing is slow, so that it never takes more than about an eighth of the time.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import groupby
from time import monotonic

from textual.timer import Timer
from textual.widget import Widget

from qwenchat.chat.message import Message, Part, Reasoning, Text, merged

_REPAINT_S = 0.05
_IDLE_SHARE = 8
"""After drawing, wait at least this many times as long as it took."""


@dataclass(frozen=True, slots=True)
class StreamedPiece:
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
            piece = replace(piece, fragment=replace(fragment, text=fragment.text[known:]))
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
        began = monotonic()
        pieces, self._pieces = self._pieces, {}
        self._draw({message_id: _merged(grown) for message_id, grown in pieces.items()})
        took = monotonic() - began
        self._not_before = began + max(_REPAINT_S, _IDLE_SHARE * took)


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
