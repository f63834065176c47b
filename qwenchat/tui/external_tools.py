"""Programs of the user's that the screen runs: the editor, and the tool that fills the system's clipboard.

The editor has the whole terminal while it runs. A clipboard tool is given the text and two seconds, beside the loop;
over ssh none is used, as it would fill the clipboard of the other machine. A terminal's own OSC 52 is the screen's.
"""

import asyncio
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from textual.app import SuspendNotSupported

from qwenchat.errors import FileError, WrongUse
from qwenchat.i18n import _, reason_of
from qwenchat.text.safe import encodable

_DEFAULT_EDITOR = "vi"
MEMORY_FOLDER = Path("/dev/shm")  # noqa: S108 - the file is in a folder there that is readable by its owner alone
"""A file system in memory."""
_CLIPBOARD_TOOLS = (
    ("wl-copy", "WAYLAND_DISPLAY", ()),
    ("xclip", "DISPLAY", ("-selection", "clipboard")),
    ("pbcopy", "", ()),
    ("clip.exe", "", ()),
)
"""Program, the variable that is set where the program can work, arguments."""
_TOOL_TIMEOUT_S = 2.0


def edit_text(
    text: str, command: str, suspended: Callable[[], AbstractContextManager[None]], *, private: bool = False
) -> str:
    """Return a text as the editor saved it; `command` is the value of EDITOR. Raises WrongUse or FileError.

    `suspended` hands the terminal to the editor while it runs; a `private` text never reaches a disk.
    """
    if private and not os.access(MEMORY_FOLDER, os.W_OK):
        raise WrongUse(
            _("A private chat is never written to disk, and an editor needs a file."),
            _("Write the question in the prompt."),
        )
    try:
        with tempfile.TemporaryDirectory(dir=MEMORY_FOLDER if private else None) as folder:
            file = Path(folder) / "question.md"
            file.write_text(encodable(text), "utf-8")
            with suspended():
                _run_editor(command, file)
            return file.read_text("utf-8", errors="replace").rstrip("\n")
    except SuspendNotSupported as error:
        raise WrongUse(
            _("An editor needs the whole terminal, which is not available here."),
            _("Write the question in the prompt."),
        ) from error
    except OSError as error:
        raise FileError(
            _("The text can't be opened in an editor: {reason}.").format(reason=reason_of(error)),
            _("Free space in the folder for temporary files, or set TMPDIR to another folder."),
        ) from error


def _run_editor(command: str, file: Path) -> None:
    try:
        subprocess.run([*(shlex.split(command) or [_DEFAULT_EDITOR]), file], check=False)
    except (OSError, ValueError) as error:
        raise WrongUse(
            _("The editor {name} can't be started: {reason}.").format(
                name=command or _DEFAULT_EDITOR, reason=reason_of(error)
            ),
            _("Set EDITOR to another editor."),
        ) from error


def clipboard_tool(environ: Mapping[str, str]) -> list[str] | None:
    """Return the command that copies its input to the clipboard here, None without one."""
    if environ.get("SSH_CONNECTION") or environ.get("SSH_TTY"):
        return None
    for name, needs, arguments in _CLIPBOARD_TOOLS:
        found = shutil.which(name, path=environ.get("PATH"))
        if found and (not needs or environ.get(needs)):
            return [found, *arguments]
    return None


async def copy_with_tool(text: str, environ: Mapping[str, str]) -> str:
    """Copy text to the clipboard and return the name of the tool that did, empty where none did."""
    command = clipboard_tool(environ)
    if command is None:
        return ""
    encoding = "utf-16-le" if command[0].endswith("clip.exe") else "utf-8"
    quiet = asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=quiet, stderr=quiet, env=dict(environ)
        )
    except OSError:
        return ""
    try:
        await asyncio.wait_for(process.communicate(text.encode(encoding, "replace")), _TOOL_TIMEOUT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        return ""
    return "" if process.returncode else command[0].replace("\\", "/").rpartition("/")[2]
