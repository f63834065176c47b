"""`/v1/completions`: what follows a prompt that the client made as a whole, and how likely the prompt itself is.

Here, and only here, special tokens in a text and token ids are what the client says. Harnesses such as lm-eval score
texts this way: they send the tokens, let them be echoed, and read their chances. Nothing but the temperature of 1 that
OpenAI has is the default for sampling: a measurement is no chat.
"""

import asyncio
import secrets
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from msgspec.structs import replace

from qwenchat.chat.events import Delta, Finished, PromptScored, TokenChance
from qwenchat.chat.message import Usage
from qwenchat.chat.ports import Mode, Request
from qwenchat.chat.prompt import Turn
from qwenchat.chat.sampling import Sampling
from qwenchat.engines.local.engine import LocalEngine
from qwenchat.runtime.served_models import Grant
from qwenchat.runtime.served_names import ServedNames, name_of
from qwenchat.server.answers import AnswerEvent, Answers, Silence
from qwenchat.server.api_errors import unsupported
from qwenchat.server.chat import REASONS, usage_object
from qwenchat.server.endpoint import KEEP_ALIVE, EventStream, Reply, as_json, event
from qwenchat.server.requests import CompletionRequest

_MOST_TOKENS = 16
"""OpenAI's default."""
_NEUTRAL = Sampling(temperature=1.0, top_p=1.0, top_k=0, min_p=0.0, repeat_penalty=1.0)

Prompt = str | tuple[int, ...]


class Completions:
    """Continues prompts."""

    def __init__(self, answers: Answers, names: ServedNames) -> None:
        self._answers, self._names = answers, names

    async def handle(self, request: CompletionRequest) -> Reply | EventStream:
        """Continue the prompts of a request. Raises ApiError, and what `Answers.generate` raises."""
        prompts = request.prompts
        reference = await asyncio.to_thread(self._names.resolve, request.model or "")
        tokens = _MOST_TOKENS if request.max_tokens is None else request.max_tokens
        sampling = request.sampling(max_tokens=None).over(_NEUTRAL)
        if tokens >= 0:
            sampling = replace(sampling, max_tokens=tokens)
        choices = [_Completion(place, prompt, request, sampling) for place, prompt in enumerate(prompts)]
        head: dict[str, object] = {
            "id": f"cmpl-{secrets.token_hex(12)}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": name_of(reference),
        }
        if request.stream:
            return self._stream(request, head, choices, reference)
        waiting = iter(choices)

        async def work() -> None:
            for choice in waiting:
                async with aclosing(self._answers.generate(reference, choice.prepare)) as events:
                    async for each in events:
                        choice.add(each)

        try:
            async with asyncio.TaskGroup() as tasks:
                for _choice in range(min(len(choices), self._answers.served.parallel)):
                    tasks.create_task(work())
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        usage = _sum([choice.usage for choice in choices])
        return as_json({**head, "choices": [choice.whole for choice in choices], "usage": usage_object(usage)})

    async def _stream(
        self, request: CompletionRequest, head: dict[str, object], choices: "list[_Completion]", reference: str
    ) -> EventStream:
        for choice in choices:
            async with aclosing(self._answers.generate(reference, choice.prepare)) as events:
                async for each in events:
                    if isinstance(each, Silence):
                        yield KEEP_ALIVE
                    if chunk := choice.add(each):
                        yield event({**head, "choices": [chunk]})
        if request.includes_usage:
            usage = usage_object(_sum([choice.usage for choice in choices]))
            yield event({**head, "choices": [], "usage": usage})


