"""The engine's side of one turn, at its own pace: load, plan, generate, run the calls of tools, store what came.

A background task saves the answer four times a second, however slowly the events are read. Whatever ends the turn, the
answer so far is stored, with the status that says how it ended. What is asked, and after which message, `turn` decides.
"""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from contextlib import aclosing, suppress
from typing import TypeVar

from msgspec import Struct, structs

from qwenchat.chat.calling import Calling, ToolUse
from qwenchat.chat.context import ANSWER_RESERVE, ContextPlan, MessageCounts, plan_context
from qwenchat.chat.events import (
    Called,
    Delta,
    Finished,
    LoadEvent,
    PartGrew,
    Prefilling,
    Trimmed,
    TurnEnded,
    TurnEvent,
    TurnStarted,
    WaitingToRetry,
)
from qwenchat.chat.ids import Clock, NewId
from qwenchat.chat.message import (
    Citation,
    FinishReason,
    Message,
    Role,
    Status,
    Timings,
    ToolCall,
    Usage,
    text_parts,
)
from qwenchat.chat.ports import Engine, Generation, Mode, ModelInfo, Request, SessionStore
from qwenchat.chat.prompt import answer_turn, with_results
from qwenchat.chat.sampling import Sampling
from qwenchat.chat.session import Session
from qwenchat.chat.sources import Sources
from qwenchat.chat.streaming import StreamingAnswer
from qwenchat.chat.tools import ToolSpec
from qwenchat.errors import (
    Interrupted,
    PromptTooLong,
    QwenchatError,
    Recovery,
    RecoveryKind,
    StoreError,
    WrongUse,
)
from qwenchat.i18n import _

SAVE_EVERY_S = 0.25
"""Half of what may be lost, so that a slow disk still keeps the promise."""
_LEAST_FREE = 256
"""Tokens of the context window that a question must leave where documents are read for it."""
_STATUS = {
    FinishReason.STOP: Status.COMPLETE,
    FinishReason.LENGTH: Status.TRUNCATED,
    FinishReason.CONTEXT: Status.TRUNCATED,
    FinishReason.CANCELLED: Status.STOPPED,
    FinishReason.TOOL_CALLS: Status.TRUNCATED,
}
_CANCELLED = FinishReason.CANCELLED

Result = TypeVar("Result")


class AnswerSetup(Struct, frozen=True, kw_only=True):
    """What answers are made with."""

    store: SessionStore
    engine: Engine
    new_id: NewId
    clock: Clock
    counts: MessageCounts
    """What was counted before with the same engine and model."""
    model: str
    """The reference of the engine's model; empty for the session's."""
    tools: ToolUse | None
    """What the model may call, where the engine can."""
    sources: Sources | None
    """The documents that questions are about."""
    settings: Sampling
    """What holds where neither the turn nor its session says otherwise, before what the model's makers advise."""


def reads_no_documents() -> WrongUse:
    """Return the error for a question with documents to the guide, which has only its own answers."""
    return WrongUse(
        _("The built-in guide knows this program and can't read documents."),
        recoveries=(Recovery(RecoveryKind.OTHER_MODEL),),
    )


