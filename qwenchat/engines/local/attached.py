"""The worker of another program, which shares the model in it (`sharing`): found by its socket, used like one's own.

Only the user's own programs are trusted: the folder of the sockets, the socket and the process behind it must belong to
the user, and nobody else may enter the folder. Nothing is loaded or saved over such a link, and the other program must
be of the same version. Windows has no sockets that could be checked like that, so there nothing is shared.
"""

import asyncio
import contextlib
import os
import socket
import stat
import struct
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import msgspec
from msgspec import Struct

from qwenchat import __version__
from qwenchat.chat.sampling import Sampling
from qwenchat.engines.local.link import CANCEL_S, CANCEL_WITH_PEERS_S, WorkerLink, received
from qwenchat.engines.local.protocol import Hello, LoadPlan, Ready, WorkerReply
from qwenchat.engines.prompt_format import TemplateFacts
from qwenchat.errors import EngineDied
from qwenchat.i18n import _

INTRODUCTION_S = 1.0
"""How long a program may take to say what it shares; one that is suspended says nothing."""
LARGEST_INTRODUCTION = 1 << 20
_CREDENTIALS = struct.Struct("iII")
"""Linux' `struct ucred`: the ids of the process, of its user and of its group."""


class SharedModel(Struct, frozen=True, kw_only=True):
    """A model that a program shares: the first message on each connection."""

    version: str = __version__
    """Of qwenchat: only the same version speaks the same protocol."""
    plan: LoadPlan
    reference: str
    """The model reference under which it was loaded."""
    name: str
    """The model's name for users."""
    stamps: tuple[tuple[int, int, int] | None, ...]
    """What its files were when it was loaded (`PlannedModel.stamps`)."""
    files: tuple[bytes, ...]
    """Their paths, in the operating system's encoding."""
    hello: Hello
    ready: Ready
    template: TemplateFacts
    """What was found out about the model's chat template, so that it need not be rendered again."""
    advised: Sampling
    """What the model's makers advise."""


class AttachedWorker(WorkerLink):
    """A connection to a program that shares its model."""

    is_shared = True

    def __init__(
        self, shared: SharedModel, pid: int, *, replies: asyncio.StreamReader, requests: asyncio.StreamWriter
    ) -> None:
        super().__init__(replies, requests)
        self.shared = shared
        self._pid = pid
        self.cancel_s = CANCEL_WITH_PEERS_S if shared.plan.peers else 2 * CANCEL_S  # the program waits CANCEL_S itself

    @property
    def pid(self) -> int:
        return self._pid

    async def hello(self) -> Hello:
        return self.shared.hello

    def kill(self) -> None:
        self._requests.transport.abort()

    async def close(self, *, at_once: bool = False) -> None:
        self.kill()
        self._reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reader

    def last_lines(self) -> list[str]:
        return []

    def _is_starting(self) -> bool:
        return False

    def _take(self, reply: WorkerReply) -> None:
        """Nothing: it belongs to a request that nobody waits for any more."""

    async def _ended(self) -> None:
        """Nothing: a connection has ended when nothing more comes."""

    def _note_death(self) -> None:
        """Nobody waits for anything else than a reply."""

    def _death(self) -> EngineDied:
        if self._is_silent:
            return EngineDied(
                _("The program that shares its model did not respond."),
                _("It was suspended, or a disk does not respond."),
                recoveries=self.recoveries,
            )
        return EngineDied(
            _("The program that shared its model has ended, or has unloaded the model."),
            _("For the next question it is loaded here."),
            recoveries=self.recoveries,
        )


async def shared_models(folder: Path | None) -> AsyncGenerator[AttachedWorker, None]:
    """Connect to each program that shares a model, the newest first; the caller closes what it does not use.

    Sockets that killed programs have left behind are removed.
    """
    if sys.platform == "win32" or folder is None or not is_private(folder):
        return
    for path in _newest_first(folder):
        if worker := await _connect(path):
            yield worker


def is_private(folder: Path) -> bool:
    """Return whether a folder exists, belongs to the user, and is closed to everybody else."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077


def process_behind(connection: socket.socket) -> int | None:
    """Return the id of the process at the other end; None if another user runs it, 0 where that can't be asked."""
    if sys.platform != "linux":
        return 0
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _group = _CREDENTIALS.unpack(packed)
    return int(pid) if uid == os.geteuid() else None


def _newest_first(folder: Path) -> list[Path]:
    found: list[tuple[float, Path]] = []
    for path in folder.glob("*.sock"):
        with contextlib.suppress(OSError):  # its program has ended
            found.append((path.lstat().st_mtime, path))
    return [path for _time, path in sorted(found, reverse=True)]


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


async def _connect(path: Path) -> AttachedWorker | None:
    """Return the worker that a program shares; None if it shares no worker, or has another version or user."""
    async with contextlib.AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(INTRODUCTION_S):
                reader, writer = await asyncio.open_unix_connection(path)
                stack.callback(writer.transport.abort)
                pid = process_behind(writer.get_extra_info("socket"))
                body = await received(reader, most=LARGEST_INTRODUCTION) if pid is not None else None
            shared = msgspec.msgpack.decode(body or b"", type=SharedModel)
        except ConnectionRefusedError:  # nobody listens any more
            _remove(path)
            return None
        except (OSError, TimeoutError, msgspec.MsgspecError):
            return None
        if pid is None or shared.version != __version__:
            return None
        stack.pop_all()
        return AttachedWorker(shared, pid, replies=reader, requests=writer)
