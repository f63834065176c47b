"""`qwenchat models pull`: bring models here, and say how it goes.

A download's events as a bar on a terminal, as lines in a pipe, as JSON where a program reads.
"""

import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qwenchat.cli import completion
from qwenchat.cli.output import Output, is_terminal
from qwenchat.errors import WrongUse
from qwenchat.i18n import _, labelled
from qwenchat.models.catalogue import Model
from qwenchat.models.download.progress import Checking, Progress, PullEvent, Report, figures, words
from qwenchat.paths import expand_home
from qwenchat.runtime.program import Program
from qwenchat.text.safe import clean_line, human_size

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


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL...", shell_complete=completion.models)
@click.option(
    "--from",
    "source",
    default="",
    shell_complete=completion.sources,
    help="hf, hf-mirror, modelscope, an address, or file:FOLDER.",
)
@click.option("--revision", default="", help="Branch, tag or commit of the repository.")
@click.option("--to", "folder", type=click.Path(path_type=Path, file_okay=False), help="Put the files there.")
@click.option("--yes", is_flag=True, help="Accept the model's licence without being asked.")
@click.option("--json", "as_json", is_flag=True, help="Report as JSON, an object a line.")
@click.pass_obj
def pull(
    program: Program,
    *,
    models: tuple[str, ...],
    source: str,
    revision: str,
    folder: Path | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Download models. A download that was interrupted is carried on.

    MODEL is a size such as 7b or 7b:q4_k_m, owner/repo:q4_k_m, owner/repo/file.gguf, or the address of a file.
    """
    output, paths = Output.standard(), []
    for model in models:
        order = program.order(model, source=source, revision=revision, folder=folder)
        if order.model and order.model.must_accept and not yes:
            _accept(output, order.model)
        with reporter(output, as_json=as_json) as report:
            path = program.pull(order, report, threading.Event())
        paths.append(path)
        if as_json:
            output.json({"event": "done", "model": str(order.reference or model), "path": str(path)})
        else:
            output.data(str(path))
    if folder:
        _tell_where_to_look(output, program, folder, paths)


def _tell_where_to_look(output: Output, program: Program, folder: Path, paths: Sequence[Path]) -> None:
    """Say how models are found by their names from now on that lie where nobody looks."""
    known = {found.path.resolve() for found in program.places.look()}
    if all(path.resolve() in known for path in paths):
        return
    folders = ",".join((*program.settings.hub.folders, str(expand_home(folder).absolute())))
    command = f"qwenchat config set hub.folders {shlex.quote(folders)}"
    output.say(_("To find it by its name, let qwenchat look in that folder: {command}").format(command=command))


def _accept(output: Output, model: Model) -> None:
    """Show the licence and go on when it is accepted. Raises WrongUse where nobody can be asked."""
    terms = _("{model} comes under the {licence} licence, which has terms of its own: {url}")
    output.say(terms.format(model=model.title, licence=model.licence, url=model.licence_url))
    if not is_terminal(sys.stdin):
        raise WrongUse(
            _("The licence of {model} has to be accepted first.").format(model=model.title),
            _("Read it at {url}, then add --yes.").format(url=model.licence_url),
        )
    click.confirm(_("Do you accept it?"), abort=True, err=True)
