"""One turn: save the question, stream the answer, save it as it comes, finish. The one way in for all.

The question is on disk before the engine hears of it, and a background task saves the answer four times a second,
however slowly whoever reads the events takes them. Whatever ends the turn, the answer so far is kept, with the
status that says how it ended.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from itertools import chain

from qwenchat.chat import prompt, window
from qwenchat.chat.conversation import Attachment, FinishReason, Message, Role, Session, Status
from qwenchat.chat.events import Delta, Ended, Finished, LeftOut, Saved, TurnEvent
from qwenchat.chat.identity import Clock, NewId
from qwenchat.chat.ports import Engine, ModelInfo, SessionStore
from qwenchat.chat.prompt import Turn
from qwenchat.chat.sampling import UNSET, Sampling
from qwenchat.errors import Interrupted, QwenchatError, StoreError
from qwenchat.text import whole

SAVE_EVERY_S = 0.25
"""Half of what may be lost, so that a slow disk still keeps the promise."""

TurnEvents = AsyncGenerator[TurnEvent, None]
"""Close it (`aclose`) to end the turn early; the answer so far is kept as stopped."""

_STATUS = {
    FinishReason.STOP: Status.COMPLETE,
    FinishReason.LENGTH: Status.TRUNCATED,
    FinishReason.CONTEXT: Status.TRUNCATED,
    FinishReason.CANCELLED: Status.STOPPED,
}


@dataclass(frozen=True, slots=True)
class Turns:
    """Runs turns in the sessions of one store with one engine.

    `sampling` is for the one turn; what it leaves open comes from the session, then from the model. Every method
    raises NotFound for an unknown session and StoreError when another program is writing into it or the disk
    fails, PromptTooLong, CannotLoad and EngineDied; by then all that came is kept.
    """

    store: SessionStore
    engine: Engine
    new_id: NewId
    clock: Clock

    def send(
        self,
        session_id: str,
        text: str,
        attachments: Sequence[Attachment] = (),
        sampling: Sampling = UNSET,
    ) -> TurnEvents:
        """Ask a question at the end of the session's branch."""

        async def begin(session: Session) -> _Run:
            return await self._ask(session, session.leaf, text, tuple(attachments), sampling)

        return self._turn(session_id, begin)

    def edit(self, question: Message, text: str, sampling: Sampling = UNSET) -> TurnEvents:
        """Ask a question again in other words, as a variant beside it."""

        async def begin(session: Session) -> _Run:
            return await self._ask(session, question.parent, text, question.attachments, sampling)

        return self._turn(question.session, begin)

    def regenerate(self, question: Message, sampling: Sampling = UNSET) -> TurnEvents:
        """Answer a question once more, as a variant beside the answers that it has."""

        async def begin(session: Session) -> _Run:
            return await self._reply(session, question, sampling)

        return self._turn(question.session, begin)

    def resume(self, answer: Message, sampling: Sampling = UNSET) -> TurnEvents:
        """Carry an ended answer on where it stopped; as a variant beside it where another model's words are there."""

        async def begin(session: Session) -> _Run:
            branch = await asyncio.to_thread(self.store.branch, answer.id)
            return _Run(self, session, branch, branch[-1], sampling, resume=True)

        return self._turn(answer.session, begin)

    async def _turn(self, session_id: str, begin: Callable[[Session], Awaitable["_Run"]]) -> TurnEvents:
        with self.store.streaming(session_id):
            run = await begin(await asyncio.to_thread(self.store.session, session_id))
            task = asyncio.create_task(run.pump())
            try:
                while (event := await run.events.get()) is not None:
                    yield event
                await task
            finally:
                await _end(task)

    async def _ask(
        self,
        session: Session,
        parent: str | None,
        text: str,
        attachments: tuple[Attachment, ...],
        sampling: Sampling,
    ) -> "_Run":
        question = Message(
            self.new_id(), session.id, parent, Role.USER, whole(text), self.clock(), attachments=attachments
        )
        await asyncio.to_thread(self.store.add, question)
        return await self._reply(session, question, sampling)

    async def _reply(self, session: Session, question: Message, sampling: Sampling) -> "_Run":
        answer = Message(self.new_id(), session.id, question.id, Role.ASSISTANT, "", self.clock(), Status.STREAMING)
        branch = await asyncio.to_thread(self.store.branch, question.id)
        await asyncio.to_thread(self.store.add, answer)
        return _Run(self, session, branch, answer, sampling)


