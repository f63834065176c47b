"""Finds words in the user's other chats. The search itself is given by the runtime: tools do not know the store."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from qwenchat.chat.tools import ToolSpec
from qwenchat.text.safe import clean_line
from qwenchat.tools.arguments import SearchArguments, given, schema_of

_MOST = 10
"""Excerpts of a result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatExcerpt:
    """A place in a chat where words were found."""

    title: str
    created: int
    """Unix milliseconds."""
    text: str


FindInChats = Callable[[str, int], Sequence[ChatExcerpt]]
"""Returns at most a number of excerpts for words; it blocks, and a QwenchatError of it is a failed call."""


@dataclass(frozen=True, slots=True)
class SearchChats:
    """The tool `search_chats`."""

    find: FindInChats
    writes = False

    @property
    def spec(self) -> ToolSpec:
        """Its description for the model."""
        return ToolSpec(
            name="search_chats",
            description="Find words in the user's earlier chats with you.",
            parameters=schema_of(SearchArguments),
        )

    async def run(self, arguments: Mapping[str, object]) -> str:
        """Return one line for each excerpt. Raises ToolError."""
        words = given(arguments, SearchArguments).words
        found = await asyncio.to_thread(self.find, words, _MOST)
        return "\n".join(map(_line, found)) or f'No earlier chat contains "{clean_line(words)}".'


def _line(found: ChatExcerpt) -> str:
    day = datetime.fromtimestamp(found.created / 1000)
    return f'{day:%Y-%m-%d} "{clean_line(found.title)}": {clean_line(found.text, 400)}'
