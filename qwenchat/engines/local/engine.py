"""The engine port over a worker process: loads when first asked, reuses and saves KV caches, survives its worker.

One request runs at a time; counting is served beside it. When the worker dies, the request in flight raises
EngineDied and the next one starts a new worker.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from qwenchat.chat.events import Delta, EngineEvent, Finished, Loading, Prefilling
from qwenchat.chat.ports import ModelInfo
from qwenchat.chat.prompt import Part, Plain, Special, Turn
from qwenchat.chat.sampling import Sampling
from qwenchat.engines.local.failures import counting_stopped, load_error, loading_stopped, request_error
from qwenchat.engines.local.kv_slot import Resident
from qwenchat.engines.local.process import WorkerProcess
from qwenchat.engines.local.prompt_format import Arrangement, arrangement_for
from qwenchat.engines.local.protocol import (
    Answer,
    Count,
    Counted,
    Device,
    Done,
    Failed,
    Generate,
    Hello,
    Load,
    LoadPlan,
    Piece,
    PlainText,
    Progress,
    Ready,
    SpecialText,
    TokenIds,
    WirePart,
)
from qwenchat.engines.local.saved_kv import SavedKV
from qwenchat.errors import CannotLoad, EngineDied


@dataclass(frozen=True, slots=True)
class Planned:
    """How a model will be loaded, decided when the accelerators are known."""

    load: LoadPlan
    name: str
    defaults: Sampling
    warnings: tuple[str, ...] = ()


Planner = Callable[[Sequence[Device]], Planned]
"""Decides context, layers and memory; raises CannotLoad for what does not fit."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    worker: WorkerProcess
    planned: Planned
    arrangement: Arrangement
    info: ModelInfo
    hello: Hello
    ready: Ready
    resident: Resident


