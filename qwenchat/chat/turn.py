"""One turn: store the question, generate the answer, store it as it comes, finish. The one way in for everyone.

The question is on disk before the engine is asked, and a background task saves the answer four times a second,
however slowly the events are read. Whatever ends the turn, the answer so far is stored, with the status that says how
it ended. Only a question that is refused because it does not fit the context window leaves nothing: whoever asked it
still has it. Who waits for whom, and which model answers, is decided elsewhere.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from typing import TypeVar

from qwenchat.chat.context import MessageCounts, plan_context
from qwenchat.chat.events import Delta, Finished, LoadEvent, PartGrew, Trimmed, TurnEnded, TurnEvent, TurnStarted
from qwenchat.chat.ids import Clock, NewId
from qwenchat.chat.memory import no_such_message
from qwenchat.chat.message import Attachment, FinishReason, Message, Role, Status, text_parts
from qwenchat.chat.ports import Engine, Generation, Mode, ModelInfo, Request, SessionStore
from qwenchat.chat.sampling import UNSET, Sampling
from qwenchat.chat.session import Session, WaitingQuestion
from qwenchat.chat.streaming import StreamingAnswer
from qwenchat.errors import Interrupted, PromptTooLong, QwenchatError, StoreError
from qwenchat.i18n import _
from qwenchat.text.safe import encodable

SAVE_EVERY_S = 0.25
"""Half of what may be lost, so that a slow disk still keeps the promise."""
_STATUS = {
    FinishReason.STOP: Status.COMPLETE,
    FinishReason.LENGTH: Status.TRUNCATED,
    FinishReason.CONTEXT: Status.TRUNCATED,
    FinishReason.CANCELLED: Status.STOPPED,
}

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """Begins turns in the sessions of one store with one engine.

    `sampling` is for the one turn; what it leaves open comes from the session, then from the model. The events of
    every turn raise NotFound for an unknown session or message, StoreError when another program is writing into it or
    the disk fails, PromptTooLong, CannotLoad and EngineDied; by then all that was generated is stored. PromptTooLong
    leaves the session as it was before the turn.
    """

    store: SessionStore
    engine: Engine
    new_id: NewId
    clock: Clock
    counts: MessageCounts = field(default_factory=MessageCounts)
    """What was counted before with the same engine and model."""
    mode: Mode = Mode.ANSWER
    """COMPLETE continues a text instead of answering it."""
    model: str = ""
    """The reference of the engine's model where that is not the session's."""

    def ask(
        self,
        session_id: str,
        text: str,
        attachments: Sequence[Attachment] = (),
        sampling: Sampling = UNSET,
    ) -> "RunningTurn":
        """Ask a question at the end of the session's branch."""

        async def begin(session: Session) -> _Answering:
            asked = WaitingQuestion(
                id=self.new_id(),
                session=session.id,
                follows=session.leaf,
                text=encodable(text),
                created=self.clock(),
                attachments=tuple(attachments),
            )
            return await self._ask(session, asked.below(session.leaf), sampling)

        return RunningTurn(self.store, session_id, begin)

    def ask_waiting(self, waiting: WaitingQuestion, sampling: Sampling = UNSET) -> "RunningTurn":
        """Ask a question of the outbox, which enters the tree now."""

        async def begin(session: Session) -> _Answering:
            parent = session.leaf
            if waiting.follows != session.leaf:
                tree = await asyncio.to_thread(self.store.tree, session.id)
                parent = tree.place_for(waiting.follows, session.leaf)
            return await self._ask(session, waiting.below(parent), sampling)

        return RunningTurn(self.store, waiting.session, begin)

    def regenerate(self, question: Message, sampling: Sampling = UNSET) -> "RunningTurn":
        """Answer a question once more, as a variant beside the answers that it has."""

        async def begin(session: Session) -> _Answering:
            return await self._answer(session, question, sampling, added=())

        return RunningTurn(self.store, question.session, begin)

    def continue_answer(self, answer: Message, sampling: Sampling = UNSET) -> "RunningTurn":
        """Continue an answer that ended early; as a variant beside it where another model wrote it."""

        async def begin(session: Session) -> _Answering:
            branch = await self._branch(answer)
            return _Answering(self, session, branch, branch[-1], sampling=sampling, mode=Mode.CONTINUE)

        return RunningTurn(self.store, answer.session, begin)

    async def _ask(self, session: Session, question: Message, sampling: Sampling) -> "_Answering":
        await self.engine.check(sampling.over(session.sampling))
        await asyncio.to_thread(self.store.add, question)
        return await self._answer(session, question, sampling, added=(question,))

    async def _answer(
        self, session: Session, question: Message, sampling: Sampling, *, added: tuple[Message, ...]
    ) -> "_Answering":
        await self.engine.check(sampling.over(session.sampling))
        answer = Message(
            id=self.new_id(),
            session=session.id,
            parent=question.id,
            role=Role.ASSISTANT,
            parts=(),
            created=self.clock(),
            status=Status.STREAMING,
            model=self.model or session.model,
        )
        branch = await self._branch(question)
        await asyncio.to_thread(self.store.add, answer)
        return _Answering(self, session, branch, answer, sampling=sampling, mode=self.mode, added=(*added, answer))

    async def _branch(self, last: Message) -> list[Message]:
        """Return the branch that ends with a message. Raises NotFound when another program has deleted it."""
        branch = await asyncio.to_thread(self.store.branch, last.id)
        if not branch:
            raise no_such_message(last.id)
        return branch


