"""The parent's side of the worker process: starts it, ends it, and explains its death. What it is asked, `link` sends.

It knows the process, but no prompts, sessions or models. It never imports llama_cpp, so that a broken binding can only
break the child. Where the binding does not work, the error says how to install it for this Python; nothing is installed
here.
"""

import asyncio
import contextlib
import importlib.util
import os
import shlex
import signal
import sys
from pathlib import Path

from qwenchat.children import start_module
from qwenchat.engines.local.link import CLOSE_S, WorkerLink
from qwenchat.engines.local.protocol import Hello, RequestFailed, WorkerReply
from qwenchat.errors import BindingMissing, EngineDied, FileError, QwenchatError
from qwenchat.i18n import _
from qwenchat.paths import private_folder
from qwenchat.text.safe import clean, clean_line

LOG_LIMIT = 1 << 20
LAST_LINES = 12


class WorkerProcess(WorkerLink):
    """One child process, created by `start`."""

    def __init__(self, child: asyncio.subprocess.Process, log: "WorkerLog") -> None:
        self._child, self._log = child, log
        self._hello: asyncio.Future[Hello] = asyncio.get_running_loop().create_future()
        if child.stdin is None or child.stdout is None:
            raise AssertionError("the worker was started with pipes")
        super().__init__(child.stdout, child.stdin)

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
        return self._child.pid

    async def hello(self) -> Hello:
        return await asyncio.shield(self._hello)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._child.kill()

    async def close(self, *, at_once: bool = False) -> None:
        """End the process and wait until it is gone; `at_once` kills it without a grace period."""
        if at_once:
            self.kill()
        self._requests.close()
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

    def _is_starting(self) -> bool:
        return not self._hello.done()

    def _take(self, reply: WorkerReply) -> None:
        if isinstance(reply, Hello):
            self._hello.set_result(reply)
        elif isinstance(reply, RequestFailed) and reply.kind == "binding":
            self._hello.set_exception(binding_missing(reply.detail))

    async def _ended(self) -> None:
        await self._child.wait()

    def _note_death(self) -> None:
        if not self._hello.done():
            self._hello.set_exception(self._failed_start())

    def last_lines(self) -> list[str]:
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


def binding_missing(detail: str) -> BindingMissing:
    """Return the error for an installation in which llama-cpp-python does not work."""
    return BindingMissing(
        _("llama-cpp-python can't be used: {detail}.").format(detail=clean_line(detail, 500).rstrip(".")),
        _("Install it again: {command}").format(command=install_command()),
    )


def install_command(*options: str) -> str:
    """Return the command that compiles the binding again; `options` are CMake's, such as `-DGGML_CUDA=on`."""
    cmake = shlex.quote(" ".join(("-DLLAVA_BUILD=OFF", *options)))
    python = shlex.quote(sys.executable)
    pip = f"{python} -m pip install" if importlib.util.find_spec("pip") else f"uv pip install --python {python}"
    return f"CMAKE_ARGS={cmake} {pip} --force-reinstall --no-cache-dir llama-cpp-python"
