"""Reads a piece of a text file in one of the user's folders. Of a file of any size only that piece is read."""

import asyncio
import codecs
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, BinaryIO

from msgspec import Meta

from qwenchat.chat.tools import ToolSpec
from qwenchat.text.files import encoding_of
from qwenchat.tools.arguments import Arguments, given, schema_of
from qwenchat.tools.builtin.folders import Folders
from qwenchat.tools.tool import ToolError

_PIECE = 16 << 10
"""Bytes of one result: some 4,000 tokens, of which any context window has room for a few."""
_WIDEST = 4
"""Bytes of a character."""


class _ReadArguments(Arguments, frozen=True):
    path: Annotated[str, Meta(description="The file, with its folder: {folders}")]
    offset: Annotated[int, Meta(ge=0)] = 0
    """The byte to begin at; results say where the next piece begins."""


@dataclass(frozen=True, slots=True)
class ReadFile:
    """The tool `read_file`."""

    folders: Folders
    writes = False

    @property
    def spec(self) -> ToolSpec:
        """Its description for the model."""
        return ToolSpec(
            name="read_file",
            description="Get what a file says, what is written in it.",
            parameters=schema_of(_ReadArguments, folders=self.folders.labels),
        )

    async def run(self, arguments: Mapping[str, object]) -> str:
        """Return a piece of the file, and where the next one begins. Raises ToolError."""
        wanted = given(arguments, _ReadArguments)
        return await asyncio.to_thread(self._piece, wanted.path, wanted.offset)

    def opened(self, arguments: Mapping[str, object]) -> str:
        path = given(arguments, _ReadArguments).path.strip()
        place = self.folders.place(path)
        return "" if path in (place.shown, str(place.path)) else str(place.path)

    def _piece(self, path: str, offset: int) -> str:
        place = self.folders.place(path)
        with self.folders.file(place) as file:
            size = os.fstat(file.fileno()).st_size
            if offset and offset >= size:
                raise ToolError(f'"{place.shown}" has only {size:,} bytes.')
            text, end = _decoded(file, offset, size)
        if text is None:
            raise ToolError(f'"{place.shown}" is not a text file.')
        if end < size:
            return f"{text}\n[This is up to byte {end:,} of {size:,}. To go on, call read_file with offset {end}.]"
        return text or f"[{place.shown} is empty.]"


def _decoded(file: BinaryIO, offset: int, size: int) -> tuple[str | None, int]:
    """Return the text that begins at an offset, None if it is none, and the offset of the byte after it."""
    beginning = file.read(_PIECE)
    encoding = encoding_of(beginning, is_whole=len(beginning) >= size)
    if encoding is None:
        return None, 0
    offset -= offset % (2 if encoding.startswith("utf-16") else 4 if encoding.startswith("utf-32") else 1)
    file.seek(offset)
    data = file.read(_PIECE)
    if encoding == "utf-8":  # begin with a whole character
        inside = next((i for i, byte in enumerate(data[:_WIDEST]) if byte & 0xC0 != 0x80), 0)
        data, offset = data[inside:], offset + inside
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    text = decoder.decode(data, final=offset + len(data) >= size)
    end = offset + len(data) - len(decoder.getstate()[0])
    return None if "\0" in text else text.removeprefix("\ufeff").replace("\r\n", "\n"), end
