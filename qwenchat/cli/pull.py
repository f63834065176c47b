"""`qwenchat models pull`: bring models here, and say how it goes."""

import shlex
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import click

from qwenchat.cli import complete
from qwenchat.cli.output import Output, is_terminal
from qwenchat.cli.pull_report import reporter
from qwenchat.errors import WrongUse
from qwenchat.i18n import _
from qwenchat.models.catalog import Model
from qwenchat.paths import at_home
from qwenchat.program import Program


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL...", shell_complete=complete.models)
@click.option(
    "--from",
    "source",
    default="",
    shell_complete=complete.sources,
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
    folders = ",".join((*program.settings.hub.folders, str(at_home(folder).absolute())))
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
