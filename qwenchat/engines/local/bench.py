"""How fast a loaded model is: llama-bench's runs, the wait for a first token, and the same after a resume.

An engine like any other, which can also time bare runs. What the figures look like on a screen is not decided here.
"""

import random
import statistics
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

from qwenchat.chat.prompt import Turn
from qwenchat.chat.sampling import Sampling
from qwenchat.engines.local.engine import LocalEngine
from qwenchat.engines.local.failures import request_error
from qwenchat.engines.local.protocol import Hello, LoadPlan, Measure, Measured, Ready

_ONE_TOKEN = Sampling(temperature=0.0, max_tokens=1)


@dataclass(frozen=True, slots=True)
class Run:
    """What is timed: a prompt read, or tokens generated, behind `depth` tokens."""

    prompt: int = 0
    generate: int = 0
    depth: int = 0

    @property
    def name(self) -> str:
        """Its name as llama-bench writes it, such as `pp512 @ d4096`."""
        what = f"pp{self.prompt}" if self.prompt else f"tg{self.generate}"
        return f"{what} @ d{self.depth}" if self.depth else what


@dataclass(frozen=True, slots=True)
class Result:
    """The times of one run's repetitions."""

    run: Run
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
class Facts:
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
    """An engine that can be timed. Its sessions are measured ones: give it a SavedKV of their own."""

    async def facts(self) -> Facts:
        """Load the model if need be and return what is known of it. Raises CannotLoad."""
        loaded = await self._ready()
        return Facts(loaded.planned.load, loaded.hello, loaded.ready)

    async def measure(self, run: Run, repetitions: int) -> Result:
        """Carry out a run some times, after one that does not count, as llama-bench does. Raises EngineDied."""
        await self._once(Run(run.prompt, min(1, run.generate), run.depth))
        return Result(run, tuple([await self._once(run) for _repetition in range(repetitions)]))

    async def first_token(self, tokens: Sequence[int], session: str = "") -> float:
        """Return the seconds from asking until the first token of an answer to these tokens is there."""
        started = time.perf_counter()
        turn = Turn("user", "", tuple(tokens))
        async with aclosing(self.generate([turn], _ONE_TOKEN, session=session)) as events:
            async for _event in events:
                pass
        return time.perf_counter() - started

    async def _once(self, run: Run) -> int:
        async with self._turn:
            loaded = await self._ready()
            await loaded.resident.take_over("")
            number = self._running = loaded.worker.number()
            try:
                reply = await loaded.worker.ask_once(Measure(number, run.depth, run.prompt, run.generate))
            finally:
                self._running = 0
        if isinstance(reply, Measured):
            return reply.nanoseconds
        raise request_error(reply)


def runs(prompts: Sequence[int], generates: Sequence[int], depths: Sequence[int]) -> list[Run]:
    """Return the runs in llama-bench's order: at each depth prompts first; zero lengths are left out."""
    return [
        run
        for depth in depths
        for run in (*(Run(prompt=n, depth=depth) for n in prompts), *(Run(generate=n, depth=depth) for n in generates))
        if run.prompt or run.generate
    ]


def random_tokens(vocabulary: int, count: int, seed: int) -> list[int]:
    """Return tokens that no other seed's share, so that nothing of them is in a cache."""
    return random.Random(seed).choices(range(vocabulary), k=count)  # noqa: S311


def deviation(values: Sequence[float]) -> float:
    """Return the sample standard deviation; 0 of a single value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0
