"""What the engine has of a worker, its own or one that another program shares: requests, and the replies to each.

It knows the frames of `protocol`, and neither how a worker is started nor what is asked. A worker that does not answer
is given up after a limited time: nobody waits for it longer.
"""

import asyncio
import contextlib
import itertools
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from typing import ClassVar

import msgspec

from qwenchat.engines.local import protocol
from qwenchat.engines.local.failures import START_AGAIN
from qwenchat.engines.local.protocol import FRAME, Cancel, Hello, Ping, Pong, RequestReply, WorkerReply, WorkerRequest
from qwenchat.errors import EngineDied, Recovery

CLOSE_S = 2.0
"""How long a worker may take to end once its pipe is closed, and once more after it was killed."""
CANCEL_S = 5.0
"""How long a worker may take to stop a request; usually 0.1 s."""
CANCEL_WITH_PEERS_S = 60.0
"""The same where peers compute: they finish the step that they have begun."""
PING_EVERY_S = 4.0
SILENT_PINGS = 5
"""So many pings in a row without an answer mean that the worker does not run. It answers while it computes, too."""
PATIENCE = 6
"""How many times as long a worker is waited for that computes meanwhile: a busy machine leaves it little time."""
START_PINGS = 30
"""The same before its Hello: it must be read from the disk first, with all libraries of the binding."""


class WorkerLink(ABC):
    """Requests to one worker over a pair of streams; it is unusable once `died` is set."""

    is_shared: ClassVar[bool] = False
    """Whether the worker belongs to another program, which alone decides what is loaded and saved."""

    def __init__(self, replies: asyncio.StreamReader, requests: asyncio.StreamWriter) -> None:
        self._replies, self._requests = replies, requests
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Queue[RequestReply | None]] = {}
        self._is_heard = self._is_silent = False
        self.died = asyncio.Event()
        self._reader = asyncio.create_task(self._read())
        self._watch = asyncio.create_task(self._watch_for_silence())
        self.cancel_s = CANCEL_S
        """How long it may take to stop a request."""
        self.recoveries: tuple[Recovery, ...] = (START_AGAIN,)
        """The recoveries to offer when it dies; the engine adds more once it has a load plan."""

    @property
    @abstractmethod
    def pid(self) -> int:
        """The id of the process at the other end."""

    @abstractmethod
    async def hello(self) -> Hello:
        """Wait for the worker's Hello. Raises CannotLoad if the binding does not work, and EngineDied."""

    @abstractmethod
    def kill(self) -> None:
        """End the link at once; every waiting caller gets EngineDied."""

    @abstractmethod
    async def close(self, *, at_once: bool = False) -> None:
        """End the link and wait until it has ended; `at_once` without a grace period."""

    @abstractmethod
    def last_lines(self) -> list[str]:
        """Return the last lines that the worker wrote to the log, as far as they can be read here."""

    @abstractmethod
    def _death(self) -> EngineDied:
        """Return the error for a link that has ended."""

    @abstractmethod
    def _is_starting(self) -> bool:
        """Return whether the worker has not said Hello yet."""

    @abstractmethod
    def _take(self, reply: WorkerReply) -> None:
        """Take in a reply to no request."""

    @abstractmethod
    async def _ended(self) -> None:
        """Wait, once no more replies come, until it is known how the worker ended."""

    @abstractmethod
    def _note_death(self) -> None:
        """Let those know who wait for something else than a reply."""

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
        """Stop a request; its last reply still comes.

        A worker that does not stop it within `cancel_s` is killed; within `PATIENCE` times that, if it computes.
        """
        self._write(Cancel(number))
        self._look_later(number, PATIENCE)

    def _look_later(self, number: int, times: int) -> None:
        asyncio.get_running_loop().call_later(self.cancel_s, self._look_at, number, times - 1, self._processor_s())

    def _look_at(self, number: int, times: int, before_s: float) -> None:
        """Kill the worker if it still serves a cancelled request, unless it may go on `times` more."""
        if number not in self._waiting:
            return
        if times and self._processor_s() > before_s:
            self._look_later(number, times)
        else:
            self._kill_silent()

    def _kill_silent(self) -> None:
        self._is_silent = True
        self.kill()
        asyncio.get_running_loop().call_later(CLOSE_S, self._reader.cancel)  # where even SIGKILL does not end it

    async def _watch_for_silence(self) -> None:
        """Kill the worker if it answers no pings while somebody waits for it.

        Pings are counted, not seconds: where this program itself was stopped, the worker is not to blame. One without
        an answer counts less if the worker has computed since.
        """
        silent = 0.0
        while silent < (START_PINGS if self._is_starting() else SILENT_PINGS):
            self._is_heard = False
            is_awaited = bool(self._waiting) or self._is_starting()
            before_s = self._processor_s() if is_awaited else 0.0
            if is_awaited:
                self._write(Ping())
            await asyncio.sleep(PING_EVERY_S)
            if not is_awaited or self._is_heard:
                silent = 0.0
            else:
                silent += 1 / PATIENCE if self._processor_s() > before_s else 1
        self._kill_silent()

    def _processor_s(self) -> float:
        """Return how many seconds the process at the other end has computed; 0 once it is gone."""
        import psutil  # noqa: PLC0415 - most answers come before anybody asks

        try:
            used = psutil.Process(self.pid).cpu_times()
        except psutil.Error:
            return 0.0
        return float(used.user + used.system)

    def _write(self, request: WorkerRequest) -> None:
        """Send a small request without waiting until the pipe has room."""
        if not self._requests.is_closing():
            self._requests.write(protocol.frame(request))

    async def _send(self, request: WorkerRequest) -> None:
        if self.died.is_set():
            raise self._death()
        try:
            self._requests.write(protocol.frame(request))
            await self._requests.drain()
        except (BrokenPipeError, ConnectionResetError):
            await self.died.wait()
            raise self._death() from None

    async def _read(self) -> None:
        try:
            try:
                while (body := await received(self._replies)) is not None:
                    self._is_heard = True
                    self._dispatch(protocol.decode_reply(body))
            except msgspec.MsgspecError:  # nothing that a worker of this version says
                self.kill()
            await self._ended()
        finally:
            self._watch.cancel()
            self.died.set()
            self._note_death()
            for replies in self._waiting.values():
                replies.put_nowait(None)

    def _dispatch(self, reply: WorkerReply) -> None:
        if isinstance(reply, Pong):
            return
        if not isinstance(reply, Hello) and reply.id in self._waiting:
            self._waiting[reply.id].put_nowait(reply)
        else:
            self._take(reply)


async def received(stream: asyncio.StreamReader, *, most: int = (1 << 32) - 1) -> bytes | None:
    """Return the body of the next frame; None at the end, and for one of more than `most` bytes."""
    try:
        (length,) = FRAME.unpack(await stream.readexactly(FRAME.size))
        return await stream.readexactly(length) if length <= most else None
    except (asyncio.IncompleteReadError, ConnectionResetError):
        return None
