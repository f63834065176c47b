"""Reads a long document for a question until someone kills it: `python -m tests.fakes.reading_child`, in a home.

It prints a line for each part that was judged and for each word of the answer, as they come. Nothing is flushed or
closed on the way out.
"""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from qwenchat.chat.events import EngineEvent, PartGrew, Reading
from qwenchat.chat.ids import UUIDv7, unix_ms
from qwenchat.chat.message import Attachment, Text
from qwenchat.chat.ports import Request
from qwenchat.chat.session import Session
from qwenchat.chat.turn import Turns
from qwenchat.runtime.program import Program
from qwenchat.runtime.session_documents import SessionDocuments
from tests.fakes.scripted import ScriptedEngine

SESSION = "s"
QUESTION = "How many steps has the lighthouse?"
BOOK = Attachment(
    "bay.txt",
    "text/plain",
    "".join(f"# Day {day}\n\n{'The harbour was calm. ' * 90}\n\n" for day in range(40)).encode()
    + b"# Tower\n\nThe lighthouse of Kestrel Bay has 214 steps.",
    in_parts=True,
)
ANSWER = " ".join(f"word{n}" for n in range(300))


@dataclass
class ReadingEngine(ScriptedEngine):
    """Says None of every part of a document; every other answer is recited."""

    n_ctx: int = 1 << 16

    @property
    def judged(self) -> int:
        """How many parts it was asked about."""
        return sum(_is_judgement(request) for request in self.requests)

    async def events(self, request: Request, text: str, cancelled: asyncio.Event) -> AsyncGenerator[EngineEvent, None]:
        if request.sampling.schema:
            text = '{"keywords_en": ["lighthouse"]}'
        elif _is_judgement(request):
            text = "None"
        async for event in super().events(request, text, cancelled):
            yield event


def _is_judgement(request: Request) -> bool:
    return "Passage:" in request.turns[-1].text


def turns_in(program: Program, engine: ScriptedEngine) -> Turns:
    """Return what answers with the documents of a session."""
    documents = SessionDocuments(program, is_private=lambda _id: False)
    session = program.store.session(SESSION)
    return Turns(store=program.store, engine=engine, new_id=UUIDv7(), clock=unix_ms, sources=documents.sources(session))


async def read(program: Program) -> None:
    program.store.create(Session(id=SESSION, created=1, updated=1, level=2))
    turns = turns_in(program, ReadingEngine((ANSWER,), delay_s=0.005))
    async for event in turns.ask(SESSION, QUESTION, [BOOK]):
        if isinstance(event, Reading) and event.done:
            print("judged", flush=True)
        elif isinstance(event, PartGrew) and isinstance(event.fragment, Text):
            print("said", flush=True)


if __name__ == "__main__":
    asyncio.run(read(Program.here()))
