"""Tables as lines, of Markdown and of commands that list things.

Columns are as wide as they need while there is room, then shrunk to their longest words, with their cells wrapped.
Where even that is too narrow, a row becomes a record: one line for each cell that is not empty, behind its heading.
Nothing is ever cut off.
"""

from collections.abc import Sequence

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style

from qwenchat.markdown.lines import BLANK, Line, Run, line_of, wrap
from qwenchat.markdown.palette import Palette
from qwenchat.text.wrap import longest_part

Cell = Sequence[Run]
_LEAST = 5
"""Cells below which a column is not worth drawing."""
_LONGEST = 16
"""Cells of a word up to which a column is made wide enough for it; longer ones may be cut."""


def table_lines(
    rows: Sequence[Sequence[Cell]], aligns: Sequence[str], width: int, palette: Palette, *, ruled: bool = True
) -> list[Line]:
    """Return a table's lines; `rows[0]` is the heading, `aligns` is `left`, `center` or `right` for each column.

    A table that is not `ruled` has only spaces between its cells, and its first column, the names of its rows, is not
    broken where it takes up to half of the width.
    """
    columns = len(rows[0])
    if not columns:
        return []
    natural = [max(_cells(row[c]) for row in rows if c < len(row)) or 1 for c in range(columns)]
    gap = Segment(" │ ", palette.muted) if ruled else Segment("  ")
    room = width - len(gap.text) * (columns - 1)
    least = natural if sum(natural) <= room else [_least(rows, column, natural[column]) for column in range(columns)]
    if not ruled:
        least = [max(least[0], min(natural[0], width // 2)), *least[1:]]
    if sum(least) > room:
        return _records(rows, width, palette)
    widths = _fit(natural, least, room)
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


def _least(rows: Sequence[Sequence[Cell]], column: int, natural: int) -> int:
    words = (longest_part("".join(text for text, _ in row[column])) for row in rows if column < len(row))
    return min(natural, max(_LEAST, min(max(words), _LONGEST)))


def _cells(cell: Cell) -> int:
    return sum(cell_len(text) for text, _ in cell)


def _fit(natural: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Return widths that sum to at most `room`, as `least` do: narrow columns have theirs, wide ones share the rest."""
    widths: dict[int, int] = {}
    while wide := [c for c in range(len(natural)) if c not in widths]:
        share, spare = divmod(room - sum(widths.values()), len(wide))
        settled = {c: least[c] for c in wide if least[c] > share} or {
            c: natural[c] for c in wide if natural[c] <= share
        }
        if not settled:
            widest = sorted(wide, key=lambda c: -natural[c])
            settled = {c: share + (place < spare) for place, c in enumerate(widest)}
        widths |= settled
    return [widths[c] for c in range(len(natural))]


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
            if not _cells(cell) and rows[1:]:
                continue
            label = [(text, style + Style(bold=True)) for text, style in heading]
            lines += wrap([*label, (": ", palette.muted), *cell] if rows[1:] else label, width)
    return lines
