"""The map of `qwenchat needle` on a terminal: live on stderr while a test runs, on stdout in the end.

Every cell has its percent, so that the map can be read without colour. A map that is too wide is cut into several.
"""

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.style import Style

from qwenchat.cli.drawing import Drawn, words
from qwenchat.cli.needle_output import left_words, place_words
from qwenchat.cli.output import Output
from qwenchat.documents.needle.pictures import summary, title
from qwenchat.documents.needle.plan import Cell
from qwenchat.documents.needle.ramp import colour, ink, percent, short_length
from qwenchat.documents.needle.results import CellResult, NeedleReport
from qwenchat.documents.needle.run import CellProgress
from qwenchat.i18n import _, clauses, labelled
from qwenchat.markdown.lines import Line, Run, line_of, wrap

_LABEL, _CELL = 8, 5
"""Widths of the first column and of a cell, in characters."""
_PLAIN, _BOLD, _DIM = Style.null(), Style(bold=True), Style(dim=True)


class LiveMap:
    """Draws the map again with each event."""

    def __init__(self, output: Output, report: Callable[[], NeedleReport]) -> None:
        """`report` returns the test with the results so far."""
        self._report = report
        self._left_s = report().predicted_s
        self._progress: CellProgress | None = None
        console = Console(file=output.err, highlight=False)
        self._live = Live(Drawn(self._lines), console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> "LiveMap":
        self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def progress(self, event: CellProgress) -> None:
        self._progress = event
        self._live.refresh()

    def tested(self, result: CellResult, left_s: float) -> None:
        self._progress, self._left_s = None, left_s
        self._live.refresh()

    def _lines(self, width: int) -> list[Line]:
        running = self._progress.cell if self._progress else None
        status = clauses(self._status(), left_words(self._left_s))
        return [*map_lines(self._report(), width, running), *wrap([(status, _DIM)], width)]

    def _status(self) -> str:
        progress = self._progress
        if progress is None:
            return ""
        place = place_words(progress.cell)
        if not progress.total:
            return place
        return labelled(place, _("{done:,} of {total:,} tokens read").format(done=progress.done, total=progress.total))


def print_map(output: Output, report: NeedleReport) -> None:
    """Print the map of a finished test."""
    console = Console(file=output.out, highlight=False)
    console.print(words((title(report), _BOLD)))
    console.print(Drawn(lambda width: map_lines(report, width)))
    console.print(words((summary(report), _PLAIN)))


def map_lines(report: NeedleReport, width: int, running: Cell | None = None) -> list[Line]:
    """Return the map as lines of at most `width` cells, where that is enough for one length."""
    lengths, each = report.plan.lengths, max(1, (width - _LABEL) // _CELL)
    bands = (lengths[first : first + each] for first in range(0, len(lengths), each))
    return [line_of(runs) for band in bands for runs in _rows(report, band, running)]


def _rows(report: NeedleReport, lengths: Sequence[int], running: Cell | None) -> Iterator[list[Run]]:
    yield [(" " * _LABEL, _PLAIN), *((_in_cell(short_length(length)), _BOLD) for length in lengths)]
    for depth in report.plan.depths:
        cells = (Cell(length, depth) for length in lengths)
        yield [
            (f"{depth:g} %".rjust(_LABEL - 1) + " ", _PLAIN),
            *(_square(report.results.get(cell), is_running=cell == running) for cell in cells),
        ]
    means = [report.score(length=length) for length in lengths]
    yield [(" " * _LABEL, _PLAIN), *((_in_cell("" if mean is None else percent(mean)), _BOLD) for mean in means)]
    yield []


def _square(result: CellResult | None, *, is_running: bool) -> Run:
    if result is None:
        return _in_cell(">" if is_running else "."), _PLAIN
    return _in_cell(percent(result.score)), Style(bgcolor=colour(result.score), color=ink(result.score))


def _in_cell(text: str) -> str:
    return f"{text:>{_CELL - 1}} "
