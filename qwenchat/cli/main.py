"""The root of the command line: finds the command and turns every error into a message and an exit code.

A command's module is imported when that command runs, not before.
"""

import errno
import gc
import gettext
import importlib
import os
import sys
import traceback
from contextlib import suppress
from typing import Any

import click
from click.core import ParameterSource

from qwenchat import __version__
from qwenchat.cli import completion
from qwenchat.cli.help import localised
from qwenchat.cli.output import Output, OutputLost, ReaderGone, is_dumb, is_terminal, lost
from qwenchat.errors import ExitCode, QwenchatError, WrongUse
from qwenchat.i18n import CATALOGUES, _, language, use_language
from qwenchat.runtime.model_choice import lasting_reference
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

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
"""What writing ends with where there is no room, or no device."""


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
    return ExitCode.DONE if context.invoked_subcommand else _screen(program, options)


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


def _screen(program: Program, options: dict[str, Any]) -> int:
    """Open the screen. Raises WrongUse where there is no terminal that can draw it."""
    if not (is_terminal(sys.stdin) and is_terminal(sys.stdout)):
        raise WrongUse(
            _("The screen needs a terminal."),
            _("From a script, use `qwenchat ask`; `qwenchat -h` lists all commands."),
        )
    if is_dumb():
        raise WrongUse(
            _("The screen can't be drawn on this terminal: TERM is {term}.").format(term=os.environ["TERM"]),
            _("Set TERM to what the terminal is, such as xterm-256color, or use `qwenchat ask`."),
        )
    for name in ("COLUMNS", "LINES"):  # a shell's values, false after a resize, which Textual would take for the size
        os.environ.pop(name, None)
    gc.disable()  # a collection before the first frame would only delay it
    from qwenchat.tui.app import Start, run  # noqa: PLC0415 - the other commands need no screen

    model = options["model"] and lasting_reference(program, options["model"])
    start = Start(model, options["session"], options["theme"])
    return run(program, start, continue_=options["continue_"], inline=options["inline"])


def _set_language(program: Program) -> None:
    """Use the language of the settings for all help, including click's own texts."""
    with suppress(QwenchatError):  # `root` reports it; help and version work without settings
        use_language(program.settings.language)
    os.environ["LANGUAGE"] = language()  # where click's gettext looks
    gettext.bindtextdomain("qwenchat", CATALOGUES)
    gettext.textdomain("qwenchat")


def main(arguments: list[str] | None = None) -> int:
    """Run the program and return its exit code."""
    use_language()
    output = Output.standard()
    words = sys.argv[1:] if arguments is None else arguments
    try:
        program = Program.here()
        _set_language(program)
        try:
            result: Any = localised(root).main(words, prog_name="qwenchat", standalone_mode=False, obj=program)
        except OSError as error:
            if error.filename is None and error.errno in _FULL:  # click's own output, such as help
                raise lost(error) from error
            raise
    except QwenchatError as error:
        if "--debug" in words:
            traceback.print_exc()
        output.error(error)
        if isinstance(error, OutputLost):
            _discard_stdout()
        return error.exit_code
    except click.ClickException as error:
        error.show(output.err)
        return ExitCode.USAGE
    except (click.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    except ReaderGone:
        _discard_stdout()
        return ExitCode.DONE
    except Exception as bug:
        if "--debug" in words:
            traceback.print_exc()
        return _report_bug(output, bug)
    return result if isinstance(result, int) else ExitCode.DONE


def _report_bug(output: Output, bug: Exception) -> ExitCode:
    """Report what no part of the program expected: a bug, or memory that it could not have."""
    from qwenchat.engines.local.memory import lacks_memory, memory_error  # noqa: PLC0415 - seldom needed

    if lacks_memory(bug):
        output.error(memory_error())
        return ExitCode.CANNOT_LOAD
    output.say(_("This is a bug in qwenchat: {what}").format(what=repr(bug)))
    output.say(_("Run it again with --debug and report what it prints."))
    return ExitCode.BUG


def _discard_stdout() -> None:
    """Redirect stdout to nowhere, so that flushing it does not fail again when the process ends."""
    if sys.stdout:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
