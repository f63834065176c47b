"""How `qwenchat needle` reports a test where it draws no map: a line for each cell on stderr, rows on stdout in a pipe.

`needle_map` is for terminals.
"""

from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from qwenchat.cli.output import Output
from qwenchat.documents.needle.plan import Cell
from qwenchat.documents.needle.ramp import percent
from qwenchat.documents.needle.results import CellResult, NeedleReport
from qwenchat.documents.needle.run import CellProgress
from qwenchat.i18n import _, clauses, labelled
from qwenchat.text.safe import clean_line

_ANSWER = 60
"""Characters of an answer in a line."""


class NeedleView(Protocol):
    """Shows a test while it runs; a context manager that restores the terminal."""

    def __enter__(self) -> "NeedleView": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def progress(self, event: CellProgress) -> None:
        """Show which cell is tested."""
        ...

    def tested(self, result: CellResult, left_s: float) -> None:
        """Show a result, and how many seconds the rest will take."""
        ...


class NeedleLines:
    """Writes a line for each cell."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def __enter__(self) -> "NeedleLines":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def progress(self, event: CellProgress) -> None:
        return None

    def tested(self, result: CellResult, left_s: float) -> None:
        score = _("{percent} %").format(percent=percent(result.score))
        answer = clean_line(result.answer, _ANSWER)
        self._output.say(clauses(labelled(place_words(result.cell), score), answer, left_words(left_s)))


def view_for(output: Output, report: Callable[[], NeedleReport]) -> NeedleView:
    """Return what shows a test on this output; `report` returns the test with the results so far."""
    if output.colour:
        from qwenchat.cli.needle_map import LiveMap  # noqa: PLC0415 - rich is for terminals only

        return LiveMap(output, report)
    return NeedleLines(output)


def row(result: CellResult) -> tuple[str, ...]:
    """Return a result as a row for programs: length, depth, percent found, answer."""
    return str(result.length), f"{result.depth:g}", percent(result.score), result.answer


def place_words(cell: Cell) -> str:
    """Return where a cell is."""
    return _("{length:,} tokens, depth {depth:g} %").format(length=cell.length, depth=cell.depth)


def left_words(seconds: float) -> str:
    """Return how much time is left."""
    return _("{time} left").format(time=duration(seconds))


def duration(seconds: float) -> str:
    """Return seconds as `2:03`, or as `1:02:03` from an hour on."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
