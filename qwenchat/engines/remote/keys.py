"""The key of a server: looked up when it is first needed, held in memory alone, and shown nowhere.

It comes from an environment variable, from what a command prints, or from a file that only its owner can read. It never
stands in the settings, in an option, in a log or in an error.
"""

import asyncio
import os
import re
import shlex
import signal
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from msgspec import Struct

from qwenchat.engines.remote.server import RemoteServer
from qwenchat.errors import Recovery, RecoveryKind, RemoteUnauthorised
from qwenchat.i18n import _, clauses, reason_of
from qwenchat.paths import expand_home, is_missing
from qwenchat.text.safe import clean_line

COMMAND_S = 60.0
"""Seconds that the command for a key may take: it may ask for a password in a window of its own."""
_LONGEST = 8192
"""Bytes of a key."""
_END_S = 1.0
"""Seconds that a killed command has to be gone."""
_UNSENDABLE = re.compile("[^\x20-\x7e\xa0-\xff]")
"""What the header of a request can't carry: control characters, and all that is not Latin-1."""
_DASHSCOPE = re.compile(r"dashscope(-[a-z0-9]+)?\.aliyuncs\.com")


class KeyPlace(Struct, frozen=True, kw_only=True):
    """Where the key of a server comes from. The key itself is not looked up."""

    kind: Literal["environment", "command", "file"]
    name: str
    """The variable or the file; empty for a command, which may contain a secret."""
    is_set: bool | None
    """Whether a key is there; None for a command, which is run only when the key is needed."""

    @property
    def words(self) -> str:
        """The same for users."""
        where = {
            "environment": _("variable {name}").format(name=clean_line(self.name)),
            "command": _("a command"),
            "file": _("file {name}").format(name=clean_line(self.name)),
        }[self.kind]
        return where if self.is_set is not False else clauses(where, _("not set"))


def key_place(server: RemoteServer, environ: Mapping[str, str]) -> KeyPlace | None:
    """Return where the key of a server comes from; None for one without a key."""
    if server.key_command:
        return KeyPlace(kind="command", name="", is_set=None)
    if server.key_file:
        return KeyPlace(kind="file", name=server.key_file, is_set=not is_missing(expand_home(server.key_file)))
    usual = _usual_variable(server)
    if variable := server.key_env or (usual if usual in environ else ""):
        return KeyPlace(kind="environment", name=variable, is_set=bool(environ.get(variable, "").strip()))
    return None


class Key:
    """A key. Its text is in no repr, so that no log and no traceback shows it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return "Key(…)"

    def header(self) -> bytes:
        """Return the value of the Authorization header."""
        return b"Bearer " + self._text.encode("latin-1")

    def hide(self, text: str) -> str:
        """Return a server's text without the key, which some servers repeat in their errors."""
        return text.replace(self._text, "•••")


