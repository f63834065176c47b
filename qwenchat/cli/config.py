"""`qwenchat config`: shows and changes settings. `qwenchat.config` decides which values are valid."""

from enum import Enum
from typing import Any

import click
import msgspec

from qwenchat import config as settings_file
from qwenchat.cli import completion
from qwenchat.cli.output import Output
from qwenchat.i18n import _
from qwenchat.paths import expand_home, folder_problem
from qwenchat.runtime.program import Program
from qwenchat.text.safe import clean_line


@click.group()
def config() -> None:
    """Show and change settings."""


@config.command()
@click.pass_obj
def path(program: Program) -> None:
    """Print the path of the settings file, whether or not it exists."""
    Output.standard().data(str(program.paths.settings))


@config.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def show(program: Program, as_json: bool) -> None:
    """List every setting with its value."""
    output = Output.standard()
    if as_json:
        output.json(msgspec.to_builtins(program.settings))
        return
    rows = [(key, _shown(settings_file.get(program.settings, key))) for key in settings_file.names(program.settings)]
    output.table([_("setting"), _("value")], rows)


@config.command()
@click.argument("key", shell_complete=completion.settings)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def get(program: Program, key: str, as_json: bool) -> None:
    """Print one setting."""
    value = settings_file.get(program.settings, key)
    output = Output.standard()
    if as_json:
        output.json(msgspec.to_builtins(value))
    else:
        output.data(_shown(value))


@config.command(name="set")
@click.argument("key", shell_complete=completion.settings)
@click.argument("value", shell_complete=completion.values)
@click.pass_obj
def set_(program: Program, key: str, value: str) -> None:
    """Change one setting; an empty VALUE resets it to its default."""
    settings = settings_file.put(program.paths.settings, key, value)
    if key == "hub.folders":
        for folder in settings.hub.folders:
            if reason := folder_problem(expand_home(folder)):
                words = _("{folder} can't be searched for models yet: {reason}.")
                Output.standard().say(words.format(folder=clean_line(folder), reason=reason))


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(value) if isinstance(value, tuple) else str(value)
