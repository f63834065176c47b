"""Implements the engine port with llama.cpp in a worker process, so that a crash of llama.cpp never ends the program.

The model is loaded when it is first needed, and again after a worker has died. Each request has its own task, which
feeds its generation: a slow reader delays neither its own tokens nor the next request. Counts are served in the
meantime. The planner decides how a model is loaded; `saved_kv` decides about files.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import msgspec

from qwenchat.chat.events import Delta, EngineEvent, Finished, Loading, Prefilling, PromptScored
from qwenchat.chat.ports import MOST_CHANCES, Capabilities, Mode, ModelInfo, Request, TokenCounts
from qwenchat.chat.prompt import Plain, PromptPart, Special, Turn
from qwenchat.chat.sampling import Sampling
from qwenchat.chat.tools import ToolSpec
from qwenchat.engines.calls.format import CallFormat
from qwenchat.engines.calls.reader import call_reader
from qwenchat.engines.chat_template import ChatTemplate, TemplateSandbox
from qwenchat.engines.generation import QueuedGeneration
from qwenchat.engines.local import peers
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
from qwenchat.engines.local.memory import lacks_memory, memory_error
from qwenchat.engines.local.process import CANCEL_WITH_PEERS_S, WorkerProcess
from qwenchat.engines.local.protocol import (
    CallOfTool,
    Calls,
    Count,
    Counted,
    Device,
    Done,
    Generate,
    Hello,
    Load,
    LoadPlan,
    Piece,
    PlainText,
    Ready,
    RequestFailed,
    RequestReply,
    Scored,
    SpecialText,
    TimeRun,
    TokenIds,
    WirePart,
    WorkerProgress,
)
from qwenchat.engines.local.saved_kv import SavedKV
from qwenchat.engines.prompt_format import (
    PromptFormat,
    for_mode,
    prompt_format_for,
    prompt_to_count,
)
from qwenchat.engines.schema.check import check_schema, enforceable
from qwenchat.errors import EngineDied, QwenchatError, Recovery
from qwenchat.i18n import _

_ANY_OBJECT = '{"type": "object"}'
_AMX = "AMX_INT8 = 1"
"""In llama.cpp's list of features if it was compiled for AMX and the processor has it.

GCC before 12.4 and 13.3 drops part of the tile configuration (GCC bug 114098), and such a build crashes with SIGSEGV
at the first matrix product. AMX is tried once for each loaded model; where it crashes, the model is loaded without it.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedModel:
    """A decision how to load a model, made once the accelerators are known."""

    plan: LoadPlan
    reference: str
    """The model reference."""
    name: str
    """The model's name for users."""
    defaults: Sampling
    warnings: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    """All files of the model."""
    memory: int = 0
    """Bytes that it is expected to take; 0 if nothing was predicted."""
    reads_history: bool = True
    """Whether it was trained on conversations."""
    peers: tuple[str, ...] = ()
    """Host and port of peers to connect to, because this machine has no room for it; then it is planned again."""


