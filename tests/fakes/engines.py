"""Real engines for tests: llama.cpp in its worker, on models that the tests made."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from qwenchat.chat.events import Delta, EngineEvent, Finished, Prefilling
from qwenchat.chat.message import Timings, Usage
from qwenchat.chat.ports import Engine, Generation, Mode, Request
from qwenchat.chat.prompt import Turn
from qwenchat.chat.sampling import UNSET, Sampling
from qwenchat.engines.local.engine import LocalEngine
from qwenchat.engines.local.loaded_model import PlannedModel
from qwenchat.engines.local.protocol import LoadPlan
from qwenchat.engines.local.saved_kv import SavedKV
from qwenchat.engines.remote.engine import RemoteEngine
from qwenchat.engines.remote.http import RemoteHttp
from qwenchat.engines.remote.server import RemoteServer
from tests.fakes.commands import environment

GREEDY = Sampling(temperature=0.0)
LIKELIEST = Sampling(temperature=1.0, top_k=1)
"""The same tokens as GREEDY but for rounding: no repetition is promised, so the whole KV cache is reused."""
SYSTEM = Turn("system", "You are helpful")


def questions(*texts: str) -> list[Turn]:
    """Return a system prompt and one question."""
    return [SYSTEM, *(Turn("user", text) for text in texts)]


def planned(path: Path, **plan: Any) -> PlannedModel:
    """Return how to load a model; `plan` changes it."""
    plan.setdefault("flash_attention", plan.get("kv_type", "f16") != "f16")
    load = LoadPlan(**{"path": os.fsencode(path), "identity": path.name, "n_ctx": 4096, "threads": 1, **plan})
    defaults = Sampling(temperature=0.7, top_k=20, top_p=0.8, repeat_penalty=1.0)
    return PlannedModel(plan=load, reference=str(path), name=path.name, defaults=defaults)


def request(
    turns: Sequence[Turn],
    sampling: Sampling = GREEDY,
    *,
    mode: Mode = Mode.ANSWER,
    cache_key: str = "",
    chances: int = 0,
) -> Request:
    """Return what an engine is asked."""
    return Request(turns=tuple(turns), sampling=sampling, mode=mode, cache_key=cache_key, chances=chances)


@asynccontextmanager
async def engine(
    path: Path, folder: Path, *, kv_limit: int = 1 << 30, saved: SavedKV | None = None, **plan: Any
) -> AsyncIterator[LocalEngine]:
    """Run an engine; its log lies in `folder`, and its saved KV, too, if that is not given.

    `plan` changes how the model is loaded.
    """
    made = LocalEngine(
        lambda devices: planned(path, **plan),
        folder / "engine.log",
        saved or SavedKV(folder / "kv", kv_limit),
        parallel=plan.get("parallel", 1),
    )
    try:
        yield made
    finally:
        await made.close()


@dataclass
class Answer:
    """A whole answer."""

    text: str
    ids: tuple[int, ...]
    finished: Finished
    deltas: list[Delta]
    prefill: list[Prefilling]

    @property
    def usage(self) -> Usage:
        return self.finished.usage

    @property
    def timings(self) -> Timings:
        return self.finished.timings


@asynccontextmanager
async def remote_engine(
    url: str, model: str, *, n_ctx: int = 0, defaults: Sampling = UNSET, **server: Any
) -> AsyncIterator[RemoteEngine]:
    """Run an engine that asks a server; `server` changes what is set for it."""
    http = RemoteHttp(RemoteServer(name="lab", url=url, **server))
    made = RemoteEngine(http, model, defaults=defaults, n_ctx=n_ctx)
    try:
        yield made
    finally:
        await made.close()


async def answer(
    engine: Engine,
    turns: Sequence[Turn],
    sampling: Sampling = GREEDY,
    *,
    mode: Mode = Mode.ANSWER,
    cache_key: str = "",
) -> Answer:
    """Ask and wait for the end."""
    return await read(engine.generate(request(turns, sampling, mode=mode, cache_key=cache_key)))


async def read(generation: Generation) -> Answer:
    """Read a generation to its end."""
    events: list[EngineEvent] = [event async for event in generation]
    deltas = [event for event in events if isinstance(event, Delta)]
    finished = events[-1]
    assert isinstance(finished, Finished)
    return Answer(
        "".join(delta.text for delta in deltas),
        tuple(token for delta in deltas for token in delta.token_ids),
        finished,
        deltas,
        [event for event in events if isinstance(event, Prefilling)],
    )


_PARENT = """
import asyncio, sys
from pathlib import Path
from qwenchat.chat.events import Prefilling
from tests.fakes.engines import engine, questions, request

async def main():
    async with engine(Path(sys.argv[1]), Path(sys.argv[2]), n_ctx=32768) as made:
        async for event in made.generate(request(questions(sys.argv[3]))):
            if isinstance(event, Prefilling) and event.done:
                print(made.worker_pid, flush=True)

asyncio.run(main())
"""


def prefilling(path: Path, folder: Path, text: str) -> "tuple[subprocess.Popen[str], psutil.Process]":
    """Start a process whose engine is in the middle of a prefill; return it and the engine's worker."""
    words = [sys.executable, "-c", _PARENT, str(path), str(folder), text]
    parent = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment())
    assert parent.stdout
    return parent, psutil.Process(int(parent.stdout.readline()))
