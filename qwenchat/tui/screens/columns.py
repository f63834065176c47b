"""Columns in a list of lines, for terminals of any width: the last columns go first, wide characters count double."""

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

_GAP = 2


def aligned(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Return each row as one line of at most `width` cells, columns below one another.

    All rows have the same number of columns, the most important first. Columns that find no room are left out; the
    first is there always, cut if it must be.
    """
    if not rows:
        return []
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    while len(widths) > 1 and sum(widths) + _GAP * (len(widths) - 1) > width:
        widths.pop()
    widths[0] = min(widths[0], max(width, 1))
    gap = " " * _GAP
    return [gap.join(set_cell_size(cell, w) for cell, w in zip(row, widths, strict=False)).rstrip() for row in rows]
