"""Finds passages in the documents of the chat. The runtime gives the search: tools do not know the index."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from qwenchat.chat.tools import ToolSpec
from qwenchat.text.safe import clean_line
from qwenchat.tools.arguments import SearchArguments, given, schema_of

_MOST = 5
"""Passages of a result."""
_LONGEST = 1500
"""Characters of a passage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentExcerpt:
    """A passage of a document in which words were found."""

    document: str
    page: int | None
    """None for a document without pages."""
    text: str


FindInDocuments = Callable[[str, int], Sequence[DocumentExcerpt]]
"""Returns at most a number of passages for words; it blocks, and a QwenchatError of it is a failed call."""


@dataclass(frozen=True, slots=True)
class SearchDocuments:
    """The tool `search_documents`."""

    find: FindInDocuments
    writes = False

    @property
    def spec(self) -> ToolSpec:
        """Its description for the model."""
        return ToolSpec(
            name="search_documents",
            description="Find passages in the documents of this chat.",
            parameters=schema_of(SearchArguments),
        )

    async def run(self, arguments: Mapping[str, object]) -> str:
        """Return a paragraph for each passage. Raises ToolError."""
        words = given(arguments, SearchArguments).words
        found = await asyncio.to_thread(self.find, words, _MOST)
        return "\n\n".join(map(_paragraph, found)) or f'No document contains "{clean_line(words)}".'


def _paragraph(found: DocumentExcerpt) -> str:
    place = clean_line(found.document) + (f", page {found.page}" if found.page else "")
    return f"{place}: {clean_line(found.text, _LONGEST)}"
