"""An engine that reads: what it says depends on what it is asked, and so does how likely it finds a question."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from qwenchat.chat.events import Delta, EngineEvent, Finished, PromptScored, Reading, TokenChance
from qwenchat.chat.message import Citation, FinishReason, Message, Timings, Usage
from qwenchat.chat.ports import Capabilities, Engine, Mode, Request, TokenCounts
from qwenchat.chat.prompt import Turn
from qwenchat.documents.document import Document
from qwenchat.documents.index import DocumentIndex, chat_owner
from qwenchat.documents.levels.choice import Speed
from qwenchat.documents.levels.finding import find
from tests.fakes.scripted import ALL_OF_LOCAL, ScriptedEngine

OWNER = chat_owner("s")


@dataclass
class ReadingEngine(ScriptedEngine):
    """Says what `says` returns for the last turn of a request.

    A question is likely after a passage from which `says` answers it.
    """

    says: Callable[[str], str] = lambda asked: "None"
    n_ctx: int = 100_000
    token: int = 1
    """Characters of a token."""
    capabilities: Capabilities = field(default_factory=lambda: replace(ALL_OF_LOCAL, raw_prompts=True))

    async def count(self, turns: Sequence[Turn], mode: Mode = Mode.ANSWER) -> TokenCounts:
        return TokenCounts(values=tuple(len(turn.text) // self.token + 4 for turn in turns))

    async def events(self, request: Request, text: str, cancelled: asyncio.Event) -> AsyncGenerator[EngineEvent, None]:
        asked, said = next(turn.text for turn in reversed(request.turns) if turn.role == "user"), ""
        if request.scored_turns:
            logprob = self.logprob(asked, request.turns[-1].text)
            yield PromptScored((1,), ((TokenChance("?", 1, logprob),),))
        else:
            said = self.says(asked)
            yield Delta(said)
        prompt = sum(len(turn.text) for turn in request.turns)
        yield Finished(FinishReason.STOP, Usage(prompt, 0, len(said)), Timings(prefill_tps=1000.0, decode_tps=100.0))

    def logprob(self, asked: str, question: str) -> float:
        """Return how likely a question is after a passage."""
        return -4.0 if self.says(f"{asked}\n{question}") == "None" else -2.0


def indexed(*texts: str) -> DocumentIndex:
    """Return an index of documents with these texts, named `1.md` and so on."""
    index = DocumentIndex(None)
    index.add(
        OWNER,
        [Document(name=f"{number}.md", media_type="text/markdown", text=text) for number, text in enumerate(texts, 1)],
    )
    return index


async def found(
    engine: Engine,
    index: DocumentIndex,
    question: str,
    *,
    history: Sequence[Message] = (),
    room: int = 4_000,
    level: int | None = 1,
    speed: Speed | None = None,
) -> tuple[list[Citation], list[Reading]]:
    """Return the passages that are found in all documents of an index, and the progress."""
    events = [
        event
        async for event in find(
            engine, index, index.owned(OWNER), question, history, room=room, level=level, speed=speed
        )
    ]
    return [each for each in events if isinstance(each, Citation)], [
        each for each in events if isinstance(each, Reading)
    ]


def paragraphs(facts: Iterable[str], filler: str = "The rain went on and nothing else was written down. ") -> str:
    """Return a text in which each fact has a chunk of its own."""
    return "\n\n".join(f"## Part {number}\n\n{fact} {filler * 25}" for number, fact in enumerate(facts, 1))