class Answering:
    """Generates one answer; `events` ends with None."""

    def __init__(
        self,
        setup: AnswerSetup,
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
        self._setup, self._store, self._engine = setup, setup.store, setup.engine
        self._session, self._branch, self._answer, self._mode = session, branch, answer, mode
        self._sampling = sampling.over(session.sampling).over(setup.settings).fitted_to_schema()
        self._is_open = mode is not Mode.CONTINUE
        """Whether the store has the answer as streaming."""
        self._dirty, self._over, self._saving = asyncio.Event(), asyncio.Event(), asyncio.Lock()
        self._preparing: asyncio.Task[object] | None = None
        """Loading, counting, reading or a tool, which end when they are cancelled."""
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
        except Exception as failure:
            is_same = self._mode is Mode.CONTINUE and self.streaming.snapshot().parts == self._original.parts
            self.is_taken_back = isinstance(failure, PromptTooLong) or (isinstance(failure, WrongUse) and is_same)
            status, error = Status.FAILED, failure.message if isinstance(failure, QwenchatError) else repr(failure)
            raise
        finally:
            end = structs.replace(self._answer, status=status, error=error)
            if finished is not None:
                end = structs.replace(
                    end, finish_reason=finished.reason, usage=finished.usage, timings=finished.timings
                )
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
        sampling = await self._note_model(info)
        if not info.reads_history and self._mode is Mode.ANSWER and self._has_documents(self._branch[-1]):
            raise reads_no_documents()
        request, used = await self._request(info, sampling, await self._passages(info, sampling))
        calling, before = Calling(self._setup.tools), None
        while True:
            if calls := self.streaming.open_calls:
                calling.begin_round()
                room = info.n_ctx - used - min(ANSWER_RESERVE, info.n_ctx // 4)
                if not await self._run_calls(calls, calling, room):
                    return structs.replace(before or Finished(FinishReason.STOP, Usage(), Timings()), reason=_CANCELLED)
                request = self._after_results(request, info, may_call=calling.may_call)
            finished = await self._stream(request, saver)
            before = finished = _together(before, finished)
            if finished.reason is not FinishReason.TOOL_CALLS or not calling.may_call:
                finished = structs.replace(finished, timings=structs.replace(finished.timings, load_s=load_s))
                self.events.put_nowait(finished)
                return finished
            used = finished.usage.prompt_tokens + finished.usage.completion_tokens

    async def _stream(self, request: Request, saver: asyncio.Task[None]) -> Finished:
        """Generate once."""
        self._generation = generation = self._engine.generate(request)
        if self._cancelled:
            await generation.cancel()
        async with aclosing(generation) as events:
            async for event in events:
                if saver.done():
                    saver.result()
                if isinstance(event, Delta):
                    self._report_grown(self.streaming.add(event))
                elif isinstance(event, Called):
                    self._report_grown(self.streaming.put(event.call))
                elif isinstance(event, Finished):
                    self._report_grown(self.streaming.finish())
                    return event
                elif isinstance(event, WaitingToRetry | Prefilling):
                    self.events.put_nowait(event)
        raise AssertionError("the engine's events ended without Finished")

    async def _run_calls(self, calls: Sequence[ToolCall], calling: Calling, room: int) -> bool:
        """Run calls one after the other and put their results into the answer; False where the turn is cancelled.

        A call is stored before it runs, so that no tool has acted of which the answer says nothing.
        """
        self._generation = None
        for call in calls:
            await _uncancelled(self._save())
            try:
                result = await self._prepare(calling.run(call, self._engine, room // len(calls)))
            except Interrupted:
                if self._cancelled:
                    return False
                raise
            self._report_grown(self.streaming.put(result))
        return True

    def _after_results(self, request: Request, info: ModelInfo, *, may_call: bool) -> Request:
        """Return the request for what follows the results."""
        turns = request.turns[:-1] if request.mode is Mode.CONTINUE else request.turns
        self.streaming.begin_round(inside_reasoning=info.opens_reasoning)
        if not may_call:
            return structs.replace(
                request, turns=with_results(turns, self.streaming.snapshot().parts), mode=Mode.ANSWER
            )
        answer = answer_turn(self.streaming.snapshot(), info.file, continuing=True)
        return structs.replace(request, turns=(*turns, answer), mode=Mode.CONTINUE)

    async def _prepare(self, work: Coroutine[object, object, Result]) -> Result:
        """Do what comes before a generation. Raises Interrupted where the turn is cancelled meanwhile."""
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
        if earlier.model_file == info.file or not earlier.generated:
            self._answer = structs.replace(earlier, status=Status.STREAMING, finished=None, error="")
        else:  # its tokens mean nothing to this model, and what it was stays as it is
            self._answer = Message(
                id=self._setup.new_id(),
                session=earlier.session,
                parent=earlier.parent,
                role=Role.ASSISTANT,
                parts=(*earlier.citations, *text_parts(earlier.text)),
                created=self._setup.clock(),
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

    def _has_documents(self, question: Message) -> bool:
        return bool(question.attachments or self._session.collections)

    async def _note_model(self, info: ModelInfo) -> Sampling:
        """Note who answers, and return how it samples."""
        sampling = self._sampling.over(info.defaults)
        self._answer = structs.replace(self._answer, model=info.reference, model_file=info.file, sampling=sampling)
        fresh = not self._answer.generated and self._mode is not Mode.COMPLETE
        self.streaming = StreamingAnswer(self._answer, inside_reasoning=info.opens_reasoning and fresh)
        await _uncancelled(asyncio.to_thread(self._store.amend, self._answer))  # later turns must know whose tokens
        return sampling

    async def _passages(self, info: ModelInfo, sampling: Sampling) -> Sequence[Citation] | None:
        """Return what was found in the documents for the question, None where there are none.

        What is found now becomes the beginning of the answer, all of it in one transaction: an answer that ended early
        is continued with the same passages.
        """
        sources = self._setup.sources
        if self._answer.citations or sources is None or self._mode is Mode.COMPLETE or not info.reads_history:
            return self._answer.citations or None
        asked = self._branch[:-1] if self._mode is Mode.CONTINUE else list(self._branch)
        if not asked or not await self._prepare(sources.prepare(asked)):
            return None
        if self._answer.generated:  # nothing was found when it began
            return ()
        plan = await self._prepare(self._plan(info, asked[-1:], sampling, Mode.ANSWER))
        free = plan.check().room - plan.used
        if free < _LEAST_FREE:
            raise PromptTooLong(
                _("The question leaves no room for passages from the documents: {free} tokens.").format(free=free),
                _("Shorten it."),
                recoveries=(Recovery(RecoveryKind.LARGER_CONTEXT),),
            )
        found = await self._prepare(self._find(sources, asked, free // 2))
        self._report_grown(self.streaming.put(*found))
        return found

    async def _find(self, sources: Sources, branch: Sequence[Message], room: int) -> Sequence[Citation]:
        found: list[Citation] = []
        async with aclosing(sources.find(self._engine, branch, room)) as events:
            async for event in events:
                if isinstance(event, Citation):
                    found.append(event)
                else:
                    self.events.put_nowait(event)
        return found

    async def _request(
        self, info: ModelInfo, sampling: Sampling, passages: Sequence[Citation] | None
    ) -> tuple[Request, int]:
        """Plan the context; return what the engine is asked, and the tokens of its prompt."""
        mode, branch = self._mode, self._branch
        if mode is Mode.CONTINUE and not self._answer.generated and len(branch) > 1:
            mode, branch = Mode.ANSWER, branch[:-1]  # it ended before its first word
        plan = await self._prepare(self._plan(info, branch, sampling, mode, passages))
        plan.check()
        if plan.first_seen and info.reads_history:
            self.events.put_nowait(Trimmed(plan.trimmed, plan.trimmed_tokens, plan.first_seen))
        del self._branch[:-1]  # as long as the chat is, and not needed any more
        key = self._session.id if self._store.persists else ""
        return Request(turns=plan.turns, sampling=sampling, mode=mode, cache_key=key), plan.used

    async def _plan(
        self,
        info: ModelInfo,
        branch: Sequence[Message],
        sampling: Sampling,
        mode: Mode,
        passages: Sequence[Citation] | None = None,
    ) -> ContextPlan:
        return await plan_context(
            self._engine,
            info,
            branch,
            system=self._session.system,
            max_tokens=sampling.max_tokens,
            mode=mode,
            tools=self._tools,
            passages=passages,
            counts=self._setup.counts,
        )

    @property
    def _tools(self) -> Sequence[ToolSpec]:
        """The tools that are described to the model."""
        can_call = self._engine.capabilities.tools and self._mode is not Mode.COMPLETE
        if self._setup.tools is None or not can_call or self._sampling.schema is not None:
            return ()  # an answer by a schema is that and nothing else
        return self._setup.tools.toolbox.specs

    async def _save_as_it_comes(self) -> None:
        while not self._over.is_set():
            await self._dirty.wait()
            self._dirty.clear()
            await self._save()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), SAVE_EVERY_S)

    async def _save(self) -> None:
        async with self._saving:
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
        end = structs.replace(end, parts=self.streaming.snapshot().parts, finished=self._setup.clock())
        await asyncio.to_thread(self._store.amend, end)
        self.events.put_nowait(TurnEnded(end))


def _together(before: Finished | None, now: Finished) -> Finished:
    """Return how several generations of one answer ended."""
    if before is None:
        return now
    first, last = before.timings, now.timings
    tokens = before.usage.completion_tokens + now.usage.completion_tokens
    prefill_s, decode_s = first.prefill_s + last.prefill_s, first.decode_s + last.decode_s
    prefilled = first.prefill_tps * first.prefill_s + last.prefill_tps * last.prefill_s
    return Finished(
        now.reason,
        structs.replace(
            now.usage,
            completion_tokens=tokens,
            drafted_tokens=before.usage.drafted_tokens + now.usage.drafted_tokens,
            accepted_tokens=before.usage.accepted_tokens + now.usage.accepted_tokens,
            drafted_by=now.usage.drafted_by or before.usage.drafted_by,
        ),
        structs.replace(
            first,
            prefill_s=prefill_s,
            prefill_tps=prefilled / prefill_s if prefill_s else 0.0,
            decode_s=decode_s,
            decode_tps=tokens / decode_s if decode_s else 0.0,
        ),
    )


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