class RunningTurn:
    """A turn under way: an asynchronous iterator of its events. It begins with the first one that is asked for."""

    def __init__(
        self, store: SessionStore, session_id: str, begin: Callable[[Session], Awaitable["_Answering"]]
    ) -> None:
        self._store, self._session_id, self._begin = store, session_id, begin
        self._is_cancelled = False
        self._answering: _Answering | None = None
        self._events = self._run()

    def __aiter__(self) -> AsyncGenerator[TurnEvent, None]:
        return self._events

    async def __anext__(self) -> TurnEvent:
        return await anext(self._events)

    @property
    def model(self) -> ModelInfo | None:
        """The model that answers; None before it is loaded."""
        return self._answering.info if self._answering else None

    @property
    def answer(self) -> Message | None:
        """The answer with all that has been generated so far; None before it has begun, and once it was taken back."""
        return self._answering.streaming.snapshot() if self._answering and not self._answering.is_taken_back else None

    async def cancel(self) -> None:
        """Stop: what was generated is stored and the events go on to TurnEnded.

        Where nothing is generated yet, they raise Interrupted after it.
        """
        self._is_cancelled = True
        if self._answering:
            await self._answering.cancel()

    async def aclose(self) -> None:
        """Stop and read nothing more; what was generated is stored as stopped."""
        await self._events.aclose()

    async def _run(self) -> AsyncGenerator[TurnEvent, None]:
        with self._store.streaming(self._session_id):
            session = await asyncio.to_thread(self._store.session, self._session_id)
            self._answering = answering = await self._begin(session)
            if self._is_cancelled:
                await answering.cancel()
            task = asyncio.create_task(answering.run())
            try:
                await asyncio.sleep(0)  # a task that is cancelled before it has begun would store nothing
                while (event := await answering.events.get()) is not None:
                    yield event
                await task
            finally:
                await _end(task)


