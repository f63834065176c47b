"""Runs a needle test with an engine: predicts what it takes, asks about one cell after another, persists each answer.

Sampling is greedy and without a penalty for repetition, as a number is repeated. An answer counts as a whole, reasoning
included. What is shown meanwhile is decided elsewhere.
"""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import pairwise

from msgspec import structs

from qwenchat.chat.events import Delta, Finished, Prefilling
from qwenchat.chat.message import Timings, Usage
from qwenchat.chat.ports import Engine, ModelInfo, Request
from qwenchat.chat.prompt import Turn
from qwenchat.chat.sampling import Sampling
from qwenchat.documents.needle.haystack import Haystack
from qwenchat.documents.needle.plan import Cell
from qwenchat.documents.needle.prompts import PromptMaker
from qwenchat.documents.needle.results import CellResult, NeedleReport, ResultsFile
from qwenchat.documents.needle.speed import CellSpeed

_GREEDY = Sampling(temperature=0.0, repeat_penalty=1.0)
_PROBE_TOKENS = (256, 2048)
"""The prompts that are read to measure the speed."""
_PROBE_S = 10.0
"""Seconds after which no more of a prompt is read for that."""
_PROBE_ANSWER = 8
"""Tokens: about as many as a number takes."""


@dataclass(frozen=True, slots=True)
class CellProgress:
    """The prompt of a cell is being made, and then read."""

    cell: Cell
    done: int = 0
    total: int = 0
    """Tokens that the KV cache lacked; 0 while the prompt is made."""


@dataclass(frozen=True, slots=True)
class CellTested:
    """The answer of a cell is there, and stored."""

    result: CellResult
    left_s: float
    """How long the rest will take."""


def answer_tokens(model: ModelInfo, needles: int) -> int:
    """Return how many tokens of each length are for the answer; a model that reasons needs more."""
    return 40 + 24 * needles + 512 * model.opens_reasoning


class NeedleRun:
    """One run of a test, which may continue an earlier one."""

    def __init__(self, engine: Engine, report: NeedleReport, haystack: Haystack, file: ResultsFile) -> None:
        """`report` has the results of earlier runs."""
        self._engine, self._file = engine, file
        self.report = report
        self._answer_tokens = answer_tokens(report.model, report.plan.needles)
        self._prompts = PromptMaker(engine, report.plan, haystack, answer_tokens=self._answer_tokens)
        self._speed = CellSpeed()

    @property
    def cells(self) -> list[Cell]:
        """The cells that are left, in order."""
        return [cell for cell in self.report.plan.cells if cell not in self.report.results]

    async def predict(self) -> float:
        """Measure the speed with a short prompt, and return the seconds that the rest will take.

        Raises WrongUse for a length that is too short, and what the engine raises.
        """
        if not self.cells:
            return 0.0
        started = time.perf_counter()
        await self._prompts.make(self.cells[0])
        made_s = time.perf_counter() - started
        longest = self.cells[-1].length - self._answer_tokens
        for tokens in _PROBE_TOKENS:
            if answer_s := await self._probe(await self._prompts.beginning(min(tokens, longest))):
                self._speed.note_answer(made_s + answer_s)
        predicted = self._speed.seconds(self.cells)
        self.report = replace(self.report, predicted_s=predicted)
        return predicted

    async def _probe(self, turn: Turn) -> float:
        """Measure how fast a prompt is read, for a few seconds at most; return those of a short answer to it.

        They are 0 where the prompt was not read whole.
        """
        sampling = structs.replace(_GREEDY, max_tokens=_PROBE_ANSWER).over(self.report.model.defaults)
        started, steps, answer_s = time.perf_counter(), [(0, 0.0)], 0.0
        generation = self._engine.generate(Request(turns=(turn,), sampling=sampling))
        async with aclosing(generation) as events:
            async for event in events:
                if isinstance(event, Prefilling) and event.tokens_per_second:
                    steps.append((event.done, event.done / event.tokens_per_second))
                    if time.perf_counter() - started > _PROBE_S:
                        await generation.cancel()
                elif isinstance(event, Finished):
                    cached, timings = event.usage.cached_tokens, event.timings
                    if len(steps) == 1:
                        steps.append((event.usage.prompt_tokens - cached, timings.prefill_s))
                    for (before, before_s), (done, done_s) in pairwise(steps):
                        self._speed.note_reading(cached + before, cached + done, done_s - before_s)
                    answer_s = timings.decode_s
        return answer_s

    async def run(self) -> AsyncGenerator[CellProgress | CellTested, None]:
        """Test the cells that are left, reporting progress. Raises what the engine raises, and FileError."""
        started = time.perf_counter()
        for cell in self.cells:
            async for event in self._test(cell):
                if isinstance(event, CellResult):
                    self._file.append(event)
                    results = self.report.results | {cell: event}
                    took = time.perf_counter() - started
                    self.report = replace(self.report, results=results, took_s=took)
                    yield CellTested(event, self._speed.seconds(self.cells, after=cell))
                else:
                    yield event

    async def _test(self, cell: Cell) -> AsyncGenerator[CellProgress | CellResult, None]:
        started = time.perf_counter()
        yield CellProgress(cell)
        prompt = await self._prompts.make(cell)
        sampling = structs.replace(_GREEDY, max_tokens=self._answer_tokens).over(self.report.model.defaults)
        answer: list[str] = []
        usage, timings = Usage(), Timings()
        async with aclosing(self._engine.generate(Request(turns=prompt.turns, sampling=sampling))) as events:
            async for event in events:
                match event:
                    case Prefilling(done=done, total=total):
                        yield CellProgress(cell, done, total)
                    case Delta(text=text):
                        answer.append(text)
                    case Finished(usage=usage, timings=timings):
                        pass
        took = time.perf_counter() - started
        self._speed.note_reading(usage.cached_tokens, usage.prompt_tokens, timings.prefill_s)
        self._speed.note_answer(max(0.0, took - timings.prefill_s))
        text = "".join(answer)
        yield CellResult(
            length=cell.length,
            depth=cell.depth,
            prompt_tokens=prompt.tokens,
            exact=prompt.exact,
            needles=tuple(needle.sentence for needle in prompt.needles),
            places=prompt.places,
            question=prompt.question,
            expected=tuple(needle.number for needle in prompt.needles),
            found=tuple(needle.is_in(text) for needle in prompt.needles),
            answer=text,
            cached_tokens=usage.cached_tokens,
            prefill_s=round(timings.prefill_s, 4),
            decode_s=round(timings.decode_s, 4),
            took_s=round(took, 4),
        )
