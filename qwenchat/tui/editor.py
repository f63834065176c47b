"""Text in the person's own editor, through a file that is gone afterwards. It blocks as long as the editor runs."""

import os
import shlex
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from qwenchat.errors import WrongUse
from qwenchat.i18n import _

MEMORY = Path("/dev/shm")  # noqa: S108 - the file lies in a folder of its own there, which nobody else may enter


def edit(text: str, environ: Mapping[str, str], *, private: bool) -> str:
    """Return a text as the person left it; a `private` one never reaches a disk. Raises WrongUse."""
    if private and not os.access(MEMORY, os.W_OK):
        raise WrongUse(
            _("A private chat is written to no disk, and there is no other place here for an editor's file."),
            _("Write the question in the prompt."),
        )
    command = shlex.split(environ.get("VISUAL") or environ.get("EDITOR") or "vi")
    with tempfile.TemporaryDirectory(dir=MEMORY if private else None) as folder:
        file = Path(folder) / "question.md"
        file.write_text(text, "utf-8")
        try:
            subprocess.run([*command, file], check=False)
            return file.read_text("utf-8", errors="replace").rstrip("\n")
        except OSError as error:
            raise WrongUse(
                _("The editor {name} can't be started: {reason}.").format(name=command[0], reason=error.strerror),
                _("Set EDITOR to one that can."),
            ) from error
