"""Shares a loaded model with other programs of the same user, over a Unix socket: `attached` is the other side.

A program that connects learns what is loaded, and may then count and generate; nothing else is in the protocol here.
Its requests wait for their turn like all others, and those of a program that leaves are cancelled. What is sent is not
trusted: frames, requests and what waits for a slow reader are bounded, and a program that does anything else is cut
off. Nothing of a request is logged or saved.
"""

import asyncio
import contextlib
import os
import secrets
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec

from qwenchat.chat.message import FinishReason, Timings, Usage
from qwenchat.chat.ports import MOST_CHANCES
from qwenchat.engines.local import protocol
from qwenchat.engines.local.attached import is_private, process_behind, shared_models
from qwenchat.engines.local.engine import LocalEngine
from qwenchat.engines.local.link import received
from qwenchat.engines.local.loaded_model import LoadedModel
from qwenchat.engines.local.protocol import (
    Cancel,
    Count,
    Done,
    Generate,
    Ping,
    Pong,
    RequestFailed,
    RequestReply,
    WorkerReply,
)
from qwenchat.errors import EngineDied, FileError, QwenchatError, WrongUse
from qwenchat.paths import private_folder

MOST_PROGRAMS = 16
"""Connections at a time; further ones are closed at once."""
MOST_REQUESTS = 64
"""Requests of one connection at a time."""
LARGEST_FRAME = 80 << 20
"""Bytes of a request: an attached file may have 64 MiB."""
MOST_UNREAD = 32 << 20
"""Bytes that may wait for a program that does not read; a whole answer is far smaller."""

SharedRequest = Count | Generate | Cancel | Ping
_requests: msgspec.msgpack.Decoder[SharedRequest] = msgspec.msgpack.Decoder(SharedRequest)


class SharingProgram(Protocol):
    """What serves requests, and decides whose turn it is."""

    @property
    def engine(self) -> LocalEngine | None:
        """The engine that has a model loaded, or had one last."""
        ...

    def turn(self) -> AbstractAsyncContextManager[object]:
        """Wait, behind all earlier requests, until one more may be served, and hold that place."""
        ...


@contextlib.asynccontextmanager
async def sharing(folder: Path | None, program: SharingProgram) -> AsyncIterator[bool]:
    """Share what a program has loaded until the block ends; False where that is not possible here.

    The engine must be closed after it, not before: requests under way hold the worker.
    """
    if sys.platform == "win32" or folder is None:
        yield False
        return
    clients = _Clients(program)
    try:
        path = await _free_path(folder)
        server = await asyncio.start_unix_server(clients.serve, sock=_listening(path))
    except (OSError, FileError):  # a disk without sockets, or a path that is too long for one
        yield False
        return
    try:
        yield True
    finally:
        path.unlink(missing_ok=True)
        server.close()
        await clients.close()


async def _free_path(folder: Path) -> Path:
    """Return a path for a new socket; those that killed programs have left behind are removed. Raises OSError."""
    private_folder(folder)
    if not is_private(folder):
        raise PermissionError(folder)
    async for other in shared_models(folder):
        await other.close()
    return folder / f"{os.getpid()}-{secrets.token_hex(3)}.sock"


