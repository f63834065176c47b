"""Text that streams into messages: collected, and drawn at most 20 times a second.

It is drawn less often where drawing is slow, so that it never takes more than about an eighth of the time.
"""

from collections.abc import Callable, Mapping
from time import monotonic

from textual.timer import Timer
from textual.widget import Widget

_REPAINT_S = 0.05
_IDLE_SHARE = 8
"""After drawing, wait at least this many times as long as it took."""


class StreamedText:
    """Pieces by message id that are not drawn yet. `draw` is called with their text, on `widget`'s timer."""

    def __init__(self, widget: Widget, draw: Callable[[Mapping[str, str]], object]) -> None:
        self._widget, self._draw = widget, draw
        self._pieces: dict[str, list[str]] = {}
        self._timer: Timer | None = None
        self._not_before = 0.0
        """When text may be drawn next, in seconds of the monotonic clock."""

    def add(self, message_id: str, text: str) -> None:
        """Add a piece; it is drawn soon."""
        self._pieces.setdefault(message_id, []).append(text)
        if self._timer is None:
            self._timer = self._widget.set_timer(max(self._not_before - monotonic(), 0.0001), self.flush)

    def length(self, message_id: str) -> int:
        """Return how many characters of a message are not drawn yet."""
        return sum(map(len, self._pieces.get(message_id, ())))

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
        texts = {message_id: "".join(pieces) for message_id, pieces in self._pieces.items()}
        self._pieces.clear()
        self._draw(texts)
        took = monotonic() - began
        self._not_before = began + max(_REPAINT_S, _IDLE_SHARE * took)
