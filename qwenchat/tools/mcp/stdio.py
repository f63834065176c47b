"""A server that runs on this machine: a child process that is talked to through its standard input and output.

It is written here, not taken from the SDK, which an installation without servers elsewhere does not have: the SDK
brings 33 MB and takes a second to import, it limits neither the size nor the number of messages, and it lets a server
live on where this program is killed. What is needed is small: requests with an id, one JSON document a line.

A connection begins with `initialize`, which nearly every server answers; only where it is refused, `server/discover`
asks for the protocol without a handshake. In the other order, servers that end at a request they do not know would have
to be started twice, and those that ignore it would have to be waited for.
"""

import asyncio
import contextlib
import itertools
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from qwenchat.errors import FileError
from qwenchat.i18n import _, labelled, reason_of
from qwenchat.paths import private_folder
from qwenchat.text.safe import clean_line, safe_name
from qwenchat.tools.mcp import guard
from qwenchat.tools.mcp.protocol import (
    HANDSHAKE_VERSION,
    MESSAGE_LIMIT,
    STATELESS_VERSION,
    CallResult,
    Discovered,
    RequestRefused,
    ServerFault,
    ServerLimits,
    ServerMessage,
    ToolPage,
    client_info,
    decoded,
    stateless_meta,
)
from qwenchat.tools.mcp.settings import ServerCommand

_KILL_S = 2.0
"""How long a process may take to end once it was killed; one that waits for a disk outlives even that."""
_REST_S = 1.0
"""How long what a server wrote is read after its process or its output has ended."""
_MOST_UNASKED = 10_000
"""Lines that may follow a request without answering it; a server that writes more is ended."""
_INHERITED = ("HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER")
"""The variables that a server gets beside those of its settings: none of them holds a secret."""
_LOG_LIMIT = 1 << 20
"""Bytes that one process adds to its log, and size above which a new log file is started."""
_METHOD_NOT_FOUND = -32601


