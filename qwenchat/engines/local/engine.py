"""Implements the engine port with llama.cpp in a worker process, so that a crash of llama.cpp never ends the program.

The model is loaded when it is first needed, and again after a worker has died. Each request has its own task, which
feeds its generation: a slow reader delays neither its own tokens nor the next request. Counts are served in the
meantime. The planner decides how a model is loaded; `saved_kv` decides about files.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence, Set
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from qwenchat.chat.events import Delta, EngineEvent, Finished, Loading, PromptScored
from qwenchat.chat.ports import MOST_CHANCES, Capabilities, Mode, ModelInfo, Request, TokenCounts
from qwenchat.chat.prompt import Plain, PromptPart, Special, Turn
from qwenchat.chat.sampling import Sampling
from qwenchat.engines.calls.format import CallFormat
from qwenchat.engines.calls.reader import call_reader
from qwenchat.engines.chat_template import ChatTemplate, TemplateSandbox
from qwenchat.engines.generation import QueuedGeneration
from qwenchat.engines.local.attached import AttachedWorker
from qwenchat.engines.local.failures import (
    OTHER_MODEL,
    START_AGAIN,
    changed_while_loaded,
    load_error,
    loading_stopped,
    request_error,
    with_less,
)
from qwenchat.engines.local.kv_slot import KVSlot
from qwenchat.engines.local.link import CANCEL_WITH_PEERS_S, WorkerLink
from qwenchat.engines.local.loaded_model import Attach, LoadedModel, PlannedModel, Planner
from qwenchat.engines.local.prefill_progress import PrefillProgress
from qwenchat.engines.local.protocol import (
    CallOfTool,
    Calls,
    Count,
    Counted,
    Detokenise,
    Detokenised,
    Done,
    Generate,
    Load,
    Piece,
    PlainText,
    Ready,
    RequestFailed,
    RequestReply,
    Scored,
    SpecialText,
    TimeRun,
    TokenIds,
    Tokenise,
    Tokenised,
    WirePart,
    WorkerProgress,
)
from qwenchat.engines.prompt_format import for_mode, prompt_to_count, template_facts
from qwenchat.engines.schema.check import check_schema, enforceable
from qwenchat.errors import EngineDied, QwenchatError, Recovery
from qwenchat.i18n import _

if TYPE_CHECKING:
    from qwenchat.engines.local.process import WorkerProcess
    from qwenchat.engines.local.saved_kv import SavedKV

    _Begun = WorkerProcess | tuple[AttachedWorker, PlannedModel]
    """A worker of this engine, or one that another program shares, with the model that it has."""

_ANY_OBJECT = '{"type": "object"}'
_MOST_SCHEMAS = 1000
"""Of tools' arguments, whose check is remembered."""
_AMX = "AMX_INT8 = 1"
"""In llama.cpp's list of features if it was compiled for AMX and the processor has it.

GCC before 12.4 and 13.3 drops part of the tile configuration (GCC bug 114098), and such a build crashes with SIGSEGV
at the first matrix product. AMX is tried once for each loaded model; where it crashes, the model is loaded without it.
"""


