"""The engine's side of one turn: what it says is queued for whoever reads, and saved four times a second meanwhile.

Whatever ends it, the answer so far is kept, with the status that says how it ended. Questions, branches and locks are
`turn`'s.
"""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from itertools import chain
from typing import TypeVar

from qwenchat.chat import context, prompt
from qwenchat.chat.events import Delta, Ended, Finished, LeftOut, Saved, TurnEvent
from qwenchat.chat.ids import Clock, NewId
from qwenchat.chat.message import FinishReason, Message, Role, Status
from qwenchat.chat.ports import Engine, ModelInfo, SessionStore
from qwenchat.chat.prompt import Turn
from qwenchat.chat.sampling import Sampling
from qwenchat.chat.session import Session
from qwenchat.errors import Interrupted, QwenchatError, StoreError

SAVE_EVERY_S = 0.25
"""Half of what may be lost, so that a slow disk still keeps the promise."""
_STATUS = {
    FinishReason.STOP: Status.COMPLETE,
    FinishReason.LENGTH: Status.TRUNCATED,
    FinishReason.CONTEXT: Status.TRUNCATED,
    FinishReason.CANCELLED: Status.STOPPED,
}

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Means:
    """What a turn runs with."""

    store: SessionStore
    engine: Engine
    new_id: NewId
    clock: Clock


class Run:
    """The engine's side of one turn, at its own pace; `events` ends with None."""

    def __init__(
        self,
        means: Means,
        session: Session,
        branch: list[Message],
        answer: Message,
        sampling: Sampling,
        *,
        resume: bool = False,
    ) -> None:
        self.events: asyncio.Queue[TurnEvent | None] = asyncio.Queue()
        self._means, self._store, self._engine = means, means.store, means.engine
        self._session, self._branch, self._answer = session, branch, answer
        self._sampling = sampling.over(session.sampling)
        self._resume = resume
        self._open = not resume
        """Whether the store knows that the answer is being written."""
        self._pieces: list[Delta] = []
        self._saved = 0
        self._dirty, self._over = asyncio.Event(), asyncio.Event()
        self.events.put_nowait(Saved(_followed(branch) if resume else branch[-1], answer))

    async def pump(self) -> None:
        """Run the turn to its end and keep it, whatever happens."""
        saver = asyncio.create_task(self._save_as_it_comes())
        finished: Finished | None = None
        status, error = Status.STOPPED, ""
        try:
            finished = await self._generate(saver)
            status = _STATUS[finished.reason]
        except Interrupted:
            raise
        except Exception as failure:
            status, error = Status.FAILED, failure.message if isinstance(failure, QwenchatError) else repr(failure)
            raise
        finally:
            end = replace(self._answer, status=status, error=error)  # with the model and the id that it has by now
            if finished is not None:
                end = replace(end, finish_reason=finished.reason, usage=finished.usage, timings=finished.timings)
            try:
                await _whole(self._finish(saver, end))
            finally:
                self.events.put_nowait(None)

    async def _generate(self, saver: asyncio.Task[None]) -> Finished:
        started = time.perf_counter()
        info = await self._engine.ready(self.events.put_nowait)
        load_s = time.perf_counter() - started
        if self._resume:
            await self._reopen(info)
        sampling = self._sampling.over(info.defaults)
        self._answer = replace(
            self._answer,
            model=self._session.model or info.name,
            model_file=info.file,
            sampling=sampling,
        )
        await _whole(asyncio.to_thread(self._store.amend, self._answer))  # later turns must know whose tokens they are
        turns = await self._in_view(info.n_ctx, sampling)
        key = self._session.id if self._store.keeps else ""
        stream = self._engine.generate(turns, sampling, session=key, resume=self._resume)
        async with aclosing(stream) as events:
            async for event in events:
                if isinstance(event, Delta):
                    self._pieces.append(event)
                    self._dirty.set()
                if saver.done():
                    saver.result()
                if isinstance(event, Finished):
                    finished = replace(event, timings=replace(event.timings, load_s=load_s))
                    self.events.put_nowait(finished)
                    return finished
                self.events.put_nowait(event)
        raise AssertionError("the engine's events ended without Finished")

    async def _reopen(self, info: ModelInfo) -> None:
        earlier = self._branch[-1]
        if earlier.model_file == info.file or not earlier.text:
            self._answer = replace(earlier, status=Status.STREAMING, finished=None, error="")
        else:  # its tokens mean nothing to this model, and what it was stays as it is
            ids = self._means.new_id(), earlier.session, earlier.parent
            self._answer = Message(*ids, Role.ASSISTANT, earlier.text, self._means.clock(), Status.STREAMING)
            await _whole(asyncio.to_thread(self._add))
            self._branch = [*self._branch[:-1], self._answer]
            self.events.put_nowait(Saved(_followed(self._branch), self._answer))
        self._open = True

    def _add(self) -> None:
        self._store.add(self._answer)
        self._open = True

    async def _in_view(self, n_ctx: int, sampling: Sampling) -> list[Turn]:
        said = prompt.said_in(self._branch)
        turns = prompt.turns_of(self._session.system, said, self._answer.model_file)
        counts = await self._engine.count(turns)
        room = context.reserve(n_ctx, sampling.max_tokens)
        answers = {i for i, turn in enumerate(turns) if turn.role == Role.ASSISTANT}
        view = context.fit(counts, n_ctx, room, keep=2 if self._resume else 1, answers=answers)
        if view.left_out:
            first = said[view.start - 1].id
            self.events.put_nowait(LeftOut(view.left_out, view.left_out_tokens, first))
        del self._branch[:-1]  # as long as the chat is, and not needed any more
        return [turns[0], *turns[view.start :]]

    async def _save_as_it_comes(self) -> None:
        while not self._over.is_set():
            await self._dirty.wait()
            self._dirty.clear()
            await self._save()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), SAVE_EVERY_S)

    async def _save(self) -> None:
        pieces = self._pieces[self._saved :]
        if pieces:
            text, ids = self._joined(pieces)
            await asyncio.to_thread(self._store.append, self._answer.id, text, ids)
            self._saved += len(pieces)

    async def _finish(self, saver: asyncio.Task[None], end: Message) -> None:
        self._over.set()
        self._dirty.set()
        with suppress(StoreError):
            await saver
        if not self._open:
            self.events.put_nowait(Ended(self._branch[-1]))
            return
        await self._save()
        text, ids = self._joined(self._pieces)
        end = replace(end, text=end.text + text, token_ids=end.token_ids + ids, finished=self._means.clock())
        await asyncio.to_thread(self._store.amend, end)
        self.events.put_nowait(Ended(end))

    def _joined(self, pieces: Sequence[Delta]) -> tuple[str, tuple[int, ...]]:
        """Return text and tokens of pieces; no tokens where the text before them has none, as they stand for all."""
        text = "".join(piece.text for piece in pieces)
        if self._answer.text and not self._answer.token_ids:
            return text, ()
        return text, tuple(chain(*(piece.token_ids for piece in pieces)))


def _followed(branch: Sequence[Message]) -> Message:
    """Return what the last message follows; where nothing is before it any more, that message itself."""
    return branch[-2:][0]


async def _whole(work: Coroutine[object, object, Result]) -> Result:
    """Do work to its end, however often the one who waits is cancelled meanwhile; that is heard afterwards."""
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as again:
            cancelled = again
    result = task.result()
    if cancelled:
        raise cancelled
    return result
