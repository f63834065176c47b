"""An engine that recites: for the tests of everything that is not the engine. It runs no model.

Each request takes the next of its answers, word by word; a word of `die` ends it as a dead process would.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field

from qwenchat.chat.events import Delta, EngineEvent, Finished, Loading, Prefilling
from qwenchat.chat.message import FinishReason, Timings, Usage
from qwenchat.chat.ports import ModelInfo
from qwenchat.chat.prompt import Turn
from qwenchat.chat.sampling import Sampling, qwen2_defaults
from qwenchat.errors import EngineDied


@dataclass
class ScriptedEngine:
    """Implements `ports.Engine` with texts written beforehand; a character counts as one token."""

    answers: Sequence[str] = ("Hello.",)
    delay_s: float = 0.0
    """Between two words."""
    die: str = ""
    """The word at which the process dies."""
    n_ctx: int = 4096
    file: str = "0" * 32
    requests: list[tuple[list[Turn], Sampling]] = field(default_factory=list)
    """What was asked, for a test to look at."""

    def __post_init__(self) -> None:
        self._cancelled = asyncio.Event()

    async def ready(self, loading: Callable[[Loading], object] | None = None) -> ModelInfo:
        return ModelInfo("scripted", self.file, self.n_ctx, qwen2_defaults(24, 896), 0.0)

    async def count(self, turns: Sequence[Turn]) -> list[int]:
        return [len(turn.text) + 4 for turn in turns]

    async def generate(
        self, turns: Sequence[Turn], sampling: Sampling, *, session: str = "", resume: bool = False
    ) -> AsyncGenerator[EngineEvent, None]:
        text = self.answers[len(self.requests) % len(self.answers)]
        self.requests.append((list(turns), sampling))
        self._cancelled.clear()
        prompt = sum(await self.count(turns))
        yield Prefilling(prompt, prompt, 1000.0, 0.0)
        reason, said = FinishReason.STOP, 0
        for word in text.replace(" ", " \0").split("\0"):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            if self._cancelled.is_set():
                reason = FinishReason.CANCELLED
                break
            if self.die and word.strip() == self.die:
                raise EngineDied("The engine process ended.", "Ask again to start a new one.")
            if sampling.max_tokens is not None and said + len(word) > sampling.max_tokens:
                reason = FinishReason.LENGTH
                break
            said += len(word)
            yield Delta(word, tuple(map(ord, word)))
        yield Finished(reason, Usage(prompt, 0, said), Timings())

    async def cancel(self) -> None:
        self._cancelled.set()

    async def close(self) -> None:
        self._cancelled.set()
