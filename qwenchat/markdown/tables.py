"""Tables as lines, of Markdown and of commands that list things.

Columns are as wide as they need while there is room, then shrunk, with their cells wrapped. Where even that is too
narrow, a row becomes a record: one line for each cell, behind its heading. Nothing is ever cut off.
"""

from collections.abc import Sequence

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style

from qwenchat.markdown.lines import BLANK, Line, Run, line_of, wrap
from qwenchat.markdown.palette import Palette

Cell = Sequence[Run]
_LEAST = 5
"""Cells below which a column is not worth drawing."""


def table_lines(
    rows: Sequence[Sequence[Cell]], aligns: Sequence[str], width: int, palette: Palette, *, ruled: bool = True
) -> list[Line]:
    """Return a table's lines; `rows[0]` is the heading, `aligns` is `left`, `center` or `right` for each column.

    A table that is not `ruled` has only spaces between its cells.
    """
    columns = len(rows[0])
    if not columns:
        return []
    natural = [max(_cells(row[c]) for row in rows if c < len(row)) or 1 for c in range(columns)]
    gap = Segment(" │ ", palette.muted) if ruled else Segment("  ")
    room = width - len(gap.text) * (columns - 1)
    if sum(natural) > room and room < _LEAST * columns:
        return _records(rows, width, palette)
    widths = _fit(natural, room)
    drawn = [_row(row, widths, aligns, gap) for row in rows]
    if not ruled:
        return [line for row in drawn for line in row]
    between = any(len(lines) > 1 for lines in drawn[1:])
    lines = drawn[0] + [_rule(widths, "━", "┿", palette)]
    for index, row in enumerate(drawn[1:]):
        if between and index:
            lines.append(_rule(widths, "─", "┼", palette))
        lines += row
    return lines


def _cells(cell: Cell) -> int:
    return sum(cell_len(text) for text, _ in cell)


def _fit(natural: Sequence[int], room: int) -> list[int]:
    """Return widths that sum to at most `room`: narrow columns have theirs, wide ones share what is left."""
    widths = list(natural)
    wide = set(range(len(widths)))
    while sum(widths) > room and wide:
        share = (room - sum(w for c, w in enumerate(widths) if c not in wide)) // len(wide)
        narrow = {c for c in wide if natural[c] <= share}
        if not narrow:
            for c in wide:
                widths[c] = max(share, 1)
            spare = room - sum(widths)
            for c in sorted(wide, key=lambda c: -natural[c])[: max(spare, 0)]:
                widths[c] += 1
            break
        wide -= narrow
    return widths


def _row(row: Sequence[Cell], widths: Sequence[int], aligns: Sequence[str], gap: Segment) -> list[Line]:
    cells = [wrap(row[c] if c < len(row) else [], width) for c, width in enumerate(widths)]
    lines = []
    for y in range(max(map(len, cells))):
        segments: list[Segment] = []
        for c, width in enumerate(widths):
            line = cells[c][y] if y < len(cells[c]) else BLANK
            space = max(width - line.width, 0)
            left = {"right": space, "center": space // 2}.get(aligns[c] if c < len(aligns) else "", 0)
            if c:
                segments.append(gap)
            last = c == len(widths) - 1
            segments += [
                *([Segment(" " * left)] if left else []),
                *line.segments,
                *([Segment(" " * (space - left))] if space - left and not last else []),
            ]
        lines.append(Line(tuple(segments), sum(cell_len(segment.text) for segment in segments)))
    return lines


def _rule(widths: Sequence[int], line: str, cross: str, palette: Palette) -> Line:
    text = f"{line}{cross}{line}".join(line * width for width in widths)
    return Line((Segment(text, palette.muted),), len(text), len(text))


def _records(rows: Sequence[Sequence[Cell]], width: int, palette: Palette) -> list[Line]:
    lines: list[Line] = []
    for index, row in enumerate(rows[1:] or rows[:1]):
        if index:
            lines.append(line_of([("─" * min(width, 8), palette.muted)], margin=min(width, 8)))
        for heading, cell in zip(rows[0], row, strict=False):
            label = [(text, style + Style(bold=True)) for text, style in heading]
            lines += wrap([*label, (": ", palette.muted), *cell] if rows[1:] else label, width)
    return lines
