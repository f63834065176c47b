"""What commands draw on a terminal: Markdown, words and tables, laid out by `qwenchat.markdown` as on the screen.

Colours are the terminal's own. Rich writes the lines and decides nothing about them. Text must be clean.
"""

from collections.abc import Callable, Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style

from qwenchat.markdown.lines import Line, Run, wrap
from qwenchat.markdown.palette import Palette
from qwenchat.markdown.render import render
from qwenchat.markdown.tables import table_lines
from qwenchat.text.wrap import drawable


class Drawn:
    """Lines that `lay_out` makes for the width of the console that prints them."""

    def __init__(self, lay_out: Callable[[int], Sequence[Line]]) -> None:
        self.lay_out = lay_out

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield what the console writes."""
        for line in self.lay_out(options.max_width):
            yield from line.segments
            yield Segment.line()


def markdown(text: str, palette: Palette) -> Drawn:
    """Return Markdown as it is read."""
    return Drawn(lambda width: render(text, width, palette))


def words(*runs: Run) -> Drawn:
    """Return styled text without newlines."""
    return Drawn(lambda width: wrap([(drawable(text), style) for text, style in runs], width))


def literal(text: str, style: Style | None = None) -> Drawn:
    """Return text as it was typed."""
    lines = [(drawable(line), style or Style.null()) for line in text.split("\n")]
    return Drawn(lambda width: [part for line in lines for part in wrap([line], width)])


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Drawn:
    """Return a table without rules between its cells."""
    styled = [(headings, Style(bold=True)), *((row, Style.null()) for row in rows)]
    cells = [[[(drawable(cell), style)] for cell in row] for row, style in styled]
    return Drawn(lambda width: table_lines(cells, (), width, Palette.of_terminal(), ruled=False))