class _Answering:
    """The engine's side of one turn, at its own pace; `events` ends with None."""

    def __init__(
        self,
        turns: Turns,
        session: Session,
        branch: list[Message],
        answer: Message,
        *,
        sampling: Sampling,
        mode: Mode,
        added: tuple[Message, ...] = (),
    ) -> None:
        """`session` is as it was before the `added` messages; an answer that is continued was there already."""
        self.events: asyncio.Queue[TurnEvent | None] = asyncio.Queue()
        self.streaming = StreamingAnswer(answer)
        self.info: ModelInfo | None = None
        self.is_taken_back = False
        self._added, self._original = added, answer
        self._turns, self._store, self._engine = turns, turns.store, turns.engine
        self._session, self._branch, self._answer, self._mode = session, branch, answer, mode
        self._sampling = sampling.over(session.sampling)
        self._is_open = mode is not Mode.CONTINUE
        """Whether the store has the answer as streaming."""
        self._dirty, self._over = asyncio.Event(), asyncio.Event()
        self._preparing: asyncio.Task[object] | None = None
        """Loading or counting, which end when they are cancelled."""
        self._generation: Generation | None = None
        self._cancelled = False
        question = _before(branch) if mode is Mode.CONTINUE else branch[-1]
        self.events.put_nowait(TurnStarted(question, answer))

    async def cancel(self) -> None:
        """End the generation, or what prepares it."""
        self._cancelled = True
        if self._generation:
            await self._generation.cancel()
        elif self._preparing:
            self._preparing.cancel()

    async def run(self) -> None:
        """Run the turn to its end; the answer is stored however it ends."""
        saver = asyncio.create_task(self._save_as_it_comes())
        finished: Finished | None = None
        status, error = Status.STOPPED, ""
        try:
            finished = await self._generate(saver)
            status = _STATUS[finished.reason]
        except Interrupted:
            raise
        except PromptTooLong:
            self.is_taken_back = True
            raise
        except Exception as failure:
            status, error = Status.FAILED, failure.message if isinstance(failure, QwenchatError) else repr(failure)
            raise
        finally:
            end = replace(self._answer, status=status, error=error)
            if finished is not None:
                end = replace(end, finish_reason=finished.reason, usage=finished.usage, timings=finished.timings)
            try:
                await _uncancelled(self._take_back(saver) if self.is_taken_back else self._finish(saver, end))
            finally:
                self.events.put_nowait(None)

    async def _generate(self, saver: asyncio.Task[None]) -> Finished:
        started = time.perf_counter()
        self.info = info = await self._prepare(self._engine.load(self._report_loading))
        load_s = time.perf_counter() - started
        if self._mode is Mode.CONTINUE:
            await self._reopen(info)
        request = await self._request(info)
        self._generation = generation = self._engine.generate(request)
        if self._cancelled:
            await generation.cancel()
        async with aclosing(generation) as events:
            async for event in events:
                if saver.done():
                    saver.result()
                if isinstance(event, Delta):
                    self._report_grown(self.streaming.add(event))
                elif isinstance(event, Finished):
                    self._report_grown(self.streaming.finish())
                    finished = replace(event, timings=replace(event.timings, load_s=load_s))
                    self.events.put_nowait(finished)
                    return finished
                else:
                    self.events.put_nowait(event)
        raise AssertionError("the engine's events ended without Finished")

    async def _prepare(self, work: Coroutine[object, object, Result]) -> Result:
        """Do what comes before the generation. Raises Interrupted where the turn is cancelled meanwhile."""
        task = asyncio.create_task(work)
        self._preparing = task
        try:
            if self._cancelled:
                task.cancel()
            return await task
        except asyncio.CancelledError:
            if self._cancelled and task.cancelled():
                raise Interrupted(_("The answer was stopped before it began.")) from None
            raise
        finally:
            self._preparing = None

    def _report_loading(self, event: LoadEvent) -> None:
        self.events.put_nowait(event)

    def _report_grown(self, events: Sequence[PartGrew]) -> None:
        for event in events:
            self.events.put_nowait(event)
        if events:
            self._dirty.set()

    async def _reopen(self, info: ModelInfo) -> None:
        """Make the answer that is continued stream again, or a variant of it that this model can continue."""
        earlier = self._branch[-1]
        if earlier.model_file == info.file or not earlier.parts:
            self._answer = replace(earlier, status=Status.STREAMING, finished=None, error="")
        else:  # its tokens mean nothing to this model, and what it was stays as it is
            self._answer = Message(
                id=self._turns.new_id(),
                session=earlier.session,
                parent=earlier.parent,
                role=Role.ASSISTANT,
                parts=text_parts(earlier.text),
                created=self._turns.clock(),
                status=Status.STREAMING,
            )
            self._added = (self._answer,)
            await _uncancelled(asyncio.to_thread(self._add_variant))
            self._branch = [*self._branch[:-1], self._answer]
            self.events.put_nowait(TurnStarted(_before(self._branch), self._answer))
        self._is_open = True

    def _add_variant(self) -> None:
        self._store.add(self._answer)
        self._is_open = True

    async def _request(self, info: ModelInfo) -> Request:
        """Note who answers, plan the context and return what the engine is asked."""
        sampling = self._sampling.over(info.defaults)
        model = self._turns.model or self._session.model or info.reference
        self._answer = replace(self._answer, model=model, model_file=info.file, sampling=sampling)
        fresh = not self._answer.parts and self._mode is not Mode.COMPLETE
        self.streaming = StreamingAnswer(self._answer, inside_reasoning=info.opens_reasoning and fresh)
        await _uncancelled(asyncio.to_thread(self._store.amend, self._answer))  # later turns must know whose tokens
        plan = await self._prepare(
            plan_context(
                self._engine,
                info,
                self._branch,
                system=self._session.system,
                max_tokens=sampling.max_tokens,
                mode=self._mode,
                counts=self._turns.counts,
            )
        )
        plan.check()
        if plan.first_seen and info.reads_history:
            self.events.put_nowait(Trimmed(plan.trimmed, plan.trimmed_tokens, plan.first_seen))
        del self._branch[:-1]  # as long as the chat is, and not needed any more
        key = self._session.id if self._store.persists else ""
        return Request(turns=plan.turns, sampling=sampling, mode=self._mode, cache_key=key)

    async def _save_as_it_comes(self) -> None:
        while not self._over.is_set():
            await self._dirty.wait()
            self._dirty.clear()
            await self._save()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), SAVE_EVERY_S)

    async def _save(self) -> None:
        if fragments := self.streaming.unstored():
            await asyncio.to_thread(self._store.append, self._answer.id, fragments)
            self.streaming.mark_stored(len(fragments))

    async def _take_back(self, saver: asyncio.Task[None]) -> None:
        """Leave the session as it was before the turn."""
        await self._stop_saving(saver)
        if self._added:
            await asyncio.to_thread(self._store.take_back, self._session, *self._added)
        else:
            await asyncio.to_thread(self._store.amend, self._original)

    async def _stop_saving(self, saver: asyncio.Task[None]) -> None:
        self._over.set()
        self._dirty.set()
        with suppress(StoreError):
            await saver

    async def _finish(self, saver: asyncio.Task[None], end: Message) -> None:
        await self._stop_saving(saver)
        if not self._is_open:
            self.events.put_nowait(TurnEnded(self._branch[-1]))
            return
        self._report_grown(self.streaming.finish())  # nothing is left where it has finished
        await self._save()
        end = replace(end, parts=self.streaming.snapshot().parts, finished=self._turns.clock())
        await asyncio.to_thread(self._store.amend, end)
        self.events.put_nowait(TurnEnded(end))


def _before(branch: Sequence[Message]) -> Message:
    """Return the question that the last message answers; that message itself where the question has been deleted."""
    return branch[-2] if len(branch) > 1 else branch[-1]


async def _uncancelled(work: Coroutine[object, object, Result]) -> Result:
    """Do work to its end, however often the caller is cancelled meanwhile; the cancellation is raised afterwards."""
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


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it has stored what it has, however often the caller is cancelled meanwhile."""
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
