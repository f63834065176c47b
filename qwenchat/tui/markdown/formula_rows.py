"""The parts of a formula that take several lines, and setting them beside what takes one. Knows no LaTeX."""

import re
from dataclasses import dataclass, field

from rich.cells import cell_len

from qwenchat.tui.markdown import symbols


@dataclass(slots=True)
class Rows:
    """A matrix, cases or aligned lines: what takes several lines where there is room for them."""

    environment: str
    rows: list[list[str]] = field(default_factory=lambda: [[""]])

    def inline(self) -> str:
        """Return the rows on one line, semicolons between them."""
        pair = symbols.BRACKETS.get(self.environment, ("", "", "  "))[2]
        rows = "; ".join(", ".join(cell.strip() for cell in row) for row in self.rows)
        return f"{pair[0]}{rows}{pair[1]}".strip()

    def lines(self) -> list[str]:
        """Return the rows with their columns aligned, in tall brackets."""
        widths: list[int] = []
        for row in self.rows:
            widths += [0] * (len(row) - len(widths))
            widths[: len(row)] = map(max, widths, map(cell_len, row))
        aligned = not self.environment.endswith(("matrix", "array", "cases"))
        gap = " " if aligned else "  "
        out = []
        for row in self.rows:
            cells = []
            for index, (cell, width) in enumerate(zip(row, widths, strict=False)):
                space = " " * (width - cell_len(cell))
                cells.append(space + cell if aligned and index % 2 == 0 and len(row) > 1 else cell + space)
            out.append(gap.join(cells).rstrip() if aligned else gap.join(cells))
        left, right, _ = symbols.BRACKETS.get(self.environment, ("", "", ""))
        if not left:
            return out
        if len(out) == 1:
            return [self.inline()]
        place = [0, *[1] * (len(out) - 2), 2]
        full = max(map(cell_len, out))
        return [
            f"{left[p]} {line}{' ' * (full - cell_len(line))} {right[p]}".rstrip()
            for p, line in zip(place, out, strict=True)
        ]


def beside(blocks: list[list[str]]) -> list[str]:
    """Set blocks side by side, each centred on the tallest."""
    height = max(map(len, blocks), default=0)
    rows = [""] * height
    for block in blocks:
        width = max(map(cell_len, block))
        above = (height - len(block)) // 2
        for y in range(height):
            line = block[y - above] if 0 <= y - above < len(block) else ""
            rows[y] += (" " if rows[y] else "") + line + " " * (width - cell_len(line))
    return rows


def tidy(text: str) -> str:
    """Return a formula without the spaces that its notation leaves over."""
    text = re.sub(r"[ \t]+", " ", text)
    return re.sub(r" ?\n ?", "\n", re.sub(r"([(\[⟨|]) | (?=[)\]⟩,;.])", r"\1", text)).strip()
