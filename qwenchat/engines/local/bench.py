"""Measures how fast a loaded model is: the runs of llama-bench, and the time to the first token.

`cli.bench` decides what to measure and shows the figures.
"""

import random
import statistics
import time
from collections.abc import Sequence

from msgspec import Struct

from qwenchat.chat.ports import Mode, Request
from qwenchat.chat.prompt import Turn
from qwenchat.chat.sampling import Sampling
from qwenchat.engines.local.engine import LocalEngine
from qwenchat.engines.local.failures import request_error
from qwenchat.engines.local.protocol import Hello, LoadPlan, Ready, RunTimed, TimeRun

_ONE_TOKEN = Sampling(temperature=1.0, top_k=1, max_tokens=1)


class BenchRun(Struct, frozen=True):
    """A run to time: the prefill of `prompt` tokens, or the decoding of `generate` tokens, after `depth` tokens."""

    prompt: int = 0
    generate: int = 0
    depth: int = 0

    @property
    def name(self) -> str:
        """The name that llama-bench gives it, such as `pp512 @ d4096`."""
        test = f"pp{self.prompt}" if self.prompt else f"tg{self.generate}"
        return f"{test} @ d{self.depth}" if self.depth else test


class BenchResult(Struct, frozen=True):
    """The times of one run's repetitions."""

    run: BenchRun
    nanoseconds: tuple[int, ...]

    @property
    def speeds(self) -> list[float]:
        """The tokens per second of each repetition."""
        tokens = self.run.prompt + self.run.generate
        return [1e9 * tokens / spent for spent in self.nanoseconds]

    @property
    def mean(self) -> float:
        """The mean of `speeds`."""
        return statistics.fmean(self.speeds)


class BenchedModel(Struct, frozen=True):
    """The loaded model, with its load plan and the worker's Hello."""

    plan: LoadPlan
    hello: Hello
    ready: Ready

    @property
    def backend(self) -> str:
        """The backend as llama-bench names it: `CPU`, or the kinds of the accelerators."""
        kinds = dict.fromkeys(device.name.rstrip("0123456789") for device in self.hello.devices)
        return ",".join(kinds) or "CPU"


class BenchEngine(LocalEngine):
    """An engine that can also time bare runs. It needs its own SavedKV: its caches belong to no session."""

    async def benched_model(self) -> BenchedModel:
        """Load the model if necessary and return its facts. Raises CannotLoad."""
        loaded = await self._ready()
        return BenchedModel(loaded.planned.plan, loaded.hello, loaded.ready)

    async def measure(self, run: BenchRun, repetitions: int) -> BenchResult:
        """Time a run `repetitions` times after a warm-up run, as llama-bench does. Raises EngineDied."""
        await self._time(BenchRun(run.prompt, min(1, run.generate), run.depth))
        return BenchResult(run, tuple([await self._time(run) for _repetition in range(repetitions)]))

    async def first_token(self, tokens: Sequence[int], cache_key: str = "") -> float:
        """Return the seconds from the request to the first token that follows these tokens."""
        started = time.perf_counter()
        turn = Turn("user", "", tuple(tokens))
        request = Request(turns=(turn,), sampling=_ONE_TOKEN, mode=Mode.COMPLETE, cache_key=cache_key)
        async for _event in self.generate(request):
            pass
        return time.perf_counter() - started

    async def _time(self, run: BenchRun) -> int:
        """Return the nanoseconds that one run takes."""
        async with self._room:
            loaded = await self._ready()
            await loaded.slot.prepare("", [])
            number = loaded.worker.number()
            reply = await loaded.worker.ask_once(TimeRun(number, run.depth, run.prompt, run.generate))
        if isinstance(reply, RunTimed):
            return reply.nanoseconds
        raise request_error(reply, loaded.worker.recoveries)


def runs(prompts: Sequence[int], generates: Sequence[int], depths: Sequence[int]) -> list[BenchRun]:
    """Return the runs in llama-bench's order: for each depth, prompts first. Zero lengths are skipped."""
    return [
        run
        for depth in depths
        for run in (
            *(BenchRun(prompt=n, depth=depth) for n in prompts),
            *(BenchRun(generate=n, depth=depth) for n in generates),
        )
        if run.prompt or run.generate
    ]


def random_tokens(vocabulary: int, count: int, seed: int) -> list[int]:
    """Return random tokens, different ones for each seed, so that the KV cache does not contain them yet."""
    return random.Random(seed).choices(range(vocabulary), k=count)  # noqa: S311


def deviation(values: Sequence[float]) -> float:
    """Return the sample standard deviation; 0 of a single value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0
