"""An engine that recites: for the tests of everything that is not the engine. It runs no model.

Each request takes the next of its answers, word by word; a word of `die` ends it as a dead process would, and a word
such as `call:clock:{}` calls a tool.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field

from qwenchat.chat.events import Called, Delta, EngineEvent, Finished, LoadEvent, Prefilling
from qwenchat.chat.message import FinishReason, Timings, ToolCall, Usage
from qwenchat.chat.ports import Capabilities, Mode, ModelInfo, Request, TokenCounts
from qwenchat.chat.prompt import Turn
from qwenchat.chat.sampling import Sampling, qwen2_defaults
from qwenchat.errors import EngineDied, Recovery, RecoveryKind, WrongUse

DEFAULT_SYSTEM = "You are a helpful assistant."
"""What its chat template would write where no system prompt is given."""
START_AGAIN = (Recovery(RecoveryKind.START_AGAIN),)
ALL_OF_LOCAL = Capabilities(
    continue_answer=True,
    json_schema=True,
    token_ids=True,
    saved_kv=True,
    prefill_progress=True,
    exact_counts=True,
    tools=True,
)
"""What the local engine can do."""


class SimpleGeneration:
    """Implements `ports.Generation` with an asynchronous generator that looks at an event to know it is cancelled."""

    def __init__(self, events: AsyncGenerator[EngineEvent, None], cancelled: asyncio.Event) -> None:
        self._events, self._cancelled = events, cancelled

    def __aiter__(self) -> "SimpleGeneration":
        return self

    async def __anext__(self) -> EngineEvent:
        return await anext(self._events)

    async def cancel(self) -> None:
        self._cancelled.set()

    async def aclose(self) -> None:
        self._cancelled.set()
        await self._events.aclose()


@dataclass
class ScriptedEngine:
    """Implements `ports.Engine` with texts written beforehand; a character counts as one token.

    A test that wants other events overrides `events`.
    """

    answers: Sequence[str] = ("Hello.",)
    delay_s: float = 0.0
    """Between two words."""
    die: str = ""
    """The word at which the process dies."""
    reference: str = "guide"
    n_ctx: int = 4096
    file: str = "0" * 32
    opens_reasoning: bool = False
    reads_history: bool = True
    yarn_factor: float = 1.0
    refused_schema: str = '{"not": {}}'
    capabilities: Capabilities = field(default_factory=lambda: ALL_OF_LOCAL)
    requests: list[Request] = field(default_factory=list)
    """What was asked, for a test to look at."""

    def __post_init__(self) -> None:
        self._cancelled = asyncio.Event()
        """Of the newest generation."""

    @property
    def is_cancelled(self) -> bool:
        """Whether the newest generation was cancelled, or left early."""
        return self._cancelled.is_set()

    async def start(self) -> None:
        pass

    async def load(self, progress: Callable[[LoadEvent], object] | None = None) -> ModelInfo:
        return ModelInfo(
            reference=self.reference,
            name="Scripted",
            file=self.file,
            n_ctx=self.n_ctx,
            defaults=qwen2_defaults(24, 896),
            load_s=0.0,
            opens_reasoning=self.opens_reasoning,
            reads_history=self.reads_history,
            yarn_factor=self.yarn_factor,
        )

    async def count(self, turns: Sequence[Turn], mode: Mode = Mode.ANSWER) -> TokenCounts:
        default = 0 if turns and turns[0].role == "system" else len(DEFAULT_SYSTEM) + 4
        return TokenCounts(values=tuple(len(turn.text) + 4 for turn in turns), around=default)

    async def check(self, sampling: Sampling) -> None:
        if sampling.schema == self.refused_schema:
            raise WrongUse("The JSON Schema can't be used.", "Change it.")

    def generate(self, request: Request) -> SimpleGeneration:
        text = self.answers[len(self.requests) % len(self.answers)]
        self.requests.append(request)
        self._cancelled = asyncio.Event()
        return SimpleGeneration(self.events(request, text, self._cancelled), self._cancelled)

    async def events(self, request: Request, text: str, cancelled: asyncio.Event) -> AsyncGenerator[EngineEvent, None]:
        """Recite `text` until `cancelled` is set."""
        prompt = (await self.count(request.turns)).total
        yield Prefilling(prompt, prompt, 1000.0, 0.0)
        reason, recited = FinishReason.STOP, 0
        limit = request.sampling.max_tokens
        for word in text.replace(" ", " \0").split("\0"):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            if cancelled.is_set():
                reason = FinishReason.CANCELLED
                break
            if self.die and word.strip() == self.die:
                raise EngineDied("The engine process ended.", "Ask again to start a new one.", recoveries=START_AGAIN)
            if limit is not None and recited + len(word) > limit:
                reason = FinishReason.LENGTH
                break
            recited += len(word)
            if word.startswith("call:"):
                _call, name, arguments = word.strip().split(":", 2)
                reason = FinishReason.TOOL_CALLS
                call_id = f"call{len(self.requests)}x{recited}"
                yield Called(ToolCall(call_id, name, arguments, tuple(map(ord, word))))
                continue
            yield Delta(word, tuple(map(ord, word)))
        yield Finished(reason, Usage(prompt, 0, recited), Timings())

    async def close(self, *, at_once: bool = False) -> None:
        self._cancelled.set()