class LocalEngine:
    """Implements `chat.ports.Engine`."""

    def __init__(
        self,
        planner: Planner,
        log: Path,
        saved: "SavedKV",
        *,
        bind_calls: bool = True,
        parallel: int = 1,
        attach: Attach | None = None,
    ) -> None:
        """Create an engine that starts nothing yet. llama.cpp will write to the file `log`.

        It serves as many requests together as the planner provides for, `parallel`. `attach` is tried before a worker
        is started.

        Without `bind_calls`, a call of a tool is what the model makes of it, not what the tool's schema demands.
        """
        self._planner, self._log, self._saved, self._attach = planner, log, saved, attach
        self._loading = asyncio.Lock()
        self._begun: _Begun | None = None
        """What waits for the first load."""
        self._worker: WorkerLink | None = None
        self._planned: PlannedModel | None = None
        """How the newest worker loads the model; None before that is decided."""
        self._loaded: LoadedModel | None = None
        self._room = asyncio.Semaphore(parallel)
        """Held by each request that the worker serves; waiting requests get it in order."""
        self._parallel, self._closing = parallel, asyncio.Lock()
        self._generations: list[QueuedGeneration] = []
        self._closed = False
        self._checked_schema = ""
        """The last schema that was found to be good; the worker gets no other one."""
        self._bind_calls = bind_calls
        self._argument_schemas: dict[str, bool] = {}
        """Those of tools, and whether they can be enforced."""

    @property
    def capabilities(self) -> Capabilities:
        loaded = self._loaded
        return Capabilities(
            continue_answer=True,
            tools=loaded is not None and loaded.planned.reads_history and loaded.format.calls is not None,
            json_schema=True,
            token_ids=True,
            saved_kv=True,
            prefill_progress=True,
            exact_counts=True,
            logprobs=True,
            raw_prompts=True,
        )

    @property
    def worker_pid(self) -> int | None:
        """The process id of the worker, None while there is none."""
        return self._worker.pid if self._worker else None

    @property
    def loaded(self) -> LoadedModel | None:
        """The model in this engine's own worker; None while no model is loaded there."""
        loaded = self._loaded
        return loaded if loaded and not (loaded.worker.is_shared or loaded.worker.died.is_set()) else None

    @contextlib.asynccontextmanager
    async def room_for(self, model: LoadedModel) -> AsyncIterator[None]:
        """Wait until the worker has room for a request that another program sends to this model, and hold it.

        The KV cache of the session that was answered last is saved before. Raises EngineDied where the model is loaded
        no more.
        """
        async with self._room:
            if self.loaded is not model:
                raise EngineDied(_("The model was unloaded."))
            await model.slot.prepare("", [])
            yield

    async def start(self) -> None:
        with contextlib.suppress(OSError, MemoryError):  # `load` tries again and says what is wrong
            self._begun = await self._begin()

    async def load(self, progress: Callable[[Loading], object] | None = None) -> ModelInfo:
        return (await self._current(progress)).info

    async def count(self, turns: Sequence[Turn], mode: Mode = Mode.ANSWER) -> TokenCounts:
        loaded = await self._ready()
        prompt = await prompt_to_count(loaded.format, turns, mode)
        reply = await loaded.worker.ask_once(Count(loaded.worker.number(), _wire(prompt.rendered.parts)))
        if not isinstance(reply, Counted):
            raise request_error(reply, loaded.worker.recoveries)
        return prompt.counts(reply.counts, reply.total)

    async def tokens(self, turns: Sequence[Turn], mode: Mode = Mode.ANSWER) -> tuple[int, ...]:
        """Return the tokens of the prompt that `generate` would send. Raises as `count` does, and WrongUse."""
        loaded = await self._ready()
        rendered = await for_mode(loaded.format, mode).prompt(turns, continuing=mode is Mode.CONTINUE)
        reply = await loaded.worker.ask_once(Tokenise(loaded.worker.number(), _wire(rendered.parts)))
        if not isinstance(reply, Tokenised):
            raise request_error(reply, loaded.worker.recoveries)
        return reply.ids

    async def text(self, ids: Sequence[int]) -> str:
        """Return the text of tokens. Raises as `tokens` does."""
        loaded = await self._ready()
        reply = await loaded.worker.ask_once(Detokenise(loaded.worker.number(), tuple(ids)))
        if not isinstance(reply, Detokenised):
            raise request_error(reply, loaded.worker.recoveries)
        return reply.text

    async def check(self, sampling: Sampling) -> None:
        if sampling.schema is not None and sampling.schema != self._checked_schema:
            await check_schema(sampling.schema)
            self._checked_schema = sampling.schema

    def generate(self, request: Request) -> QueuedGeneration:
        generation = QueuedGeneration(partial(self._serve, request))
        self._generations = [*(each for each in self._generations if not each.done), generation]
        return generation

    async def close(self, *, at_once: bool = False) -> None:
        self._closed = True
        if self._worker and (at_once or self._loading.locked()):
            self._worker.kill()
        for generation in self._generations:
            await generation.cancel()
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self._closing)
            for _request in range(self._parallel):
                await stack.enter_async_context(self._room)
            await stack.enter_async_context(self._loading)
            if self._loaded and not self._loaded.worker.died.is_set():
                with contextlib.suppress(EngineDied):
                    await self._loaded.slot.save()
            await self._end_worker()
            if self._begun:
                await (self._begun[0] if isinstance(self._begun, tuple) else self._begun).close(at_once=True)
                self._begun = None

    async def _ready(self, progress: Callable[[Loading], object] | None = None) -> LoadedModel:
        """Return the loaded model, loading it if necessary. If that is cancelled, the next waiting caller loads it."""
        async with self._loading:
            if self._loaded and not self._loaded.worker.died.is_set():
                return self._loaded
            await self._end_worker()
            self._check_open()
            try:
                self._loaded = await self._load(progress or (lambda event: None))
            except (QwenchatError, MemoryError, OSError) as error:
                if isinstance(error, EngineDied):
                    self._check_open()
                raise await _explained(error, self._worker, self._planned) from error
            finally:
                if self._loaded is None:
                    await self._end_worker(at_once=True)
            return self._loaded

    async def _current(self, progress: Callable[[Loading], object] | None = None) -> LoadedModel:
        """Return the loaded model as its files are now; it is loaded again where they were changed."""
        loaded = await self._ready(progress)
        if not await asyncio.to_thread(loaded.is_outdated):
            return loaded
        async with self._loading:
            if self._loaded is loaded:
                await self._end_worker(at_once=True)
        loaded = await self._ready(progress)
        notice = _("The model file was changed while it was loaded, so it was loaded again.")
        info = structs.replace(loaded.info, warnings=(*loaded.info.warnings, notice))
        self._loaded = structs.replace(loaded, info=info)
        return self._loaded

    async def _unshared(self, loaded: LoadedModel) -> LoadedModel:
        """Load the model in a worker of this engine: where requests are decoded together, no answer can be repeated."""
        async with self._loading:
            self._attach = None
            if self._loaded is loaded:
                await self._end_worker()
        return await self._current()

    def _check_open(self) -> None:
        if self._closed:
            raise loading_stopped()

    async def _begin(self) -> "_Begun":
        """Find a worker that another program shares, else start one."""
        if self._attach and (shared := await self._attach()):
            return shared
        from qwenchat.engines.local.process import WorkerProcess  # noqa: PLC0415 - a model that is shared needs none

        return await WorkerProcess.start(self._log)

    async def _load(self, progress: Callable[[Loading], object], *, extra_buffers: bool = True) -> LoadedModel:
        self._planned = None
        begun, self._begun = self._begun, None
        if begun is None or (isinstance(begun, tuple) and begun[0].died.is_set()):
            begun = await self._begin()
        if isinstance(begun, tuple):
            self._worker, self._planned = begun
            self._check_open()
            return await self._attached(*begun)
        from qwenchat.engines.local import peers  # noqa: PLC0415 - a model that is shared needs none of this

        worker = self._worker = begun
        self._check_open()
        hello = await worker.hello()
        planned = self._planned = self._planner(hello.devices)
        if planned.peers:
            planned = self._planner([*hello.devices, *await peers.connect(worker, hello, planned.peers)])
            worker.cancel_s = CANCEL_WITH_PEERS_S
        plan = structs.replace(planned.plan, extra_buffers=extra_buffers)
        planned = self._planned = structs.replace(planned, plan=plan)
        stamps = await asyncio.to_thread(planned.stamps)
        less = with_less(plan.n_ctx, plan.gpu_layers if hello.devices else 0)
        worker.recoveries = (START_AGAIN, *less)
        sandbox = await TemplateSandbox.start()  # in the time that the model takes to load
        try:
            ready = await _load_into(worker, planned, progress, recoveries=(*less, OTHER_MODEL))
            if extra_buffers and _AMX in hello.features and not await _survives_prefill(worker):
                await self._end_worker(at_once=True)
                return await self._load(progress, extra_buffers=False)
            source = ChatTemplate(source=ready.chat_template, bos=ready.bos, eos=ready.eos)
            template = await template_facts(source, chatml=ready.chatml, sandbox=sandbox)
        finally:
            await sandbox.close()
        slot = KVSlot(self._saved, worker, plan, hello)
        return LoadedModel.of(worker, planned, hello=hello, ready=ready, template=template, slot=slot, stamps=stamps)

    async def _attached(self, worker: AttachedWorker, planned: PlannedModel) -> LoadedModel:
        """Return the model that another program shares."""
        shared = worker.shared
        return LoadedModel.of(
            worker,
            planned,
            hello=shared.hello,
            ready=shared.ready,
            template=shared.template,
            slot=KVSlot(self._saved, worker, planned.plan, shared.hello),
            stamps=await asyncio.to_thread(planned.stamps),
        )

    async def _serve(self, request: Request, generation: QueuedGeneration) -> None:
        """Serve a request after all earlier ones, and report its events."""
        async with self._room:
            await self.check(request.sampling)
            loaded = await self._current()
            if loaded.worker.is_shared and loaded.planned.plan.parallel > 1 and request.sampling.is_repeatable:
                loaded = await self._unshared(loaded)
            worker = loaded.worker
            prompt_format = for_mode(loaded.format, request.mode)
            prompt = await prompt_format.prompt(request.turns, continuing=request.mode is Mode.CONTINUE)
            parts = _wire(prompt.parts)
            answered = _without_reasoning(request.turns[-1].text) if request.mode is Mode.CONTINUE else ""
            calls = await self._calls(request, prompt_format.calls)
            chances = min(request.chances, MOST_CHANCES)
            generation.stop_by(lambda: None)  # a file that is written or read is not left half way
            await loaded.slot.prepare(request.cache_key, parts)
            job = Generate(
                worker.number(),
                parts,
                request.sampling,
                answered=answered,
                calls=calls,
                chances=chances,
                scored_parts=prompt.parts_of_last(request.scored_turns),
            )
            generation.stop_by(partial(worker.cancel, job.id))
            reader = call_reader(prompt_format.calls, request, opens_reasoning=bool(prompt_format.opening))
            progress = PrefillProgress(loaded.speed, generation.report)
            try:
                async with contextlib.aclosing(worker.ask(job)) as replies:
                    async for reply in replies:
                        if isinstance(reply, WorkerProgress):
                            progress.advance(reply)
                            continue
                        progress.stop()
                        if isinstance(reply, Done):
                            loaded.slot.tokens = reply.usage.prompt_tokens + reply.usage.completion_tokens
                        event = _event(reply, worker)
                        for read in reader.feed(event) if reader else (event,):
                            generation.report(read)
                        if isinstance(reply, Done):
                            return
            except EngineDied as error:
                if await asyncio.to_thread(loaded.is_outdated):
                    raise changed_while_loaded(error) from error
                raise await _explained(error, worker, loaded.planned) from error
            finally:
                progress.stop()
                for held in reader.release() if reader else ():
                    generation.report(held)

    async def _calls(self, request: Request, call_format: CallFormat | None) -> Calls | None:
        """Return how the model may call tools; a tool whose schema can't be enforced gets any object."""
        tools = request.turns[0].tools
        if not tools or call_format is None:
            return None
        bound_tools = tools if self._bind_calls else ()
        good = await self.enforceable({tool.parameters for tool in bound_tools})
        bound = (
            CallOfTool(
                before=each.before,
                bare=each.bare,
                parameters=each.parameters if each.parameters in good else _ANY_OBJECT,
                after=each.after,
            )
            for each in map(call_format.syntax, bound_tools)
        )
        markers = call_format.markers
        return Calls(markers.begin, markers.end, markers.stops, tuple(bound), is_required=request.must_call)

    async def enforceable(self, schemas: Set[str]) -> set[str]:
        """Return those schemas of tools' arguments that calls can be made to follow."""
        if len(self._argument_schemas) > _MOST_SCHEMAS:
            self._argument_schemas.clear()
        found = {schema: good for schema, good in self._argument_schemas.items() if schema in schemas}
        if unknown := schemas - found.keys():
            good_ones = await enforceable(sorted(unknown))
            found |= {schema: schema in good_ones for schema in unknown}
            self._argument_schemas |= found
        return {schema for schema, good in found.items() if good}

    async def _end_worker(self, *, at_once: bool = False) -> None:
        worker, self._worker, self._loaded = self._worker, None, None
        if worker:
            await worker.close(at_once=at_once)


