"""The system's clipboard, through whichever of its own tools is here; a terminal's OSC 52 is the screen's business.

A tool is given the text and two seconds; it runs beside the loop. Over ssh none is asked: its clipboard is not the one
before the person.
"""

import asyncio
import shutil
from collections.abc import Mapping

_TOOLS = (
    ("wl-copy", "WAYLAND_DISPLAY", ()),
    ("xclip", "DISPLAY", ("-selection", "clipboard")),
    ("pbcopy", "", ()),
    ("clip.exe", "", ()),
)
"""Program, the variable that says that it has something to talk to, arguments."""
_PATIENCE_S = 2.0


def tool(environ: Mapping[str, str]) -> list[str] | None:
    """Return the command that takes text for the clipboard here, None without one."""
    if environ.get("SSH_CONNECTION") or environ.get("SSH_TTY"):
        return None
    for name, needs, arguments in _TOOLS:
        found = shutil.which(name, path=environ.get("PATH"))
        if found and (not needs or environ.get(needs)):
            return [found, *arguments]
    return None


async def put(text: str, environ: Mapping[str, str]) -> str:
    """Put text on the clipboard and return the name of the tool that took it, empty where none did."""
    command = tool(environ)
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
        await asyncio.wait_for(process.communicate(text.encode(encoding, "replace")), _PATIENCE_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        return ""
    return "" if process.returncode else command[0].replace("\\", "/").rpartition("/")[2]
