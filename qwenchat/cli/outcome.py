"""Runs what a command line asks for, and turns every error into a message and an exit code.

It knows no command and not Click, without which the screen opens.
"""

import errno
import gettext
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress

from qwenchat.cli.output import Output, OutputLost, ReaderGone, lost
from qwenchat.errors import ExitCode, QwenchatError
from qwenchat.i18n import CATALOGUES, _, language, use_language
from qwenchat.runtime.program import Program

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
"""What writing ends with where there is no room, or no device."""


def outcome(work: Callable[[Program], object], *, debug: bool) -> int:
    """Run `work` and return its exit code: its result if that is a number. `debug` prints tracebacks."""
    use_language()
    output = Output.standard()
    try:
        program = Program.here()
        _set_language(program)
        try:
            result = work(program)
        except OSError as error:
            if error.filename is None and error.errno in _FULL:  # Click's own output, such as help
                raise lost(error) from error
            raise
    except QwenchatError as error:
        if debug:
            traceback.print_exc()
        output.error(error)
        if isinstance(error, OutputLost):
            _discard_stdout()
        return error.exit_code
    except (KeyboardInterrupt, EOFError):
        return ExitCode.INTERRUPTED
    except ReaderGone:
        _discard_stdout()
        return ExitCode.DONE
    except Exception as bug:
        if debug:
            traceback.print_exc()
        return _report_bug(output, bug)
    return result if isinstance(result, int) else ExitCode.DONE


def _set_language(program: Program) -> None:
    """Use the language of the settings for all help, including Click's own texts."""
    with suppress(QwenchatError):  # the command reports it; help and version work without settings
        use_language(program.settings.language)
    os.environ["LANGUAGE"] = language()  # where Click's gettext looks
    gettext.bindtextdomain("qwenchat", CATALOGUES)
    gettext.textdomain("qwenchat")


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
