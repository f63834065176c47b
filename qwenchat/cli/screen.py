"""Opens the screen. It does not import Click, so that plain `qwenchat`, which has no options, need not wait for it."""

import gc
import os
import sys

from qwenchat.cli.outcome import outcome
from qwenchat.cli.output import is_dumb, is_terminal
from qwenchat.errors import WrongUse
from qwenchat.i18n import _
from qwenchat.runtime.program import Program


def main() -> int:
    """Open the screen as the settings have it, and return the exit code."""
    return outcome(_open, debug=False)


def _open(program: Program) -> int:
    try:
        return open_screen(program)
    finally:
        program.close()


def open_screen(
    program: Program,
    *,
    model: str = "",
    session: str = "",
    theme: str = "",
    continue_: bool = False,
    inline: bool = False,
) -> int:
    """Open the screen and return the exit code.

    `model` is a reference, `session` the beginning of an id, `theme` a name; `continue_` opens the latest session,
    `inline` draws below the shell's prompt. Raises WrongUse where there is no terminal that can draw it, and what the
    settings raise where they are wrong.
    """
    _settings = program.settings
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
    from qwenchat.tui.app import Start, run  # noqa: PLC0415 - a refusal needs no screen

    if model:
        from qwenchat.runtime.model_choice import lasting_reference  # noqa: PLC0415 - without a model, nothing is looked up

        model = lasting_reference(program, model)
    return run(program, Start(model, session, theme), continue_=continue_, inline=inline)
