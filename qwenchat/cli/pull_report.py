"""A download's events as a bar on a terminal, as lines in a pipe, as JSON where a program reads."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

from qwenchat.cli.output import Output
from qwenchat.i18n import _, labelled
from qwenchat.models.progress import Checking, Progress, PullEvent, Report, figures, words
from qwenchat.text import clean_line, human_size

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

EVERY_S = 5.0
"""Between two lines in a pipe."""


@contextmanager
def reporter(output: Output, *, as_json: bool) -> Iterator[Report]:
    """Yield what to call with each event."""
    if as_json:
        yield lambda event: output.json(as_record(event))
    elif output.err.isatty():
        with _bars(output) as report:
            yield report
    else:
        yield Lines(output)


def as_record(event: PullEvent) -> dict[str, object]:
    """Return an event as JSON takes it: its kind and its fields."""
    kind = "".join(f"_{char.lower()}" if char.isupper() else char for char in type(event).__name__).lstrip("_")
    fields = {name: str(value) if name == "path" else value for name, value in asdict(event).items() if name != "slot"}
    return {"event": kind, **fields}


class Lines:
    """A line every few seconds, and one for each thing that happens."""

    def __init__(self, output: Output, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._output, self._every_s, self._clock = output, every_s, clock
        self._said = clock()

    def __call__(self, event: PullEvent) -> None:
        """Say it, unless the last line is too near."""
        if text := words(event):
            self._output.say(clean_line(text, 500))
        elif isinstance(event, Progress):
            complete = event.done == event.total
            if self._clock() - self._said >= self._every_s or complete:
                self._output.say(labelled(clean_line(event.parts[0].name), figures(event)))
                self._said = float("inf") if complete else self._clock()


@contextmanager
def _bars(output: Output) -> Iterator[Report]:
    from rich.console import Console  # noqa: PLC0415 - only on a terminal
    from rich.progress import BarColumn, TextColumn  # noqa: PLC0415
    from rich.progress import Progress as Bars  # noqa: PLC0415

    console = Console(file=output.err, no_color=not output.colour, highlight=False)
    name, percent = TextColumn("{task.description}", markup=False), TextColumn("{task.percentage:>3.0f}%", markup=False)
    text = TextColumn("{task.fields[figures]}", markup=False)
    with Bars(name, BarColumn(), percent, text, console=console) as bars:
        yield _Board(bars)


class _Board:
    """A bar for each part, and one for the whole where there are several."""

    def __init__(self, bars: "Bars") -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._checking: set[str] = set()

    def __call__(self, event: PullEvent) -> None:
        if isinstance(event, Progress):
            self._draw(event)
        elif isinstance(event, Checking):
            self._checking.add(event.name)
        elif text := words(event):
            self._bars.console.print(clean_line(text, 500), markup=False)

    def _draw(self, event: Progress) -> None:
        several = len(event.parts) > 1
        for part in event.parts:
            text = human_size(part.done) if several else figures(event)
            if part.name in self._checking:
                text = _("checking its sha256") if part.done == part.size else text
            self._show(part.name, completed=part.done, total=part.size, figures=text)
        if several:
            self._show(_("all parts"), completed=event.done, total=event.total, figures=figures(event))

    def _show(self, name: str, *, completed: int | None = None, total: int | None = None, figures: str) -> None:
        if name not in self._tasks:
            label = clean_line(name)
            short = label if len(label) <= 40 else f"…{label[-39:]}"
            self._tasks[name] = self._bars.add_task(short, total=total, figures="")
        self._bars.update(self._tasks[name], completed=completed, total=total, figures=figures)
