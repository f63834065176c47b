"""Writes the blocks of a document as Markdown: paragraphs, headings, list items and tables.

The result is text for reading. Styles, links and pictures are lost, and so are tables that only place things on a page:
what stands in their cells becomes paragraphs. All of it takes a time that grows no faster than the document.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

_DEEPEST_TABLE = 8
"""Tables inside tables; in deeper ones the cells are paragraphs."""
_LONGEST_CELL = 1_000
"""Characters of a cell; a table with a longer one places paragraphs on a page."""


class _Block(NamedTuple):
    text: str
    is_tight: bool = False
    """Whether no blank line parts it from another such block."""
    is_large: bool = False
    """Whether it is a heading or a table, which no cell of a table can hold."""


@dataclass(frozen=True, slots=True)
class _Table:
    rows: list[list[list[_Block]]] = field(default_factory=list)

    def blocks(self) -> list[_Block]:
        """Return the table as one block, or as the blocks in its cells if it is not one of short texts."""
        blocks = [block for row in self.rows for cell in row for block in cell]
        if any(block.is_large for block in blocks):
            return blocks
        rows = [row for row in map(_cells, self.rows) if row]
        widest = max((len(row) for row in rows), default=0)
        if widest < 2 or any(len(text) > _LONGEST_CELL for row in rows for text in row):
            return blocks
        if len(rows) == 1:
            return [_Block(" | ".join(rows[0]))]
        rows[0] += [""] * (widest - len(rows[0]))
        first, *others = (f"| {' | '.join(row)} |" for row in rows)
        return [_Block("\n".join((first, "|" + " --- |" * widest, *others)), is_large=True)]


def _cells(row: list[list[_Block]]) -> list[str]:
    """Return the cells of a row as lines, without the empty ones at its end."""
    cells = [" ".join(" ".join(block.text for block in cell).split()).replace("|", r"\|") for cell in row]
    while cells and not cells[-1]:
        cells.pop()
    return cells


class Blocks:
    """Collects blocks in the order of reading. Tables that are never ended are ended with the document."""

    def __init__(self) -> None:
        self._finished: list[_Block] = []
        self._tables: list[_Table] = []
        self._too_deep = 0
        """Tables inside those that are noted."""
        self._last: _Block | None = None
        """The last block that was taken."""

    def add(self, text: str, prefix: str = "", *, is_tight: bool = False) -> None:
        """Add a paragraph, or a list item, whose `prefix` is its mark. A block without text is left out."""
        text = text.strip("\n").rstrip()
        if text:
            self._add(_Block(prefix + text, is_tight))

    def add_heading(self, text: str, level: int) -> None:
        """Add a heading of a level from 1; it becomes one line."""
        text = " ".join(text.split())
        if text:
            self._add(_Block(f"{'#' * max(1, min(level, 6))} {text}", is_large=True))

    def begin_table(self) -> None:
        """Begin a table, which may stand in a cell."""
        if self._too_deep or len(self._tables) == _DEEPEST_TABLE:
            self._too_deep += 1
        else:
            self._tables.append(_Table())

    def begin_row(self) -> None:
        """Begin a row of the innermost table."""
        if self._tables and not self._too_deep:
            self._tables[-1].rows.append([])

    def begin_cell(self) -> None:
        """Begin a cell; the first one of a table begins a row, too."""
        if self._tables and not self._too_deep:
            if not self._tables[-1].rows:
                self.begin_row()
            self._tables[-1].rows[-1].append([])

    def end_table(self) -> None:
        """End the innermost table; outside a table it does nothing."""
        if self._too_deep:
            self._too_deep -= 1
        elif self._tables:
            for block in self._tables.pop().blocks():
                self._add(block)

    def take(self) -> str:
        """Return the text of the blocks since the last call; those of a table come once it has ended."""
        pieces: list[str] = []
        for block in self._finished:
            if self._last is not None:
                pieces.append("\n" if block.is_tight and self._last.is_tight else "\n\n")
            pieces.append(block.text)
            self._last = block
        self._finished.clear()
        return "".join(pieces)

    def take_rest(self) -> str:
        """End all tables, and return the text of the blocks since the last call."""
        self._too_deep = 0
        while self._tables:
            self.end_table()
        return self.take()

    def _add(self, block: _Block) -> None:
        for table in reversed(self._tables):
            if table.rows and table.rows[-1]:
                table.rows[-1][-1].append(block)
                return
        self._finished.append(block)
