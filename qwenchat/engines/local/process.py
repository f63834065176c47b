"""The parent's side of the worker process: starts it, sends requests, dispatches replies, and explains its death.

It knows the protocol and the process, but no prompts, sessions or models. It never imports llama_cpp, so that a broken
binding can only break the child. Where the binding does not work, the error says how to install it for this Python;
nothing is installed here. A worker that is stopped, or waits for a disk that does not answer, is killed after a limited
time: nobody waits for it longer.
"""

import asyncio
import contextlib
import importlib.util
import itertools
import os
import shlex
import signal
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

from qwenchat.children import start_module
from qwenchat.engines.local import protocol
from qwenchat.engines.local.failures import START_AGAIN
from qwenchat.engines.local.protocol import FRAME, Cancel, Hello, Ping, Pong, RequestFailed, RequestReply, WorkerRequest
from qwenchat.errors import CannotLoad, EngineDied, FileError, QwenchatError, Recovery
from qwenchat.i18n import _
from qwenchat.paths import private_folder
from qwenchat.text.safe import clean, clean_line

LOG_LIMIT = 1 << 20
LAST_LINES = 12
CLOSE_S = 2.0
"""How long a worker may take to end once its pipe is closed, and once more after it was killed."""
CANCEL_S = 5.0
"""How long a worker may take to stop a request; usually 0.1 s."""
CANCEL_WITH_PEERS_S = 60.0
"""The same where peers compute: they finish the step that they have begun."""
PING_EVERY_S = 4.0
SILENT_PINGS = 5
"""So many pings in a row without an answer mean that the worker does not run. It answers while it computes, too."""
START_PINGS = 30
"""The same before its Hello: it must be read from the disk first, with all libraries of the binding."""