_Stamps = tuple[tuple[int, int, int] | None, ...]
Planner = Callable[[Sequence[Device]], PlannedModel]
"""Decides context window, layers and memory; raises CannotLoad for what does not fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    """A worker with a model in it."""

    worker: WorkerProcess
    planned: PlannedModel
    format: PromptFormat
    info: ModelInfo
    hello: Hello
    ready: Ready
    slot: KVSlot
    stamps: _Stamps

    def is_outdated(self) -> bool:
        """Return whether a file of the model was changed or replaced since it was loaded. It may block."""
        return any(now not in (None, before) for now, before in zip(_stamps(self.planned), self.stamps, strict=True))


class LocalEngine:
    """Implements `chat.ports.Engine`."""

    def __init__(
        self, planner: Planner, log: Path, saved: SavedKV, *, bind_calls: bool = True, parallel: int = 1
    ) -> None:
        """Create an engine that starts nothing yet. llama.cpp will write to the file `log`.

        It serves as many requests together as the planner provides for, `parallel`.

        Without `bind_calls`, a call of a tool is what the model makes of it, not what the tool's schema demands.
        """
        self._planner, self._log, self._saved = planner, log, saved
        self._loading = asyncio.Lock()
        self._started: WorkerProcess | None = None
        """A worker that waits for the first load."""
        self._worker: WorkerProcess | None = None
        self._planned: PlannedModel | None = None
        """How the newest worker loads the model; None before that is decided."""
        self._loaded: _Loaded | None = None
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
        )

    @property
    def worker_pid(self) -> int | None:
        """The process id of the worker, None while there is none."""
        return self._worker.pid if self._worker else None

    async def start(self) -> None:
        with contextlib.suppress(OSError, MemoryError):  # `load` tries again and says what is wrong
            self._started = await WorkerProcess.start(self._log)

    async def load(self, progress: Callable[[Loading], object] | None = None) -> ModelInfo:
        return (await self._current(progress)).info

    async def count(self, turns: Sequence[Turn], mode: Mode = Mode.ANSWER) -> TokenCounts:
        loaded = await self._ready()
        prompt = await prompt_to_count(loaded.format, turns, mode)
        reply = await loaded.worker.ask_once(Count(loaded.worker.number(), _wire(prompt.rendered.parts)))
        if not isinstance(reply, Counted):
            raise request_error(reply, loaded.worker.recoveries)
        return prompt.counts(reply.counts, reply.total)

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
            if self._started:
                await self._started.close(at_once=True)
                self._started = None

    async def _ready(self, progress: Callable[[Loading], object] | None = None) -> _Loaded:
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

    async def _current(self, progress: Callable[[Loading], object] | None = None) -> _Loaded:
        """Return the loaded model as its files are now; it is loaded again where they were changed."""
        loaded = await self._ready(progress)
        if not await asyncio.to_thread(loaded.is_outdated):
            return loaded
        async with self._loading:
            if self._loaded is loaded:
                await self._end_worker(at_once=True)
        loaded = await self._ready(progress)
        notice = _("The model file was changed while it was loaded, so it was loaded again.")
        info = replace(loaded.info, warnings=(*loaded.info.warnings, notice))
        self._loaded = replace(loaded, info=info)
        return self._loaded

    def _check_open(self) -> None:
        if self._closed:
            raise loading_stopped()

    async def _load(self, progress: Callable[[Loading], object], *, extra_buffers: bool = True) -> _Loaded:
        self._planned = None
        worker = self._worker = self._started or await WorkerProcess.start(self._log)
        self._started = None
        self._check_open()
        hello = await worker.hello()
        planned = self._planned = self._planner(hello.devices)
        if planned.peers:
            planned = self._planner([*hello.devices, *await peers.connect(worker, hello, planned.peers)])
            worker.cancel_s = CANCEL_WITH_PEERS_S
        plan = msgspec.structs.replace(planned.plan, extra_buffers=extra_buffers)
        planned = self._planned = replace(planned, plan=plan)
        stamps = await asyncio.to_thread(_stamps, planned)
        less = with_less(plan.n_ctx, plan.gpu_layers if hello.devices else 0)
        worker.recoveries = (START_AGAIN, *less)
        sandbox = await TemplateSandbox.start()  # in the time that the model takes to load
        try:
            ready = await _load_into(worker, planned, progress, recoveries=(*less, OTHER_MODEL))
            if extra_buffers and _AMX in hello.features and not await _survives_prefill(worker):
                await self._end_worker(at_once=True)
                return await self._load(progress, extra_buffers=False)
            template = ChatTemplate(source=ready.chat_template, bos=ready.bos, eos=ready.eos)
            prompt_format = await prompt_format_for(template, chatml=ready.chatml, sandbox=sandbox)
        finally:
            await sandbox.close()
        info = ModelInfo(
            reference=planned.reference,
            name=planned.name,
            file=plan.spread_identity,
            host=",".join(plan.peers),
            n_ctx=ready.n_ctx,
            yarn_factor=plan.yarn_factor,
            kv_type=plan.kv_type,
            defaults=planned.defaults,
            load_s=ready.load_s,
            warnings=planned.warnings,
            opens_reasoning=bool(prompt_format.opening),
            reads_history=planned.reads_history,
        )
        return _Loaded(
            worker=worker,
            planned=planned,
            format=prompt_format,
            info=info,
            hello=hello,
            ready=ready,
            slot=KVSlot(self._saved, worker, plan, hello),
            stamps=stamps,
        )

    async def _serve(self, request: Request, generation: QueuedGeneration) -> None:
        """Serve a request after all earlier ones, and report its events."""
        async with self._room:
            await self.check(request.sampling)
            loaded = await self._current()
            worker = loaded.worker
            prompt_format = for_mode(loaded.format, request.mode)
            prompt = await prompt_format.prompt(request.turns, continuing=request.mode is Mode.CONTINUE)
            number = worker.number()
            generation.stop_by(partial(worker.cancel, number))
            await loaded.slot.switch_to(request.cache_key)
            answered = _without_reasoning(request.turns[-1].text) if request.mode is Mode.CONTINUE else ""
            calls = await self._calls(request.turns[0].tools, prompt_format.calls)
            chances = min(request.chances, MOST_CHANCES)
            job = Generate(
                number,
                _wire(prompt.parts),
                request.sampling,
                answered=answered,
                calls=calls,
                chances=chances,
                is_scored=request.is_scored,
            )
            reader = call_reader(prompt_format.calls, request, opens_reasoning=bool(prompt_format.opening))
            try:
                async with contextlib.aclosing(worker.ask(job)) as replies:
                    async for reply in replies:
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
                for held in reader.release() if reader else ():
                    generation.report(held)

    async def _calls(self, tools: Sequence[ToolSpec], call_format: CallFormat | None) -> Calls | None:
        """Return how the model may call tools; a tool whose schema can't be enforced gets any object."""
        if not tools or call_format is None:
            return None
        unknown = {tool.parameters for tool in tools if self._bind_calls} - self._argument_schemas.keys()
        good = await enforceable(sorted(unknown))
        self._argument_schemas |= {schema: schema in good for schema in unknown}
        syntaxes = map(call_format.syntax, tools if self._bind_calls else ())
        bound = (
            CallOfTool(
                before=each.before,
                bare=each.bare,
                parameters=each.parameters if self._argument_schemas[each.parameters] else _ANY_OBJECT,
                after=each.after,
            )
            for each in syntaxes
        )
        markers = call_format.markers
        return Calls(markers.begin, markers.end, markers.stops, tuple(bound))

    async def _end_worker(self, *, at_once: bool = False) -> None:
        worker, self._worker, self._loaded = self._worker, None, None
        if worker:
            await worker.close(at_once=at_once)


