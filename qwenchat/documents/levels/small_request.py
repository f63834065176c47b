"""Asks a model something small on the way to an answer: a few tokens, the likeliest ones, that no user reads; or how
likely a text is as its answer.

Nothing of it is saved: the requests have no cache key. They share long prefixes, and all of the KV cache of a prefix is
to be reused: so they are not repeatable (`Sampling.is_repeatable`), which would allow whole steps of it alone.
"""

from contextlib import aclosing
from dataclasses import dataclass

from msgspec.structs import replace

from qwenchat.chat.events import Delta, Finished, PromptScored
from qwenchat.chat.message import Timings, Usage
from qwenchat.chat.ports import Engine, Mode, ModelInfo, Request
from qwenchat.chat.prompt import Turn
from qwenchat.chat.sampling import Sampling

_LIKELIEST = Sampling(temperature=0.01, top_p=1.0, top_k=1, min_p=0.0, repeat_penalty=1.0)
_NO_REASONING = "<think>\n\n</think>\n\n"
"""What a model reads that would reason for a thousand tokens before a word of its answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallReply:
    """What a model said to a small request."""

    text: str
    usage: Usage
    timings: Timings


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallRequests:
    """An engine for small requests."""

    engine: Engine
    info: ModelInfo

    @property
    def can_score(self) -> bool:
        """Whether `likelihood` can be asked for."""
        return self.engine.capabilities.raw_prompts and self.engine.capabilities.continue_answer

    async def ask(self, system: str, words: str, *, max_tokens: int, schema: str | None = None) -> SmallReply:
        """Ask and wait for the end; cancelling the call stops the engine.

        Where the engine can't enforce a `schema`, the answer is free. Raises as `Generation` does.
        """
        capable = self.engine.capabilities
        sampling = replace(_LIKELIEST, max_tokens=max_tokens, schema=schema if capable.json_schema else None)
        turns, mode = [Turn("system", system), Turn("user", words)], Mode.ANSWER
        if self.info.opens_reasoning and capable.continue_answer:
            turns, mode = [*turns, Turn("assistant", _NO_REASONING)], Mode.CONTINUE
        request = Request(turns=tuple(turns), sampling=sampling, mode=mode)
        texts = list[str]()
        async with aclosing(self.engine.generate(request)) as events:
            async for event in events:
                if isinstance(event, Delta):
                    texts.append(event.text)
                elif isinstance(event, Finished):
                    return SmallReply(text="".join(texts), usage=event.usage, timings=event.timings)
        raise AssertionError("the engine's events ended without Finished")

    async def likelihood(self, system: str, words: str, answer: str) -> float:
        """Return how likely an answer is: the logarithm of its tokens' chances, in nats per token on average.

        Only where `can_score`. Raises as `ask` does.
        """
        opening = _NO_REASONING if self.info.opens_reasoning else ""
        turns = (Turn("system", system), Turn("user", words), Turn("assistant", f"{opening}{answer}"))
        sampling = replace(_LIKELIEST, max_tokens=0)
        request = Request(turns=turns, sampling=sampling, mode=Mode.CONTINUE, scored_turns=1)
        found = list[float]()
        async with aclosing(self.engine.generate(request)) as events:
            async for event in events:
                if isinstance(event, PromptScored):
                    for token, chances in zip(event.token_ids, event.chances, strict=True):
                        found += [each.logprob for each in chances if each.token_id == token]
        return sum(found) / max(1, len(found))

    async def count(self, text: str) -> int:
        """Return how many tokens a text takes in a prompt, the markers of its turn included."""
        return (await self.engine.count([Turn("user", text)])).values[0]
