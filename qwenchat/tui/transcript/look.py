"""What all messages are drawn with. Known before the first of them is, and before anything that reads Markdown."""

from dataclasses import dataclass

from qwenchat.tui.markdown.colours import Palette

GUTTER = 2
"""Cells left of every line, for the mark of the selected message."""
WIDEST = 120
"""Cells beyond which lines of prose are hard to read."""


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """A width and colours. Another width or theme is another look."""

    width: int
    """Of the view, in cells."""
    palette: Palette

    @property
    def measure(self) -> int:
        """The width of the words."""
        return min(self.width - GUTTER - 1, WIDEST)
