"""The model that a server has loaded, and whose turn it is: requests are served in the order in which they came.

One model is loaded at a time. A request for another one waits until all before it have ended; then the models are
exchanged, and what does not fit is refused by the load planner. All front doors of a server share one of these, so that
no door is preferred. It knows no HTTP, and no request's words.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from qwenchat.chat.events import LoadEvent
from qwenchat.chat.ports import Engine, ModelInfo
from qwenchat.engines.local.engine import LocalEngine
from qwenchat.errors import Interrupted, QueueFull
from qwenchat.i18n import _
from qwenchat.models.reference import remote_in
from qwenchat.runtime.load_options import LoadOptions

MOST_WAITING = 64
"""Requests that wait for their turn; more are refused."""

Result = TypeVar("Result")
MakeEngine = Callable[[str, LoadOptions], Engine]
"""Makes an engine for a model reference; may block and raise NotFound, FileError or CannotLoad."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """The leave to ask an engine once."""

    engine: Engine
    info: ModelInfo


class ServedModels:
    """Grants requests their turn, at most `options.parallel` at the same time."""

    def __init__(
        self,
        new_engine: MakeEngine,
        options: LoadOptions,
        *,
        keep_alive_s: float | None = None,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        """Load nothing yet. A model that nobody asks for `keep_alive_s` is unloaded; None: it stays."""
        self._new_engine, self._options = new_engine, options
        self._keep_alive_s, self._most_waiting = keep_alive_s, most_waiting
        self._order = asyncio.Lock()
        """Held by the request whose turn is next; asyncio's locks are given in the order of asking."""
        self._room = asyncio.Semaphore(options.parallel)
        """Held by each request that is served."""
        self._engine: Engine | None = None
        self._reference = ""
        """Of the engine's model."""
        self._idle: asyncio.TimerHandle | None = None
        self._tasks = set[asyncio.Task[Any]]()
        """Loading and unloading, which go on although the request is cancelled."""
        self._closing: asyncio.Task[None] | None = None
        """Of those, the one that closes the last engine, or has closed it."""
        self._is_closed = False
        self.info: ModelInfo | None = None
        """Of the loaded model; None while no model is loaded."""
        self.waiting = self.running = 0
        """Requests that wait for their turn, and that have it."""

    @property
    def reference(self) -> str:
        """The reference of the loaded model; empty while no model is loaded."""
        return self._reference if self.info else ""

    @property
    def parallel(self) -> int:
        """How many requests are served at the same time."""
        return self._options.parallel

    @property
    def engine(self) -> LocalEngine | None:
        """The local engine, which other programs of the user may share; None while the server has no local engine."""
        return self._engine if isinstance(self._engine, LocalEngine) else None

    def grant(
        self, reference: str, progress: Callable[[LoadEvent], object] | None = None
    ) -> AbstractAsyncContextManager[Grant]:
        """Wait for the turn of a request, with its model loaded, and hold it as long as the context is open.

        Raises QueueFull, Interrupted once this is closed, and what making and loading an engine raises.
        """
        return self._held(partial(self._ready, reference, progress))

    def turn(self) -> AbstractAsyncContextManager[None]:
        """Wait for the turn of a request to whatever is loaded then, and hold it as `grant` does; nothing is loaded."""

        async def nothing() -> None:
            self._check_open()

        return self._held(nothing)

    @asynccontextmanager
    async def _held(self, ready: Callable[[], Coroutine[object, object, Result]]) -> AsyncIterator[Result]:
        """Hold the turn of a request, for which `ready` makes all ready once those before it have theirs."""
        if self.waiting >= self._most_waiting:
            raise QueueFull(_("Too many requests are waiting: {count}.").format(count=self.waiting), _("Try later."))
        self.waiting += 1
        self._watch_idle()
        try:
            async with self._order:
                granted = await ready()
                await self._room.acquire()
                self.running += 1
        finally:
            self.waiting -= 1
            self._watch_idle()
        try:
            yield granted
        finally:
            self.running -= 1
            self._room.release()
            self._watch_idle()

    async def close(self) -> None:
        """End what is generated, and the engine; requests that wait raise Interrupted."""
        self._is_closed = True
        self._watch_idle()
        if self._engine:
            await self._engine.close(at_once=True)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.info = None

    async def _ready(self, reference: str, progress: Callable[[LoadEvent], object] | None) -> Grant:
        """Return the engine of a model, loaded, in place of another one's."""
        self._check_open()
        if self._engine is None or self._reference != reference:
            async with AsyncExitStack() as stack:
                for _request in range(self._options.parallel):
                    await stack.enter_async_context(self._room)
                await self._unload()
                options = LoadOptions(ctx=self._options.ctx) if remote_in(reference) else self._options
                self._engine = await asyncio.to_thread(self._new_engine, reference, options)
                self._reference = reference
            self._check_open()
        engine = self._engine
        info = await asyncio.shield(self._begin(self._load(engine, progress)))
        self._check_open()
        return Grant(engine=engine, info=info)

    async def _load(self, engine: Engine, progress: Callable[[LoadEvent], object] | None) -> ModelInfo:
        """Load a model, to the end although its client leaves: a large one may take longer than a client waits."""
        info = await engine.load(progress)
        if engine is self._engine:
            self.info = info
            self._watch_idle()
        return info

    async def _unload(self) -> None:
        """Close the engine, and wait for one that is being closed: the next model needs its memory."""
        engine, self._engine, self.info = self._engine, None, None
        if engine:
            self._closing = self._begin(engine.close())
        if self._closing:
            await asyncio.wait({self._closing})

    async def _unload_idle(self) -> None:
        async with self._order:
            if not (self.running or self.waiting):
                await self._unload()

    def _begin(self, work: Coroutine[object, object, Result]) -> "asyncio.Task[Result]":
        """Do work that goes on although the request which waits for it is cancelled."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._end)
        return task

    def _end(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # it was raised to the request, if that still waits

    def _watch_idle(self) -> None:
        """Begin to wait for the time to unload the model where nobody needs it, else wait no longer."""
        if self._idle:
            self._idle.cancel()
            self._idle = None
        if self._keep_alive_s is not None and self.info and not (self._is_closed or self.running or self.waiting):
            loop = asyncio.get_running_loop()
            self._idle = loop.call_later(self._keep_alive_s, lambda: self._begin(self._unload_idle()))

    def _check_open(self) -> None:
        if self._is_closed:
            raise Interrupted(_("The server is shutting down."))
