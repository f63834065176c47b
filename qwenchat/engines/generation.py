"""One request under way, as both kinds of engine report it: a queue of events that were not read yet.

Whoever reads slowly delays neither the engine nor the next request. What is generated, and how it is stopped, is the
engine's work.
"""

import asyncio
from collections.abc import Callable, Coroutine

from qwenchat.chat.events import EngineEvent, Finished
from qwenchat.chat.message import FinishReason, Timings, Usage
from qwenchat.errors import EngineDied, RemoteError


class QueuedGeneration:
    """Implements `chat.ports.Generation`."""

    def __init__(self, serve: Callable[["QueuedGeneration"], Coroutine[None, None, None]]) -> None:
        """Start `serve`, which reports the events, as a task."""
        self._unread: asyncio.Queue[EngineEvent | BaseException] = asyncio.Queue()
        self._ended = self._is_cancelled = False
        self._task = asyncio.create_task(serve(self))
        self._task.add_done_callback(self._task_done)
        self._stop: Callable[[], object] = self._task.cancel

    @property
    def done(self) -> bool:
        """Whether the engine has finished with the request."""
        return self._task.done()

    def stop_by(self, stop: Callable[[], object]) -> None:
        """Call `stop` when the request is cancelled from now on; until then its task is cancelled.

        Raises CancelledError where it was cancelled before, but went on.
        """
        if self._is_cancelled:
            raise asyncio.CancelledError
        self._stop = stop

    def report(self, event: EngineEvent) -> None:
        """Add an event."""
        self._unread.put_nowait(event)

    def __aiter__(self) -> "QueuedGeneration":
        return self

    async def __anext__(self) -> EngineEvent:
        if self._ended:
            raise StopAsyncIteration
        event = await self._unread.get()
        self._ended = isinstance(event, Finished | BaseException)
        if isinstance(event, BaseException):
            raise event
        return event

    async def cancel(self) -> None:
        if not (self.done or self._is_cancelled):
            self._is_cancelled = True
            self._stop()

    async def aclose(self) -> None:
        self._ended = True
        await self.cancel()

    def _task_done(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or (self._is_cancelled and isinstance(error, EngineDied | RemoteError)):
            self.report(Finished(FinishReason.CANCELLED, Usage(), Timings()))
        elif error:
            self._unread.put_nowait(error)
