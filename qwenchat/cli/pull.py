"""`qwenchat models pull`: downloads models and reports progress.

Events become bars on a terminal, lines in a pipe, or JSON with --json. `models.download.pull` does the downloading.
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
from qwenchat.models.catalogue import CatalogueModel
from qwenchat.models.download.progress import (
    Checking,
    DownloadProgress,
    PullEvent,
    Report,
    event_text,
    progress_text,
)
from qwenchat.paths import expand_home
from qwenchat.runtime.program import Program
from qwenchat.text.safe import clean_line, human_size

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID


LINE_EVERY_S = 5.0
"""Seconds between two progress lines in a pipe."""


@contextmanager
def reporter(output: Output, *, as_json: bool) -> Iterator[Report]:
    """Yield the function to call with each event."""
    if as_json:
        yield lambda event: output.json(as_record(event))
    elif output.colour:
        with _bars(output) as report:
            yield report
    else:
        yield ProgressLines(output)


def as_record(event: PullEvent) -> dict[str, object]:
    """Return an event as JSON: its kind and its fields."""
    fields = asdict(event)
    fields.pop("paths", None)
    if "path" in fields:
        fields["path"] = str(fields["path"])
    return {"event": event.kind, **fields}


class ProgressLines:
    """Prints a line of progress every few seconds, and a line for each other event that has a text."""

    def __init__(
        self, output: Output, every_s: float = LINE_EVERY_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._output, self._every_s, self._clock = output, every_s, clock
        self._printed_at = clock()
        self._is_complete = False

    def __call__(self, event: PullEvent) -> None:
        """Print an event, unless it is progress and the last line is too recent."""
        if text := event_text(event):
            self._output.say(clean_line(text, 500))
        elif isinstance(event, DownloadProgress) and not self._is_complete:
            self._is_complete = event.done == event.total
            if self._is_complete or self._clock() - self._printed_at >= self._every_s:
                self._output.say(labelled(clean_line(event.parts[0].name), progress_text(event)))
                self._printed_at = self._clock()


@contextmanager
def _bars(output: Output) -> Iterator[Report]:
    from rich.console import Console  # noqa: PLC0415 - only on a terminal
    from rich.progress import BarColumn, TextColumn  # noqa: PLC0415
    from rich.progress import Progress as Bars  # noqa: PLC0415

    console = Console(file=output.err, highlight=False)
    name = TextColumn("{task.description}", markup=False)
    percent = TextColumn("{task.percentage:>3.0f}%", markup=False)
    text = TextColumn("{task.fields[text]}", markup=False)
    with Bars(name, BarColumn(), percent, text, console=console) as bars:
        yield _ProgressBars(bars)


class _ProgressBars:
    """A bar for each part, and one for the whole model where there are several."""

    def __init__(self, bars: "Bars") -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._checking: set[str] = set()

    def __call__(self, event: PullEvent) -> None:
        if isinstance(event, DownloadProgress):
            self._draw(event)
        elif isinstance(event, Checking):
            self._checking.add(event.name)
        elif text := event_text(event):
            self._bars.console.print(clean_line(text, 500), markup=False)

    def _draw(self, event: DownloadProgress) -> None:
        several = len(event.parts) > 1
        for part in event.parts:
            text = human_size(part.done) if several else progress_text(event)
            if part.name in self._checking:
                text = _("checking its sha256") if part.done == part.size else text
            self._show(part.name, text, completed=part.done, total=part.size)
        if several:
            self._show(_("all parts"), progress_text(event), completed=event.done, total=event.total)

    def _show(self, name: str, text: str, *, completed: int, total: int | None) -> None:
        if name not in self._tasks:
            label = clean_line(name)
            short = label if len(label) <= 40 else f"…{label[-39:]}"
            self._tasks[name] = self._bars.add_task(short, total=total, text="")
        self._bars.update(self._tasks[name], completed=completed, total=total, text=text)


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL...", shell_complete=completion.published_models)
@click.option(
    "--from",
    "source",
    default="",
    shell_complete=completion.sources,
    help="hf, hf-mirror, modelscope, a URL, or file:FOLDER.",
)
@click.option("--revision", default="", help="Branch, tag or commit of the repository.")
@click.option("--to", "folder", type=click.Path(path_type=Path, file_okay=False), help="Folder to put the files in.")
@click.option("--yes", is_flag=True, help="Accept the model's licence without being asked.")
@click.option("--json", "as_json", is_flag=True, help="Report as JSON, one object per line.")
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
    """Download models. An interrupted download is resumed.

    MODEL is a name such as 7b, 7b:q4_k_m or coder-7b, owner/repo:q4_k_m, owner/repo/file.gguf, or the URL of a file.
    """
    output, paths = Output.standard(), []
    for model in models:
        plan = program.plan_download(model, source=source, revision=revision, folder=folder)
        if plan.model and plan.model.must_accept and not yes:
            _ask_to_accept(output, plan.model)
        with reporter(output, as_json=as_json) as report:
            path = program.pull(plan, report, threading.Event())
        paths.append(path)
        if as_json:
            output.json({"event": "done", "model": str(plan.reference or model), "path": str(path)})
        else:
            output.data(str(path))
    if folder:
        _say_how_to_add_folder(output, program, folder, paths)


def _say_how_to_add_folder(output: Output, program: Program, folder: Path, paths: Sequence[Path]) -> None:
    """Print the command that adds the folder to those searched for models, unless it is searched already."""
    known = {found.path.resolve() for found in program.model_folders.scan()[0]}
    if all(path.resolve() in known for path in paths):
        return
    folders = ",".join((*program.settings.hub.folders, str(expand_home(folder).absolute())))
    command = f"qwenchat config set hub.folders {shlex.quote(folders)}"
    output.say(_("To find it by name, let qwenchat search that folder: {command}").format(command=command))


def _ask_to_accept(output: Output, model: CatalogueModel) -> None:
    """Show the licence and return when the user accepts it. Raises WrongUse without a terminal to ask on."""
    terms = _("{model} is published under the {licence} licence, which has its own terms: {url}")
    output.say(terms.format(model=model.title, licence=model.licence, url=model.licence_url))
    if not is_terminal(sys.stdin):
        raise WrongUse(
            _("The licence of {model} must be accepted first.").format(model=model.title),
            _("Read it at {url}, then add --yes.").format(url=model.licence_url),
        )
    click.confirm(_("Do you accept it?"), abort=True, err=True)
