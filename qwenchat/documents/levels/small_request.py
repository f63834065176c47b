"""Asks a model something small on the way to an answer: a few tokens, the likeliest ones, that no user reads.

Nothing of it is saved: the requests have no cache key. They share long prefixes, and all of the KV cache of a prefix is
to be reused: so they are not repeatable (`Sampling.is_repeatable`), which would allow whole steps of it alone.
"""

from contextlib import aclosing
from dataclasses import dataclass, replace

from qwenchat.chat.events import Delta, Finished, TokenChance
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
    chances: tuple[TokenChance, ...]
    """Of the first token, the likeliest first; empty where the engine does not report any."""
    usage: Usage
    timings: Timings


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallRequests:
    """An engine for small requests."""

    engine: Engine
    info: ModelInfo

    async def ask(
        self, system: str, words: str, *, max_tokens: int, schema: str | None = None, chances: int = 0
    ) -> SmallReply:
        """Ask and wait for the end; cancelling the call stops the engine.

        Where the engine can't enforce a `schema`, the answer is free. Raises as `Generation` does.
        """
        capable = self.engine.capabilities
        sampling = replace(_LIKELIEST, max_tokens=max_tokens, schema=schema if capable.json_schema else None)
        turns, mode = [Turn("system", system), Turn("user", words)], Mode.ANSWER
        if self.info.opens_reasoning and capable.continue_answer:
            turns, mode = [*turns, Turn("assistant", _NO_REASONING)], Mode.CONTINUE
        request = Request(turns=tuple(turns), sampling=sampling, mode=mode, chances=chances if capable.logprobs else 0)
        texts, first = list[str](), tuple[TokenChance, ...]()
        async with aclosing(self.engine.generate(request)) as events:
            async for event in events:
                if isinstance(event, Delta):
                    texts.append(event.text)
                    first = first or next(iter(event.chances), ())
                elif isinstance(event, Finished):
                    return SmallReply(text="".join(texts), chances=first, usage=event.usage, timings=event.timings)
        raise AssertionError("the engine's events ended without Finished")

    async def count(self, text: str) -> int:
        """Return how many tokens a text takes in a prompt, the markers of its turn included."""
        return (await self.engine.count([Turn("user", text)])).values[0]