def _stamps(planned: PlannedModel) -> _Stamps:
    """Return what changes with the model's files: inode, size and time of each; None for one that is gone."""
    found: list[tuple[int, int, int] | None] = []
    for file in planned.files or (Path(os.fsdecode(planned.plan.path)),):
        try:
            status = file.stat()
            found.append((status.st_ino, status.st_size, status.st_mtime_ns))
        except OSError:
            found.append(None)
    return tuple(found)


async def _explained(
    error: QwenchatError | MemoryError | OSError, worker: WorkerProcess | None, planned: PlannedModel | None
) -> QwenchatError | MemoryError | OSError:
    """Return the error, or one that speaks of a peer or of memory where that is the cause."""
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
    worker: WorkerProcess,
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


async def _survives_prefill(worker: WorkerProcess) -> bool:
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
            wire.append(TokenIds(part.ids))
    return wire


def _event(reply: RequestReply, worker: WorkerProcess) -> EngineEvent:
    match reply:
        case WorkerProgress(done=done, total=total, seconds=seconds):
            speed = done / seconds if seconds else 0.0
            left = (total - done) / speed if speed else 0.0
            return Prefilling(int(done), int(total), speed, left)
        case Piece(text=text, ids=ids, chances=chances):
            return Delta(text, ids, chances)
        case Scored(ids=ids, chances=chances):
            return PromptScored(ids, chances)
        case Done(reason=reason, usage=usage, timings=timings):
            return Finished(reason, usage, timings)
    raise request_error(reply, worker.recoveries)