class WorkerProcess:
    """One child process, created by `start`; it is unusable once `died` is set."""

    def __init__(self, child: asyncio.subprocess.Process, log: "WorkerLog") -> None:
        self._child, self._log = child, log
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Queue[RequestReply | None]] = {}
        self._hello: asyncio.Future[Hello] = asyncio.get_running_loop().create_future()
        self._is_heard = self._is_silent = False
        self.died = asyncio.Event()
        self._reader = asyncio.create_task(self._read())
        self._watch = asyncio.create_task(self._watch_for_silence())
        self.cancel_s = CANCEL_S
        """How long it may take to stop a request."""
        self.recoveries: tuple[Recovery, ...] = (START_AGAIN,)
        """The recoveries to offer when it dies; the engine adds more once it has a load plan."""

    @classmethod
    async def start(cls, log_file: Path) -> "WorkerProcess":
        """Start a worker whose llama.cpp writes its log to `log_file`."""
        log = WorkerLog.open(log_file)
        try:
            child = await start_module("qwenchat.engines.worker.main", errors=log.descriptor)
        finally:
            log.close()
        return cls(child, log)

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._child.pid

    async def hello(self) -> Hello:
        """Wait for the worker's Hello. Raises CannotLoad if the binding does not work, and EngineDied."""
        return await asyncio.shield(self._hello)

    def number(self) -> int:
        """Return a number for a new request."""
        return next(self._numbers)

    async def ask(self, request: WorkerRequest) -> AsyncGenerator[RequestReply, None]:
        """Send a request and yield its replies; the caller recognises the last one. Raises EngineDied."""
        replies: asyncio.Queue[RequestReply | None] = asyncio.Queue()
        self._waiting[request.id] = replies
        try:
            await self._send(request)
            while (reply := await replies.get()) is not None:
                yield reply
            raise self._death()
        finally:
            del self._waiting[request.id]

    async def ask_once(self, request: WorkerRequest) -> RequestReply:
        """Send a request that has a single reply, and return it. Raises EngineDied."""
        async with contextlib.aclosing(self.ask(request)) as replies:
            return await anext(replies)

    def cancel(self, number: int) -> None:
        """Stop a request; its last reply still comes. A worker that does not stop it within `cancel_s` is killed."""
        self._write(Cancel(number))
        asyncio.get_running_loop().call_later(self.cancel_s, self._kill_if_busy_with, number)

    def kill(self) -> None:
        """Kill the process; every waiting caller gets EngineDied."""
        with contextlib.suppress(ProcessLookupError):
            self._child.kill()

    async def close(self, *, at_once: bool = False) -> None:
        """End the process and wait until it is gone; `at_once` kills it without a grace period."""
        if at_once:
            self.kill()
        if self._child.stdin:
            self._child.stdin.close()
        if not await self._ends_within(CLOSE_S):
            self.kill()
            await self._ends_within(CLOSE_S)
        self._reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reader
        if self._hello.done() and not self._hello.cancelled():
            self._hello.exception()

    async def _ends_within(self, seconds: float) -> bool:
        """Wait for the process to end; a process that waits for a disk outlives even SIGKILL."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._child.wait(), seconds)
        return self._child.returncode is not None

    def _kill_if_busy_with(self, number: int) -> None:
        if number in self._waiting:
            self._kill_silent()

    def _kill_silent(self) -> None:
        self._is_silent = True
        self.kill()
        asyncio.get_running_loop().call_later(CLOSE_S, self._reader.cancel)  # where even SIGKILL does not end it

    async def _watch_for_silence(self) -> None:
        """Kill the worker if it answers no pings while somebody waits for it.

        Pings are counted, not seconds: where this program itself was stopped, the worker is not to blame.
        """
        silent = 0
        while silent < (SILENT_PINGS if self._hello.done() else START_PINGS):
            self._is_heard = False
            is_awaited = bool(self._waiting) or not self._hello.done()
            if is_awaited:
                self._write(Ping())
            await asyncio.sleep(PING_EVERY_S)
            silent = silent + 1 if is_awaited and not self._is_heard else 0
        self._kill_silent()

    def _write(self, request: WorkerRequest) -> None:
        """Send a small request without waiting until the pipe has room."""
        if self._child.stdin and not self._child.stdin.is_closing():
            self._child.stdin.write(protocol.frame(request))

    async def _send(self, request: WorkerRequest) -> None:
        if self.died.is_set() or self._child.stdin is None:
            raise self._death()
        try:
            self._child.stdin.write(protocol.frame(request))
            await self._child.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            await self.died.wait()
            raise self._death() from None

    async def _read(self) -> None:
        try:
            while True:
                reply = await self._receive()
                if reply is None:
                    break
                self._is_heard = True
                if isinstance(reply, Pong):
                    continue
                if isinstance(reply, Hello):
                    self._hello.set_result(reply)
                elif isinstance(reply, RequestFailed) and reply.kind == "binding":
                    self._hello.set_exception(binding_missing(reply.detail))
                elif reply.id in self._waiting:
                    self._waiting[reply.id].put_nowait(reply)
            await self._child.wait()
        finally:
            self._watch.cancel()
            self.died.set()
            if not self._hello.done():
                self._hello.set_exception(self._failed_start())
            for replies in self._waiting.values():
                replies.put_nowait(None)

    async def _receive(self) -> protocol.WorkerReply | None:
        if self._child.stdout is None:
            return None
        try:
            (length,) = FRAME.unpack(await self._child.stdout.readexactly(FRAME.size))
            return protocol.decode_reply(await self._child.stdout.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionResetError):
            return None

    def last_lines(self) -> list[str]:
        """Return the last lines that the worker wrote to the log."""
        return self._log.last_lines()

    def _failed_start(self) -> QwenchatError:
        """Return the error for a worker that ended before its Hello: the binding is broken, unless it was killed.

        A binding that was compiled for another processor ends by SIGILL.
        """
        if self._child.returncode in (-signal.SIGKILL, -signal.SIGTERM):
            return self._death()
        lines = self._log.last_lines()
        how = how_it_ended(self._child.returncode)
        return binding_missing(lines[-1] if lines else _("its process ended {how}").format(how=how))

    def _death(self) -> EngineDied:
        code, lines = self._child.returncode, self._log.last_lines()
        last = lines[-1] if lines else _("nothing")
        hint = _("Its log ends with: {last}").format(last=last)
        if code == -signal.SIGKILL:
            hint = _("The machine may have run out of memory.")
        message = _("The engine process ended {how}.").format(how=how_it_ended(code))
        if self._is_silent:
            message = _("The engine process did not respond, so it was ended.")
            hint = _("It was suspended, or a disk does not respond.")
        return EngineDied(message, hint, log="\n".join(lines), recoveries=self.recoveries)


def how_it_ended(code: int | None) -> str:
    """Return words for the exit code of a child process."""
    if code is None or code >= 0:
        return _("with exit code {code}").format(code=code)
    names = {number.value: number.name for number in signal.Signals}
    return _("by signal {number}").format(number=names.get(-code, str(-code)))


class WorkerLog:
    """The log file of llama.cpp, from the position where this worker started."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path, self.descriptor = path, descriptor
        self._start = os.fstat(descriptor).st_size

    @classmethod
    def open(cls, path: Path) -> "WorkerLog":
        """Open the log for appending; if it can't be written, nothing is logged."""
        try:
            private_folder(path.parent)
            if path.exists() and path.stat().st_size > LOG_LIMIT:
                path.replace(path.with_suffix(".old.log"))
            return cls(path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        except (OSError, FileError):
            return cls(path, os.open(os.devnull, os.O_WRONLY))

    def close(self) -> None:
        """Close this process's descriptor; the child has its own."""
        os.close(self.descriptor)

    def last_lines(self) -> list[str]:
        """Return the last lines written since the worker started, cleaned for a terminal."""
        try:
            with self._path.open("rb") as file:
                file.seek(max(self._start, self._path.stat().st_size - 16_384))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return []
        return [clean(line) for line in text.splitlines() if line.strip()][-LAST_LINES:]


def binding_missing(detail: str) -> CannotLoad:
    """Return the error for an installation in which llama-cpp-python does not work."""
    return CannotLoad(
        _("llama-cpp-python can't be used: {detail}.").format(detail=clean_line(detail, 500).rstrip(".")),
        _("Install it again: {command}").format(command=install_command()),
    )


def install_command(*options: str) -> str:
    """Return the command that compiles the binding again; `options` are CMake's, such as `-DGGML_CUDA=on`."""
    cmake = shlex.quote(" ".join(("-DLLAVA_BUILD=OFF", *options)))
    python = shlex.quote(sys.executable)
    pip = f"{python} -m pip install" if importlib.util.find_spec("pip") else f"uv pip install --python {python}"
    return f"CMAKE_ARGS={cmake} {pip} --force-reinstall --no-cache-dir llama-cpp-python"