class KeyLookup:
    """Looks up the key of one server, once."""

    def __init__(
        self, server: RemoteServer, environ: Mapping[str, str] | None = None, *, command_s: float = COMMAND_S
    ) -> None:
        """Look nothing up yet; `environ` is the process's own where it is not given."""
        self._server, self._command_s = server, command_s
        self._environ = os.environ if environ is None else environ
        self._lock = asyncio.Lock()
        self._is_known = False
        self._key: Key | None = None

    async def get(self) -> Key | None:
        """Return the key; None for a server without one. Raises RemoteUnauthorised where it can't be looked up."""
        async with self._lock:
            if not self._is_known:
                self._key = await self._looked_up()
                self._is_known = True
            return self._key

    def forget(self) -> None:
        """Look the key up again when it is next needed, as when the server did not accept it."""
        self._is_known = False

    async def _looked_up(self) -> Key | None:
        server = self._server
        if server.key_command:
            text = await self._from_command()
        elif server.key_file:
            text = await asyncio.to_thread(self._from_file)
        elif variable := server.key_env or _usual_variable(server):
            text = self._environ.get(variable, "")
            if not text.strip():
                if not server.key_env:
                    return None
                raise self._missing(
                    _("the variable {variable} is not set").format(variable=clean_line(variable)),
                    _("Set it before you start qwenchat."),
                )
        else:
            return None
        return self._checked(text)

    def _checked(self, text: str) -> Key:
        text = text.strip()
        if not text:
            raise self._missing(_("it is empty"), _("Check where it comes from."))
        if len(text) > _LONGEST:
            raise self._missing(_("it is too long to be a key"), _("Check where it comes from."))
        if _UNSENDABLE.search(text):
            raise self._missing(
                _("it has more than one line, or characters that can't be sent"),
                _("A key has letters, digits and signs only. Copy it again."),
            )
        return Key(text)

    async def _from_command(self) -> str:
        """Return what the command prints. Its errors are not shown: they may contain the key."""
        hint = _("Run the command yourself to see what it says.")
        try:
            arguments = shlex.split(self._server.key_command, posix=os.name == "posix")
            process = await asyncio.create_subprocess_exec(
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # it can't write over the screen, or read what is typed there
            )
        except (OSError, ValueError, TypeError) as error:  # TypeError: no words at all
            reason = reason_of(error) if isinstance(error, OSError) and error.strerror else _("it is not a command")
            raise self._missing(_("its command can't be run: {reason}").format(reason=reason), hint) from None
        try:
            async with asyncio.timeout(self._command_s):
                printed = await _beginning(process)
                status = await process.wait() if len(printed) <= _LONGEST else 0
        except TimeoutError:
            raise self._missing(_("its command does not end"), hint) from None
        finally:
            await _end(process)
        if status:
            raise self._missing(_("its command fails with exit code {code}").format(code=status), hint)
        return printed.decode("utf-8", "replace")

    def _from_file(self) -> str:
        """Return the content of the file, which nobody but its owner may read."""
        path = Path(self._server.key_file).expanduser()
        shown = clean_line(shlex.quote(str(path)))
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise self._missing(_("{path} is not a file").format(path=shown), _("Write the key into a file."))
            if os.name == "posix" and status.st_uid != os.geteuid():
                raise self._missing(
                    _("the file {path} belongs to another user").format(path=shown),
                    _("Copy it to a file of your own, then run: chmod 600 FILE"),
                )
            if os.name == "posix" and status.st_mode & 0o077:
                raise self._missing(
                    _("other users may read the file {path}").format(path=shown),
                    _("Run: chmod 600 {path}").format(path=shown),
                )
            with path.open("rb") as file:
                return file.read(_LONGEST + 1).decode("utf-8", "replace")
        except OSError as error:
            raise self._missing(
                _("the file {path} can't be read: {reason}").format(path=shown, reason=reason_of(error)),
                _("Check the path and who may read it."),
            ) from None

    def _missing(self, reason: str, hint: str) -> RemoteUnauthorised:
        name = self._server.name
        message = _("The key of the engine {name} can't be used: {reason}.").format(name=name, reason=reason)
        return RemoteUnauthorised(message, hint, recoveries=(Recovery(RecoveryKind.SET_KEY, name=name),))


def _usual_variable(server: RemoteServer) -> str:
    """Return the variable that holds the key of a well-known service; empty for all other hosts."""
    parts = urlsplit(server.url)
    is_dashscope = parts.scheme == "https" and _DASHSCOPE.fullmatch(parts.hostname or "")
    return "DASHSCOPE_API_KEY" if is_dashscope else ""


async def _beginning(process: asyncio.subprocess.Process) -> bytes:
    """Return what a process prints, as far as it may be a key and a byte more."""
    if process.stdout is None:
        return b""
    try:
        return await process.stdout.readexactly(_LONGEST + 1)
    except asyncio.IncompleteReadError as error:
        return error.partial


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill a process, and what it has started, unless it has ended."""
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    with suppress(TimeoutError):  # a process that it has let go may still have the pipe
        async with asyncio.timeout(_END_S):
            await process.communicate()