@dataclass(slots=True)
class _Logprobs:
    """The chances of tokens in the form of OpenAI's completions."""

    top: int
    tokens: list[str] = field(default_factory=list)
    token_logprobs: list[float | None] = field(default_factory=list)
    top_logprobs: list[dict[str, float] | None] = field(default_factory=list)
    text_offset: list[int] = field(default_factory=list)
    first: str = ""
    """The text of the prompt's first token, which has no chances."""
    end: int = 0
    """Where the text ends that the tokens stand for."""

    def add(self, token: int, chances: Sequence[TokenChance]) -> None:
        """Add a token with its chances, if they are known."""
        own = next((each for each in chances if each.token_id == token), None)
        likeliest = {each.text: each.logprob for each in reversed(chances[: self.top])}
        self.tokens.append(own.text if own else "" if self.end else self.first)
        self.token_logprobs.append(own.logprob if own else None)
        self.top_logprobs.append({**likeliest, own.text: likeliest.get(own.text, own.logprob)} if own else None)
        self.text_offset.append(self.end)
        self.end += len(self.tokens[-1])

    def taken(self) -> dict[str, object]:
        """Return the chances that were added since the last call, and forget them."""
        names = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
        found: dict[str, object] = {name: getattr(self, name) for name in names}
        self.tokens, self.token_logprobs, self.top_logprobs, self.text_offset = [], [], [], []
        return found


class _Completion:
    """What follows one prompt, as it comes."""

    def __init__(self, place: int, prompt: Prompt, request: CompletionRequest, sampling: Sampling) -> None:
        self._place, self._prompt, self._request, self._sampling = place, prompt, request, sampling
        self._logprobs = None if request.top is None else _Logprobs(request.top)
        self._text, self._echoed = "", ""
        self._finished: Finished | None = None

    async def prepare(self, granted: Grant) -> Request:
        """Return what the engine is asked. Raises ApiError for what it can't do."""
        engine, request = granted.engine, self._request
        is_raw = engine.capabilities.raw_prompts
        if not isinstance(self._prompt, str) and not is_raw:
            raise unsupported("prompt", "The engine of this model takes no token ids.")
        is_scored = bool(request.echo and self._logprobs)
        if self._logprobs and not (engine.capabilities.logprobs and (is_raw or not is_scored)):
            raise unsupported("logprobs", "The engine of this model does not report these chances.")
        turn = Turn("user", self._prompt) if isinstance(self._prompt, str) else Turn("user", "", self._prompt)
        if request.echo:
            self._echoed = self._text = turn.text
            if turn.token_ids and isinstance(engine, LocalEngine):
                self._echoed = self._text = await engine.text(turn.token_ids)
        mode = Mode.RAW if is_raw else Mode.COMPLETE
        if self._logprobs and is_scored and isinstance(engine, LocalEngine):
            self._logprobs.first = await engine.text((await engine.tokens((turn,), mode))[:1])
        return Request(
            turns=(turn,),
            sampling=self._sampling,
            mode=mode,
            chances=max(1, self._logprobs.top) if self._logprobs else 0,
            scored_turns=int(is_scored),
        )

    def add(self, each: AnswerEvent) -> dict[str, object] | None:
        """Take an event; return the choice of a stream's chunk that it makes."""
        if isinstance(each, Grant | Silence):
            return None
        if isinstance(each, Finished):
            self._finished = each
        elif isinstance(each, PromptScored | Delta) and self._logprobs:
            self._add_chances(self._logprobs, each)
        text = each.text if isinstance(each, Delta) else ""
        self._text += text
        if not self._request.stream:
            return None
        echoed, self._echoed = self._echoed, ""
        return self._choice(echoed + text)

    @property
    def whole(self) -> dict[str, object]:
        """The choice of a response that is not streamed."""
        return self._choice(self._text)

    @property
    def usage(self) -> Usage:
        """What it took."""
        return self._finished.usage if self._finished else Usage()

    def _choice(self, text: str) -> dict[str, object]:
        return {
            "index": self._place,
            "text": text,
            "logprobs": self._logprobs.taken() if self._logprobs else None,
            "finish_reason": REASONS[self._finished.reason] if self._finished else None,
        }

    def _add_chances(self, logprobs: _Logprobs, each: PromptScored | Delta) -> None:
        for place, token in enumerate(each.token_ids):
            logprobs.add(token, each.chances[place] if place < len(each.chances) else ())


def _sum(usages: Sequence[Usage]) -> Usage:
    return Usage(
        sum(each.prompt_tokens for each in usages),
        sum(each.cached_tokens for each in usages),
        sum(each.completion_tokens for each in usages),
    )
