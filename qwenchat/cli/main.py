"""The root of the command line: finds the command, whose module is imported when that command runs, not before."""

import gc
import importlib
import sys
from typing import Any

import click
from click.core import ParameterSource

from qwenchat import __version__
from qwenchat.cli import completion
from qwenchat.cli.help import localised
from qwenchat.cli.outcome import outcome
from qwenchat.cli.output import Output
from qwenchat.cli.screen import open_screen
from qwenchat.errors import ExitCode, WrongUse
from qwenchat.i18n import _
from qwenchat.runtime.program import Program

_COMMANDS = {
    "ask": "qwenchat.cli.ask",
    "bench": "qwenchat.cli.bench",
    "completion": "qwenchat.cli.completion",
    "config": "qwenchat.cli.config",
    "docs": "qwenchat.cli.docs",
    "doctor": "qwenchat.cli.doctor",
    "engines": "qwenchat.cli.engines",
    "models": "qwenchat.cli.models",
    "needle": "qwenchat.cli.needle",
    "serve": "qwenchat.cli.serve",
    "sessions": "qwenchat.cli.sessions",
    "tools": "qwenchat.cli.tools",
    "web": "qwenchat.cli.web",
}


class LazyGroup(click.Group):
    """A group that imports a command when it is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands' names."""
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command by its name."""
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(_COMMANDS[cmd_name]), cmd_name)
        gc.freeze()
        gc.enable()
        return localised(command)


@click.group(cls=LazyGroup, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="qwenchat", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show a traceback when something fails.")
@click.option(
    "-m", "--model", default="", metavar="REF", shell_complete=completion.models, help="Start with this model."
)
@click.option("--session", default="", metavar="ID", shell_complete=completion.sessions, help="Open this session.")
@click.option("-c", "--continue", "continue_", is_flag=True, help="Open the most recent session.")
@click.option("--theme", default="", metavar="NAME", shell_complete=completion.themes, help="Use this theme.")
@click.option(
    "--inline", is_flag=True, help="Run below the shell prompt instead of full screen; the last answer stays there."
)
@click.pass_context
def root(context: click.Context, /, **options: Any) -> int:
    """Chat with Qwen2 models, offline on your own computer or with engines elsewhere.

    Without a command, it opens the full-screen chat.
    """
    program: Program = context.obj
    _refuse_misplaced(context)
    if context.invoked_subcommand not in ("config", "doctor"):  # these two help where the settings are wrong
        _settings = program.settings  # raises where they are wrong
    context.call_on_close(program.close)
    del options["debug"]  # `main` has read it
    return ExitCode.DONE if context.invoked_subcommand else open_screen(program, **options)


def _refuse_misplaced(context: click.Context) -> None:
    """Raise WrongUse for an option of the screen before a command, where it would have no effect."""
    names = ("model", "session", "continue_", "theme", "inline")
    given = [name for name in names if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    if context.invoked_subcommand and given:
        option = "--" + given[0].rstrip("_")
        raise WrongUse(
            _("{option} has no effect before the command {command}.").format(
                option=option, command=context.invoked_subcommand
            ),
            _("Write it after the command; `qwenchat {command} -h` shows its options.").format(
                command=context.invoked_subcommand
            ),
        )


def main(arguments: list[str] | None = None) -> int:
    """Run the command of these words, or of the process's own, and return its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    return outcome(lambda program: _run(program, words), debug="--debug" in words)


def _run(program: Program, words: list[str]) -> object:
    try:
        return localised(root).main(words, prog_name="qwenchat", standalone_mode=False, obj=program)
    except click.ClickException as error:
        error.show(Output.standard().err)
        return ExitCode.USAGE
    except click.Abort:
        return ExitCode.INTERRUPTED