def _listening(path: Path) -> socket.socket:
    """Return a socket that only the user can connect to. It gets its name when it listens. Raises OSError."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    unfinished = path.with_suffix(".new")
    try:
        made.bind(str(unfinished))
        unfinished.chmod(0o600)
        made.listen()
        unfinished.rename(path)
    except OSError:
        made.close()
        unfinished.unlink(missing_ok=True)
        raise
    return made


class _Clients:
    """The programs that are connected."""

    def __init__(self, program: SharingProgram) -> None:
        self._program = program
        self._served: set[asyncio.Task[None]] = set()

    async def serve(self, replies: asyncio.StreamReader, requests: asyncio.StreamWriter) -> None:
        """Serve one connection until it ends."""
        task = asyncio.current_task()
        engine = self._program.engine
        loaded = engine.loaded if engine else None
        is_own = process_behind(requests.get_extra_info("socket")) is not None
        try:
            if engine and loaded and task and is_own and len(self._served) < MOST_PROGRAMS:
                self._served.add(task)
                await _Client(self._program, engine, loaded, requests).serve(replies)
        except (ConnectionError, asyncio.CancelledError):  # it has left, or everything ends
            pass
        finally:
            if task:
                self._served.discard(task)
            requests.transport.abort()

    async def close(self) -> None:
        """Disconnect all; their requests are cancelled."""
        served = [*self._served]
        for task in served:
            task.cancel()
        await asyncio.gather(*served, return_exceptions=True)


class _Client:
    """One program that is connected, for as long as the model is loaded that it connected to."""

    def __init__(
        self, program: SharingProgram, engine: LocalEngine, loaded: LoadedModel, writer: asyncio.StreamWriter
    ) -> None:
        self._program, self._engine, self._loaded, self._writer = program, engine, loaded, writer
        self._running: dict[int, _Passed] = {}
        """Its requests, by its own numbers."""

    async def serve(self, reader: asyncio.StreamReader) -> None:
        """Pass on requests and replies until it leaves or the model is unloaded."""
        body = protocol.encode(self._loaded.shared)
        self._writer.write(protocol.FRAME.pack(len(body)) + body)
        unloaded = asyncio.create_task(self._loaded.worker.died.wait())
        reading = asyncio.create_task(self._read(reader))
        try:
            await asyncio.wait({unloaded, reading}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            unloaded.cancel()
            reading.cancel()
            running = [*self._running.values()]
            for passed in running:
                passed.stop()
            await asyncio.gather(reading, *(passed.task for passed in running), return_exceptions=True)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while (body := await received(reader, most=LARGEST_FRAME)) is not None:
            try:
                request = _requests.decode(body)
            except msgspec.MsgspecError:
                return
            if isinstance(request, Ping):
                self._send(Pong())
            elif isinstance(request, Cancel):
                if passed := self._running.get(request.id):
                    passed.stop()
            elif request.id in self._running or len(self._running) >= MOST_REQUESTS:
                return
            else:
                self._running[request.id] = begun = _Passed(partial(self._pass_on, request))
                begun.task.add_done_callback(partial(self._ended, request.id))
            await self._writer.drain()

    def _ended(self, number: int, task: asyncio.Task[None]) -> None:
        """Forget a request that has ended; one that was stopped while it waited, or before, still gets its reply."""
        del self._running[number]
        if task.cancelled():
            self._reply(number, Done(number, FinishReason.CANCELLED, Usage(), Timings()))
        elif task.exception():
            self._writer.transport.abort()

    async def _pass_on(self, request: Count | Generate, passed: "_Passed") -> None:
        """Have a request served, and send its replies under its own number."""
        worker = self._loaded.worker
        job = msgspec.structs.replace(request, id=worker.number())
        try:
            if isinstance(job, Count):
                self._reply(request.id, await worker.ask_once(job))
                return
            await self._check(job)
            async with self._program.turn(), self._engine.room_for(self._loaded):
                passed.stop_by(partial(worker.cancel, job.id))
                async with contextlib.aclosing(worker.ask(job)) as replies:
                    async for reply in replies:
                        self._reply(request.id, reply)
                        if isinstance(reply, Done | RequestFailed):
                            return
        except EngineDied:
            self._writer.transport.abort()
        except QwenchatError as error:
            self._reply(request.id, RequestFailed(request.id, "refused", error.message))

    async def _check(self, job: Generate) -> None:
        """Raise WrongUse for what no engine of this program sends to its worker."""
        job.sampling.check()
        await self._engine.check(job.sampling)
        schemas = {tool.parameters for tool in job.calls.tools} if job.calls else set()
        if job.chances > MOST_CHANCES or schemas - await self._engine.enforceable(schemas):
            raise WrongUse("not a request of this program")

    def _reply(self, number: int, reply: RequestReply) -> None:
        self._send(msgspec.structs.replace(reply, id=number))

    def _send(self, reply: WorkerReply) -> None:
        """Send without waiting, so that a slow reader holds no place that others wait for."""
        if self._writer.is_closing():
            return
        self._writer.write(protocol.frame(reply))
        if self._writer.transport.get_write_buffer_size() > MOST_UNREAD:
            self._writer.transport.abort()


class _Passed:
    """A request that is passed on, as a task. It is stopped where it is: waiting, or in the worker."""

    def __init__(self, serve: Callable[["_Passed"], Coroutine[None, None, None]]) -> None:
        self.task = asyncio.create_task(serve(self))
        self._stop: Callable[[], object] = self.task.cancel
        self._is_stopped = False

    def stop_by(self, stop: Callable[[], object]) -> None:
        """Stop it by calling `stop` from now on."""
        self._stop = stop

    def stop(self) -> None:
        """Stop it; its last reply still comes."""
        if not self._is_stopped:
            self._is_stopped = True
            self._stop()