class LocalEngine:
    """Implements `chat.ports.Engine` with llama.cpp in a child process."""

    def __init__(self, planner: Planner, log: Path, saved: SavedKV, *, complete: bool = False) -> None:
        self._planner, self._log, self._saved, self._complete = planner, log, saved, complete
        self._loading, self._turn = asyncio.Lock(), asyncio.Lock()
        self._worker: WorkerProcess | None = None
        self._loaded: _Loaded | None = None
        self._running = 0
        self._counting: set[asyncio.Task[list[int]]] = set()
        self._stopped = False
        """Whether the load under way is to end; it hears of it at its next step."""

    @property
    def worker_pid(self) -> int | None:
        """The process id of the worker, None while there is none."""
        return self._worker.pid if self._worker else None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know about how the model was loaded; nothing while there is none."""
        return self._loaded.info.warnings if self._loaded else ()

    async def ready(self, loading: Callable[[Loading], object] | None = None) -> ModelInfo:
        return (await self._ready(loading)).info

    async def _ready(self, loading: Callable[[Loading], object] | None = None) -> _Loaded:
        async with self._loading:
            self._stopped = False
            if self._loaded and not self._loaded.worker.died.is_set():
                return self._loaded
            await self._end_worker()
            try:
                self._loaded = await self._load(loading or (lambda event: None))
            except BaseException:
                await self._end_worker()
                raise
            return self._loaded

    async def _load(self, loading: Callable[[Loading], object]) -> _Loaded:
        worker = self._worker = await WorkerProcess.start(self._log)
        hello = await worker.hello()
        planned = self._planner(hello.devices)
        self._check_stopped()
        number = self._running = worker.number()
        try:
            ready = await self._loaded_by(worker, Load(number, planned.load), planned, loading)
        except (CannotLoad, EngineDied) as error:
            error.gpu_layers = planned.load.gpu_layers
            raise
        finally:
            self._running = 0
        self._check_stopped()
        load = planned.load
        info = ModelInfo(
            planned.name,
            load.identity,
            ready.n_ctx,
            planned.defaults,
            ready.load_s,
            planned.warnings,
            load.gpu_layers if hello.devices else 0,
        )
        arrangement = arrangement_for(ready, complete=self._complete)
        resident = Resident(self._saved, worker, load, hello)
        return _Loaded(worker, planned, arrangement, info, hello, ready, resident)

    def _check_stopped(self) -> None:
        if self._stopped:
            raise loading_stopped()

    async def _loaded_by(
        self, worker: WorkerProcess, load: Load, planned: Planned, loading: Callable[[Loading], object]
    ) -> Ready:
        async with contextlib.aclosing(worker.ask(load)) as replies:
            async for reply in replies:
                if isinstance(reply, Ready):
                    return reply
                if isinstance(reply, Failed):
                    raise load_error(reply, planned.name, planned.load.n_ctx, worker.last_words())
                if isinstance(reply, Progress):
                    loading(Loading(reply.done))
        raise request_error(reply)

    async def count(self, turns: Sequence[Turn]) -> list[int]:
        loaded = await self._ready()
        counting = asyncio.create_task(self._count(loaded, turns))
        self._counting.add(counting)
        try:
            await asyncio.wait({counting})
        finally:
            self._counting.discard(counting)
            counting.cancel()
        if counting.cancelled():
            raise counting_stopped()
        return counting.result()

    async def _count(self, loaded: _Loaded, turns: Sequence[Turn]) -> list[int]:
        prompts = [_wire(parts) for parts in await loaded.arrangement.each(turns)]
        reply = await loaded.worker.ask_once(Count(loaded.worker.number(), prompts))
        if isinstance(reply, Counted):
            return reply.counts
        raise request_error(reply)

    async def generate(
        self, turns: Sequence[Turn], sampling: Sampling, *, session: str = "", resume: bool = False
    ) -> AsyncGenerator[EngineEvent, None]:
        async with self._turn:
            loaded = await self._ready()
            number = self._running = loaded.worker.number()
            ended = False
            try:
                parts = _wire(await loaded.arrangement.prompt(turns, resume=resume))
                await loaded.resident.take_over(session)
                async with contextlib.aclosing(loaded.worker.ask(Generate(number, parts, sampling))) as replies:
                    async for reply in replies:
                        ended = isinstance(reply, Done | Failed)
                        if isinstance(reply, Done):
                            loaded.resident.tokens = reply.usage.prompt_tokens + reply.usage.completion_tokens
                        yield _event(reply)
                        if ended:
                            return
            finally:
                self._running = 0
                if not ended:
                    await loaded.worker.cancel(number)

    async def cancel(self) -> None:
        self._stopped = self._loading.locked()
        if self._running and self._worker:
            await self._worker.cancel(self._running)
        else:  # the worker counts on, and nobody waits for it
            for counting in self._counting:
                counting.cancel()

    async def close(self) -> None:
        await self.cancel()
        async with self._loading:
            if self._loaded and not self._loaded.worker.died.is_set():
                with contextlib.suppress(EngineDied):
                    await self._loaded.resident.save()
            await self._end_worker()

    async def _end_worker(self) -> None:
        worker, self._worker, self._loaded = self._worker, None, None
        if worker:
            await worker.close()


def _wire(parts: Sequence[Part]) -> list[WirePart]:
    wire: list[WirePart] = []
    for part in parts:
        if isinstance(part, Special):
            wire.append(SpecialText(part.text))
        elif isinstance(part, Plain):
            wire.append(PlainText(part.text))
        else:
            wire.append(TokenIds(part.ids))
    return wire


def _event(reply: Answer) -> EngineEvent:
    match reply:
        case Progress(done=done, total=total, seconds=seconds):
            speed = done / seconds if seconds else 0.0
            left = (total - done) / speed if speed else 0.0
            return Prefilling(int(done), int(total), speed, left)
        case Piece(text=text, ids=ids):
            return Delta(text, ids)
        case Done(reason=reason, usage=usage, timings=timings):
            return Finished(reason, usage, timings)
    raise request_error(reply)
