"""Lends this machine's memory and compute to another one by llama.cpp's RPC: the parent's side of the server process.

It knows no models and sees nothing of what is computed. Who may connect is decided by the address alone: llama.cpp's
protocol has no authentication and no encryption.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator
from ipaddress import IPv4Address
from pathlib import Path

from msgspec import Struct

from qwenchat.children import start_module
from qwenchat.engines.local.peers import CMAKE_OPTION, faults
from qwenchat.engines.local.process import WorkerLog, how_it_ended, install_command
from qwenchat.errors import CannotLoad, EngineDied, NetworkError
from qwenchat.i18n import _, reason_of

START_S = 20.0
"""Seconds within which the server answers: its libraries must be read from the disk first."""
_LOOK_EVERY_S = 0.1
_CONNECTED, _DISCONNECTED = b"Accepted client connection", b"Client connection closed"
"""What llama.cpp writes."""


class Lending(Struct, frozen=True, kw_only=True):
    """What is lent, and where."""

    host: str
    """An IPv4 address of this machine; 0.0.0.0 for all of them."""
    port: int
    threads: int
    cache: Path | None = None
    """The folder in which large tensors are stored, so that they need not be sent again."""

    @property
    def is_everywhere(self) -> bool:
        """Whether it is at all addresses of this machine."""
        return IPv4Address(self.host).is_unspecified


def without_rpc() -> CannotLoad:
    """Return the error for a llama.cpp that can't lend."""
    return CannotLoad(
        _("llama.cpp was built without RPC on this computer."),
        _("Install it again: {command}").format(command=install_command(CMAKE_OPTION)),
    )


async def lend(lending: Lending, log_file: Path) -> AsyncGenerator[bool, None]:
    """Serve until the iterator is closed: yield False once the server answers, then whether a program is connected.

    Raises NetworkError where the address can't be used, and EngineDied where the server ends.
    """
    _check_free(lending)
    log = WorkerLog.open(log_file)
    try:
        words = (lending.host, str(lending.port), str(lending.threads), str(lending.cache or ""))
        child = await start_module("qwenchat.engines.worker.rpc_server", *words, errors=log.descriptor)
    finally:
        log.close()
    try:
        if await _answers(lending, child):
            yield False
        is_asked_by_us = True
        while child.stdout and (line := await child.stdout.readline()):
            if line.startswith((_CONNECTED, _DISCONNECTED)) and not is_asked_by_us:
                yield line.startswith(_CONNECTED)
            is_asked_by_us = is_asked_by_us and not line.startswith(_DISCONNECTED)
        await child.wait()
        lines = log.last_lines()
        last = lines[-1] if lines else _("nothing")
        raise EngineDied(
            _("The RPC server ended {how}.").format(how=how_it_ended(child.returncode)),
            _("Start it again. Its log ends with: {last}").format(last=last),
            log="\n".join(lines),
        )
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


def _check_free(lending: Lending) -> None:
    """Raise NetworkError with the system's reason where nothing can listen at the address."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((lending.host, lending.port))
        except OSError as error:
            raise NetworkError(
                _("Can't serve at {host}:{port}: {reason}.").format(
                    host=lending.host, port=lending.port, reason=reason_of(error)
                ),
                _("Choose another port, or another address of this computer."),
            ) from error


async def _answers(lending: Lending, child: asyncio.subprocess.Process) -> bool:
    """Wait until the server answers; False if it has ended, or is ended here because it takes too long."""
    peer = f"{'127.0.0.1' if lending.is_everywhere else lending.host}:{lending.port}"
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START_S):
            while child.returncode is None:
                if not await asyncio.to_thread(faults, [peer]):
                    return True
                await asyncio.sleep(_LOOK_EVERY_S)
    with contextlib.suppress(ProcessLookupError):
        child.kill()
    return False
