"""What the chat service runs one at a time: the turn of a session, or its compaction, and how either is cancelled.

Which job is next, and what becomes of one that fails, the service decides.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import TypeVar

from msgspec import Struct

from qwenchat.chat.message import Message
from qwenchat.chat.session import WaitingQuestion
from qwenchat.chat.turn import RunningTurn, Turns
from qwenchat.errors import Interrupted
from qwenchat.runtime.events import Hold

Result = TypeVar("Result")


class Job(Struct, eq=False, kw_only=True):
    """A turn or a compaction that runs or waits."""

    session: str
    begin: Callable[[Turns], RunningTurn] | None = None
    """Begins a turn about what is in the tree; None for any other job."""
    waiting: WaitingQuestion | None = None
    """The question in the outbox, where it is one that has not entered the tree."""
    summary: Message | None = None
    """Of a compaction: the summary to be made again, if it is about one."""
    model: str = ""
    """The model that answers; empty for the session's."""
    reload: bool = False
    """Whether the model is loaded again for it."""
    has_begun: bool = False
    """Whether its answer is in the tree."""
    failed: bool = False
    """Whether it failed before that when it was tried last."""
    asked: Message | None = None
    """That question once it has entered the tree."""
    cancelled: bool = False
    turn: RunningTurn | None = None
    _work: asyncio.Task[object] | None = None
    """What is done outside a turn, which ends when it is cancelled."""

    @property
    def is_compaction(self) -> bool:
        """Whether it makes a summary and answers nothing."""
        return self.begin is None and self.waiting is None and self.asked is None

    def begin_turn(self, turns: Turns) -> RunningTurn:
        """Begin the turn; a compaction has none."""
        if self.waiting:
            return turns.ask_waiting(self.waiting)
        if self.begin:
            return self.begin(turns)
        raise ValueError("a compaction has no turn")

    async def cancel(self) -> None:
        """Stop it, whether it waits for the model, loads it or generates."""
        self.cancelled = True
        if self.turn:
            await self.turn.cancel()
        elif self._work:
            self._work.cancel()

    async def do(self, work: Coroutine[object, object, Result]) -> Result:
        """Do what `cancel` ends. Raises Interrupted where the job is cancelled meanwhile, or was before."""
        if self.cancelled:
            work.close()
            raise Interrupted("")
        task = asyncio.create_task(work)
        self._work = task
        try:
            return await task
        except asyncio.CancelledError:
            if task.cancelled() and not _is_cancelling():
                raise Interrupted("") from None
            raise
        finally:
            self._work = None


class HeldQueue(Struct, frozen=True):
    """What waits in a session and is not asked."""

    jobs: list[Job]
    why: Hold


def _is_cancelling() -> bool:
    """Say whether the task that runs this is itself being cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
