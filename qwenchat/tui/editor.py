"""The person's own editor, which has the whole terminal while it runs."""

import os
import shlex
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from textual.app import SuspendNotSupported

from qwenchat.errors import FileError, WrongUse
from qwenchat.i18n import _
from qwenchat.text.safe import encodable

_USUAL = "vi"
MEMORY = Path("/dev/shm")  # noqa: S108 - the file lies in a folder of its own there, which nobody else may enter
"""Where files are that reach no disk."""


def edited(
    text: str, command: str, suspended: Callable[[], AbstractContextManager[None]], *, private: bool = False
) -> str:
    """Return a text as the editor left it; `command` is what EDITOR says. Raises WrongUse or FileError.

    `suspended` gives the terminal away for as long as the editor runs; a `private` text never reaches a disk.
    """
    if private and not os.access(MEMORY, os.W_OK):
        raise WrongUse(
            _("A private chat is written to no disk, and there is no other place here for an editor's file."),
            _("Write the question in the prompt."),
        )
    try:
        with tempfile.TemporaryDirectory(dir=MEMORY if private else None) as folder:
            file = Path(folder) / "question.md"
            file.write_text(encodable(text), "utf-8")
            with suspended():
                _run(command, file)
            return file.read_text("utf-8", errors="replace").rstrip("\n")
    except SuspendNotSupported as error:
        raise WrongUse(
            _("An editor needs the whole terminal, which is not to be had here."),
            _("Start qwenchat without --inline."),
        ) from error
    except OSError as error:
        raise FileError(
            _("The text can't be handed to an editor: {reason}.").format(reason=error.strerror or error),
            _("Make room where temporary files go, or set TMPDIR to another folder."),
        ) from error


def _run(command: str, file: Path) -> None:
    try:
        subprocess.run([*(shlex.split(command) or [_USUAL]), file], check=False)
    except (OSError, ValueError) as error:
        raise WrongUse(
            _("The editor {name} can't be started: {reason}.").format(
                name=command or _USUAL, reason=(error.strerror if isinstance(error, OSError) else "") or error
            ),
            _("Set EDITOR to one that can."),
        ) from error