async def _explained(
    error: QwenchatError | MemoryError | OSError, worker: WorkerLink | None, planned: PlannedModel | None
) -> QwenchatError | MemoryError | OSError:
    """Return the error, or one that speaks of a peer or of memory where that is the cause."""
    if worker and worker.is_shared:  # what happened to it, its own program explains
        return error
    from qwenchat.engines.local import peers  # noqa: PLC0415 - most requests don't fail
    from qwenchat.engines.local.memory import lacks_memory, memory_error  # noqa: PLC0415

    used = planned.plan.peers or planned.peers if planned else ()
    if isinstance(error, EngineDied) and (lost := await peers.loss(error, used)):
        return lost
    if worker and planned and (lacking := peers.lacking_memory(worker.last_lines(), planned.name)):
        return lacking
    if not lacks_memory(error, worker.last_lines() if worker else (), planned.memory if planned else 0):
        return error
    if planned is None:
        return memory_error(recoveries=(OTHER_MODEL,))
    recoveries = (*with_less(planned.plan.n_ctx), OTHER_MODEL)
    return memory_error(planned.name, needed=planned.memory, recoveries=recoveries)


async def _load_into(
    worker: WorkerLink,
    planned: PlannedModel,
    progress: Callable[[Loading], object],
    *,
    recoveries: tuple[Recovery, ...],
) -> Ready:
    """Load a model in a worker. Raises CannotLoad with the `recoveries`, or EngineDied."""
    async with contextlib.aclosing(worker.ask(Load(worker.number(), planned.plan))) as replies:
        async for reply in replies:
            if isinstance(reply, Ready):
                return reply
            if isinstance(reply, RequestFailed):
                raise load_error(
                    reply,
                    name=planned.name,
                    reference=planned.reference,
                    n_ctx=planned.plan.n_ctx,
                    log=worker.last_lines(),
                    recoveries=recoveries,
                )
            if isinstance(reply, WorkerProgress):
                progress(Loading(reply.done))
    raise AssertionError("`ask` ends only by raising EngineDied")


