"""Measures how fast a loaded model is: llama-bench's runs, and the time to a first token, in a resumed session too.

How the figures are shown is up to `cli.bench`.
"""

import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from qwenchat.chat.ports import Mode, Request
from qwenchat.chat.prompt import Turn
from qwenchat.chat.sampling import Sampling
from qwenchat.engines.local.engine import LocalEngine
from qwenchat.engines.local.failures import request_error
from qwenchat.engines.local.protocol import Hello, LoadPlan, Ready, RunTimed, TimeRun

_ONE_TOKEN = Sampling(temperature=0.0, max_tokens=1)


@dataclass(frozen=True, slots=True)
class BenchRun:
    """What is timed: the prefill of a prompt, or generated tokens, behind `depth` tokens."""

    prompt: int = 0
    generate: int = 0
    depth: int = 0

    @property
    def name(self) -> str:
        """Its name as llama-bench writes it, such as `pp512 @ d4096`."""
        what = f"pp{self.prompt}" if self.prompt else f"tg{self.generate}"
        return f"{what} @ d{self.depth}" if self.depth else what


@dataclass(frozen=True, slots=True)
class BenchResult:
    """The times of one run's repetitions."""

    run: BenchRun
    nanoseconds: tuple[int, ...]

    @property
    def speeds(self) -> list[float]:
        """Tokens a second of each repetition."""
        tokens = self.run.prompt + self.run.generate
        return [1e9 * tokens / spent for spent in self.nanoseconds]

    @property
    def mean(self) -> float:
        """Their mean."""
        return statistics.fmean(self.speeds)


@dataclass(frozen=True, slots=True)
class BenchedModel:
    """What was loaded, and how."""

    plan: LoadPlan
    hello: Hello
    ready: Ready

    @property
    def backend(self) -> str:
        """What computes, in llama-bench's words: `CPU`, or the accelerators' kinds."""
        kinds = dict.fromkeys(device.name.rstrip("0123456789") for device in self.hello.devices)
        return ",".join(kinds) or "CPU"


class BenchEngine(LocalEngine):
    """An engine that can also time bare runs. Give it a SavedKV of its own: what it saves belongs to no session."""

    async def benched_model(self) -> BenchedModel:
        """Load the model if need be and return what is known of it. Raises CannotLoad."""
        loaded = await self._ready()
        return BenchedModel(loaded.planned.plan, loaded.hello, loaded.ready)

    async def measure(self, run: BenchRun, repetitions: int) -> BenchResult:
        """Carry out a run some times, after one that does not count, as llama-bench does. Raises EngineDied."""
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
        """Carry out a run once and return the nanoseconds that it took."""
        async with self._turn:
            loaded = await self._ready()
            await loaded.slot.take_over("")
            number = loaded.worker.number()
            reply = await loaded.worker.ask_once(TimeRun(number, run.depth, run.prompt, run.generate))
        if isinstance(reply, RunTimed):
            return reply.nanoseconds
        raise request_error(reply, loaded.worker.recoveries)


def runs(prompts: Sequence[int], generates: Sequence[int], depths: Sequence[int]) -> list[BenchRun]:
    """Return the runs in llama-bench's order: at each depth prompts first; zero lengths are left out."""
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
    """Return random tokens, which no two seeds share: none of them is in a KV cache already."""
    return random.Random(seed).choices(range(vocabulary), k=count)  # noqa: S311


def deviation(values: Sequence[float]) -> float:
    """Return the sample standard deviation; 0 of a single value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0