class StdioConnection:
    """One process of a server, and a `Connection` to it."""

    def __init__(
        self, command: ServerCommand, environ: Mapping[str, str], log: "ServerLog", limits: ServerLimits
    ) -> None:
        """`environ` is the environment of this program."""
        self._command, self._environ, self._log, self._limits = command, environ, log, limits
        self._process: _GuardedProcess | None = None
        self._lifeline, self._guards_end = socket.socketpair()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[msgspec.Raw]] = {}
        self._fault: ServerFault | None = None
        self._unasked = 0
        self._is_stateless = False
        self._sending = asyncio.Lock()
        self._watch: asyncio.Task[None] | None = None
        self._abandoning: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        command = self._command
        env = {name: self._environ[name] for name in _INHERITED if name in self._environ} | dict(command.env)
        try:
            _transport, self._process = await asyncio.get_running_loop().subprocess_exec(
                _GuardedProcess,
                sys.executable,
                "-I",
                "-S",
                guard.__file__,
                str(self._guards_end.fileno()),
                str(self._limits.end),
                *_found(command, env),
                cwd=command.cwd or None,
                env=env,
                pass_fds=(self._guards_end.fileno(),),
                start_new_session=True,  # no terminal to read from or to write to, and no Ctrl-C from it
            )
        except (OSError, UnicodeError) as error:
            cause = error

            def words() -> str:
                return _("it can't be started: {reason}").format(reason=clean_line(reason_of(cause)))

            raise ServerFault(words) from error
        finally:
            self._guards_end.close()
        self._watch = asyncio.create_task(self._watch_over(self._process))
        await self._agree()

    @property
    def ended(self) -> bool:
        return self._fault is not None

    async def list_tools(self, cursor: str | None) -> ToolPage:
        async with self._limited("tools/list", self._limits.list):
            return decoded(await self._ask("tools/list", {"cursor": cursor} if cursor else {}), ToolPage)

    async def call(self, name: str, arguments: Mapping[str, object]) -> CallResult:
        number = next(self._numbers)
        try:
            result = await self._ask("tools/call", {"name": name, "arguments": arguments}, number)
        except asyncio.CancelledError:
            task = asyncio.create_task(self._abandon(number))
            self._abandoning.add(task)
            task.add_done_callback(self._abandoning.discard)
            raise
        return decoded(result, CallResult)

    async def close(self) -> None:
        self._end(ServerFault(lambda: _("it was ended")))
        if self._watch:
            await asyncio.wait((self._watch,), timeout=2 * self._limits.end + _KILL_S)
            self._watch.cancel()
            await asyncio.gather(self._watch, *self._abandoning, return_exceptions=True)
        self._log.close()

    async def _agree(self) -> None:
        """Agree on a version of the protocol. Raises ServerFault."""
        hello = {"protocolVersion": HANDSHAKE_VERSION, "capabilities": {}, "clientInfo": client_info()}
        async with self._limited("initialize", self._limits.start):
            try:
                await self._ask("initialize", hello)
                await self._send({"method": "notifications/initialized"})
            except RequestRefused as refused:
                self._is_stateless = True
                try:
                    found = decoded(await self._ask("server/discover", {}), Discovered)
                except RequestRefused:
                    raise refused from None
                if STATELESS_VERSION not in found.supported_versions:
                    raise ServerFault(lambda: _("it needs another version of the protocol")) from refused

    @contextlib.asynccontextmanager
    async def _limited(self, method: str, limit_s: float) -> AsyncIterator[None]:
        """Limit the time for a request; a server that takes longer hangs, and is ended. Raises ServerFault."""
        try:
            async with asyncio.timeout(limit_s):
                yield
        except TimeoutError:
            seconds = f"{limit_s:g}"
            fault = ServerFault(
                lambda: _("it did not answer {method} within {seconds} seconds").format(method=method, seconds=seconds)
            )
            self._end(fault)
            raise fault from None

    async def _ask(self, method: str, params: Mapping[str, object], number: int = 0) -> msgspec.Raw:
        """Send a request and return its result. Raises ServerFault."""
        number = number or next(self._numbers)
        if self._is_stateless:
            params = {**params, "_meta": stateless_meta()}
        answer: asyncio.Future[msgspec.Raw] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        self._unasked = 0
        try:
            await self._send({"id": number, "method": method, "params": params})
            return await answer
        except RequestRefused as refused:
            message = self._command.without_secrets(refused.message)
            raise RequestRefused(method, message, refused.code) from None
        finally:
            del self._waiting[number]
            if answer.done() and not answer.cancelled():
                answer.exception()  # where sending failed, nobody has waited for it

    async def _abandon(self, number: int) -> None:
        """Cancel a request at the server, and end the server where it does nothing else either."""
        with contextlib.suppress(ServerFault):
            async with self._limited("ping", self._limits.ping):
                await self._send({"method": "notifications/cancelled", "params": {"requestId": number}})
                await self._ask("ping", {})

    async def _send(self, message: Mapping[str, object]) -> None:
        """Send a message, waiting until the server takes it. Raises ServerFault."""
        async with self._sending:
            if self._fault or self._process is None or self._process.stdin is None:
                raise ServerFault(self._fault.words if self._fault else _ended)
            if self._process.stdin.is_closing():  # the server is ending, or is ended when a time limit passes
                return
            self._process.stdin.write(msgspec.json.encode({"jsonrpc": "2.0", **message}) + b"\n")
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its last messages are still read
                await self._process.stdin.drain()

    def _end(self, fault: ServerFault) -> None:
        """Let the guard end the server; what waits for it gets the fault. The first fault counts."""
        if self._fault:
            return
        self._fault = fault
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(ServerFault(fault.words))
        if self._process:
            self._process.close_pipes()
        self._lifeline.close()

    async def _watch_over(self, process: "_GuardedProcess") -> None:
        """Read what the server writes, until the guard has ended."""
        reader = asyncio.create_task(self._read(process))
        errors = asyncio.create_task(self._read_errors(process))
        exited = asyncio.create_task(process.exited.wait())
        try:
            await asyncio.wait((reader, exited), return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait((reader, errors, exited), timeout=_REST_S)
            self._end(self._death())
            await exited
        finally:
            process.close()  # what left the group of the guard may hold its pipes
            for task in (reader, errors, exited):
                task.cancel()
            await asyncio.gather(reader, errors, exited, return_exceptions=True)

    async def _read(self, process: "_GuardedProcess") -> None:
        """Read messages until the output of the server ends, or the server has to be ended."""
        try:
            while process.stdout and (line := await process.stdout.readline()):
                await self._receive(line)
                await asyncio.sleep(0)  # other tasks go on while lines come faster than they are read
        except ValueError:
            size = MESSAGE_LIMIT >> 20
            self._end(ServerFault(lambda: _("it sent a message of more than {size} MiB").format(size=size)))
        except ServerFault as fault:
            self._end(fault)

    async def _receive(self, line: bytes) -> None:
        """Take a message. Raises ServerFault for one too many."""
        self._unasked += 1
        if self._unasked > _MOST_UNASKED:
            raise ServerFault(lambda: _("it sent too many messages that answer nothing"))
        try:
            message = decoded(line, ServerMessage)
        except ServerFault:  # servers print other things, too
            return
        if message.method:
            if message.id is not None:
                await self._reply(message.id, message.method)
            return
        answer = self._waiting.get(message.id) if isinstance(message.id, int) else None
        if answer is None or answer.done():
            return
        if refused := message.refusal:
            answer.set_exception(refused)
        else:
            answer.set_result(message.result)

    async def _reply(self, number: int | str, method: str) -> None:
        """Answer a request of the server: a ping; all else that it could want of a client is refused."""
        if method == "ping":
            await self._send({"id": number, "result": {}})
        else:
            await self._send({"id": number, "error": {"code": _METHOD_NOT_FOUND, "message": "Not supported"}})

    async def _read_errors(self, process: "_GuardedProcess") -> None:
        """Write what the server reports into its log."""
        while process.stderr and (chunk := await process.stderr.read(1 << 16)):
            self._log.write(chunk)
            await asyncio.sleep(0)

    def _death(self) -> ServerFault:
        """Return the fault of a server that ended unasked."""
        last = clean_line(self._command.without_secrets(self._log.last_line()), 300).rstrip(".")
        try:
            code = self._lifeline.recv(16, socket.MSG_DONTWAIT).decode()
        except OSError:
            code = ""

        def words() -> str:
            how = _("it ended with exit code {code}").format(code=code) if code else _ended()
            return labelled(how, last) if last else how

        return ServerFault(words)


class _GuardedProcess(asyncio.subprocess.SubprocessStreamProtocol):
    """The process of the guard, with the streams of the server."""

    def __init__(self) -> None:
        super().__init__(MESSAGE_LIMIT, asyncio.get_running_loop())
        self.exited = asyncio.Event()
        self._process_transport: asyncio.SubprocessTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if isinstance(transport, asyncio.SubprocessTransport):
            self._process_transport = transport

    def process_exited(self) -> None:
        self.exited.set()
        super().process_exited()

    def close_pipes(self) -> None:
        """End the server's standard input, and read no more of its output."""
        for descriptor in (0, 1):
            if self._process_transport and (pipe := self._process_transport.get_pipe_transport(descriptor)):
                pipe.close()

    def close(self) -> None:
        """Read nothing more, and kill the process if it still runs."""
        if self._process_transport:
            self._process_transport.close()


def _ended() -> str:
    return _("it ended")


def _found(command: ServerCommand, env: Mapping[str, str]) -> Sequence[str]:
    """Return the program of a server and its arguments. Raises ServerFault."""
    program = command.command
    if command.cwd and os.sep in program:
        program = str(Path(command.cwd) / program)
    path = shutil.which(program, path=env.get("PATH"))
    if path is None:
        shown = clean_line(program)
        raise ServerFault(lambda: _("there is no program {program}").format(program=shown))
    if command.cwd and not Path(command.cwd).is_dir():
        folder = clean_line(command.cwd)
        raise ServerFault(lambda: _("there is no folder {folder}").format(folder=folder))
    return (path, *command.args)


class ServerLog:
    """What a server writes to its standard error: a file of limited size, and the last line for error messages."""

    def __init__(self, file: BinaryIO | None) -> None:
        self._file = file
        self._written, self._tail = 0, b""

    @classmethod
    def open(cls, folder: Path | None, name: str) -> "ServerLog":
        """Open the log of a server for appending; without a folder, or if it can't be written, nothing is logged."""
        if folder is None:
            return cls(None)
        path = folder / f"mcp-{safe_name(name, 60)}.log"
        try:
            private_folder(folder)
            if path.exists() and path.stat().st_size > _LOG_LIMIT:
                path.replace(path.with_suffix(".old.log"))
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            return cls(os.fdopen(descriptor, "wb", buffering=0))
        except (OSError, FileError):
            return cls(None)

    def write(self, chunk: bytes) -> None:
        """Write what came, as far as the limit allows."""
        self._tail = (self._tail + chunk)[-4096:]
        room = _LOG_LIMIT - self._written
        if self._file and room > 0:
            self._written += len(chunk)
            with contextlib.suppress(OSError):
                self._file.write(chunk[:room])

    def last_line(self) -> str:
        """Return the last line, as the server wrote it; empty where there is none."""
        lines = [line for line in self._tail.decode("utf-8", "replace").splitlines() if line.strip()]
        return lines[-1] if lines else ""

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()