async def _survives_prefill(worker: WorkerLink) -> bool:
    """Return whether the worker survives a short prefill. A single token would be decoded without AMX."""
    try:
        await worker.ask_once(TimeRun(worker.number(), depth=0, prompt=32, generate=0))
    except EngineDied:
        return False
    return True


def _without_reasoning(answer: str) -> str:
    """Return what an answer that is continued says after its reasoning."""
    reasoning, _marker, text = answer.rpartition("</think>")
    return text.lstrip() if reasoning else "" if answer.startswith("<think>") else answer


def _wire(parts: Sequence[PromptPart]) -> list[WirePart]:
    wire: list[WirePart] = []
    for part in parts:
        if isinstance(part, Special):
            wire.append(SpecialText(part.text))
        elif isinstance(part, Plain):
            wire.append(PlainText(part.text))
        else:
            wire.append(TokenIds(part.ids, part.with_control))
    return wire


def _event(reply: RequestReply, worker: WorkerLink) -> EngineEvent:
    match reply:
        case Piece(text=text, ids=ids, chances=chances):
            return Delta(text, ids, chances)
        case Scored(ids=ids, chances=chances):
            return PromptScored(ids, chances)
        case Done(reason=reason, usage=usage, timings=timings):
            return Finished(reason, usage, timings)
    raise request_error(reply, worker.recoveries)
