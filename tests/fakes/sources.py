"""Documents as a turn sees them, written beforehand: for the tests of everything that is not reading."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from qwenchat.chat.events import Reading
from qwenchat.chat.message import Citation, Message
from qwenchat.chat.ports import Engine


def passage(number: int, text: str) -> Citation:
    """Return a passage of a book."""
    return Citation(
        number=number, document="book.pdf", digest="d" * 64, start=10 * number, text=text, page=number, heading="Birds"
    )


@dataclass
class ScriptedSources:
    """Implements `sources.Sources` with passages written beforehand."""

    passages: Sequence[Citation] = ()
    has_documents: bool = True
    waits: bool = False
    """Whether it reads for ever."""
    asked: list[tuple[tuple[str, ...], int]] = field(default_factory=list)
    """The texts of the branches and the rooms that it was asked with, for a test to look at."""
    is_closed: bool = False

    async def prepare(self, branch: Sequence[Message]) -> bool:
        return self.has_documents

    async def find(
        self, engine: Engine, branch: Sequence[Message], room: int
    ) -> AsyncGenerator[Reading | Citation, None]:
        self.asked.append((tuple(message.text for message in branch), room))
        try:
            yield Reading(level=2, done=1, total=2, seconds_left=1.0)
            if self.waits:
                await asyncio.Event().wait()
            for each in self.passages:
                yield each
        finally:
            self.is_closed = True