class _Run:
    """The engine's side of one turn, at its own pace; `events` ends with None."""

    def __init__(
        self,
        turns: Turns,
        session: Session,
        branch: list[Message],
        answer: Message,
        sampling: Sampling,
        *,
        resume: bool = False,
    ) -> None:
        self.events: asyncio.Queue[TurnEvent | None] = asyncio.Queue()
        self._turns, self._store, self._engine = turns, turns.store, turns.engine
        self._session, self._branch, self._answer = session, branch, answer
        self._sampling = sampling.over(session.sampling)
        self._resume = resume
        self._open = not resume
        """Whether the store knows that the answer is being written."""
        self._pieces: list[Delta] = []
        self._saved = 0
        self._dirty, self._over = asyncio.Event(), asyncio.Event()
        self.events.put_nowait(Saved(branch[-2] if resume else branch[-1], answer))

    async def pump(self) -> None:
        """Run the turn to its end and keep it, whatever happens."""
        saver = asyncio.create_task(self._save_as_it_comes())
        end = replace(self._answer, status=Status.STOPPED)
        try:
            finished = await self._generate(saver)
            end = replace(
                self._answer,
                status=_STATUS[finished.reason],
                finish_reason=finished.reason,
                usage=finished.usage,
                timings=finished.timings,
            )
        except Interrupted:
            raise
        except Exception as failure:
            reason = failure.message if isinstance(failure, QwenchatError) else repr(failure)
            end = replace(self._answer, status=Status.FAILED, error=reason)
            raise
        finally:
            try:
                await self._finish(saver, end)
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
        await asyncio.to_thread(self._store.amend, self._answer)  # whoever continues it must know whose tokens they are
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
            ids = self._turns.new_id(), earlier.session, earlier.parent
            self._answer = Message(*ids, Role.ASSISTANT, earlier.text, self._turns.clock(), Status.STREAMING)
            await asyncio.to_thread(self._store.add, self._answer)
            self._branch = [*self._branch[:-1], self._answer]
            self.events.put_nowait(Saved(self._branch[-2], self._answer))
        self._open = True

    async def _in_view(self, n_ctx: int, sampling: Sampling) -> list[Turn]:
        *before, last = self._branch
        said = [*(message for message in before if message.role is Role.USER or message.text), last]
        turns = prompt.turns_of(self._session.system, said, self._answer.model_file)
        counts = await self._engine.count(turns)
        room = window.reserve(n_ctx, sampling.max_tokens)
        answers = {i for i, turn in enumerate(turns) if turn.role == Role.ASSISTANT}
        view = window.fit(counts, n_ctx, room, keep=2 if self._resume else 1, answers=answers)
        if view.left_out:
            first = said[view.start - 1].id
            self.events.put_nowait(LeftOut(view.left_out, view.left_out_tokens, first))
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
        end = replace(end, text=end.text + text, token_ids=end.token_ids + ids, finished=self._turns.clock())
        await asyncio.to_thread(self._store.amend, end)
        self.events.put_nowait(Ended(end))

    def _joined(self, pieces: Sequence[Delta]) -> tuple[str, tuple[int, ...]]:
        """Return text and tokens of pieces; no tokens where the text before them has none, as they stand for all."""
        text = "".join(piece.text for piece in pieces)
        if self._answer.text and not self._answer.token_ids:
            return text, ()
        return text, tuple(chain(*(piece.token_ids for piece in pieces)))


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it has kept what it has, however often the one who waits is cancelled meanwhile."""
    cancelled_again: asyncio.CancelledError | None = None
    left_early = not task.done()
    task.cancel()
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as again:
            cancelled_again = again
    failure = None if task.cancelled() else task.exception()
    if cancelled_again:
        raise cancelled_again
    if failure and left_early:
        raise failure
