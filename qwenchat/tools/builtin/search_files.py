"""Finds words in the names and in the text of the files in the user's folders. Links are not followed."""

import asyncio
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Annotated

from msgspec import Meta

from qwenchat.chat.tools import ToolSpec
from qwenchat.text.files import encoding_of
from qwenchat.text.safe import clean_line
from qwenchat.tools.arguments import Arguments, given, schema_of
from qwenchat.tools.builtin.folders import Entry, Folders, Place
from qwenchat.tools.tool import ToolError

_MOST_FILES, _MOST_MATCHES, _MOST_IN_FILE = 5_000, 50, 5
_BEFORE = 80
"""Characters of a line before a match that are shown."""
_DEEPEST = 20
"""Folders inside each other."""
_BEGINNING, _HEAD = 1 << 20, 16 << 10
"""Bytes of a file that are searched, and those that decide about its encoding."""


class _SearchFilesArguments(Arguments, frozen=True):
    text: Annotated[str, Meta(min_length=1, description="The words")]
    folder: Annotated[str, Meta(description="The folder: {folders}")] = ""


@dataclass(frozen=True, slots=True)
class SearchFiles:
    """The tool `search_files`."""

    folders: Folders
    writes = False

    @property
    def spec(self) -> ToolSpec:
        """Its description for the model."""
        return ToolSpec(
            name="search_files",
            description="Find the files that mention words.",
            parameters=schema_of(_SearchFilesArguments, folders=self.folders.labels),
        )

    async def run(self, arguments: Mapping[str, object]) -> str:
        """Return one line for each match. Raises ToolError."""
        wanted = given(arguments, _SearchFilesArguments)
        words = " ".join(wanted.text.casefold().split())
        if not words:
            raise ToolError("Give the words to find.")
        cancelled = threading.Event()
        try:
            return await asyncio.to_thread(self._found, words, wanted.folder, cancelled)
        finally:
            cancelled.set()

    def _found(self, words: str, folder: str, cancelled: threading.Event) -> str:
        places = self.folders.places(folder)
        matches = self._matches(words, places, cancelled)
        lines = list(islice(matches, _MOST_MATCHES))
        if len(lines) == _MOST_MATCHES:
            lines.append("[There may be more. Search for more words, or in one folder.]")
        return "\n".join(lines) or f'Nothing contains "{clean_line(words)}".'

    def _matches(self, words: str, places: list[Place], cancelled: threading.Event) -> Iterator[str]:
        files = 0
        for entry in self._walk(places):
            if cancelled.is_set():
                return
            shown = entry.place.shown
            if words in entry.place.parts[-1].casefold():
                yield f"{shown}/ (folder)" if entry.is_folder else shown
            if entry.is_folder:
                continue
            files += 1
            if files > _MOST_FILES:
                yield f"[Only the first {_MOST_FILES:,} files were searched.]"
                return
            for number, line in islice(self._lines_with(words, entry.place), _MOST_IN_FILE):
                yield f"{shown}:{number}: {line}"

    def _walk(self, places: list[Place]) -> Iterator[Entry]:
        """Yield all entries of folders and of the folders in them, the nearest ones first."""
        waiting = deque((place, 0) for place in places)
        while waiting:
            place, depth = waiting.popleft()
            try:
                entries = self.folders.entries(place)
            except ToolError:
                if depth == 0:
                    raise
                continue
            for entry in entries:
                if entry.is_link:
                    continue
                yield entry
                if entry.is_folder and depth < _DEEPEST:
                    waiting.append((entry.place, depth + 1))

    def _lines_with(self, words: str, place: Place) -> Iterator[tuple[int, str]]:
        """Yield the lines of a text file that contain the words, with their numbers."""
        try:
            with self.folders.file(place) as file:
                data = file.read(_HEAD)
                encoding = encoding_of(data, is_whole=len(data) < _HEAD)
                if encoding is None:
                    return
                data += file.read(_BEGINNING - _HEAD)
        except ToolError:
            return
        text = data.decode(encoding, "replace")
        if "\0" in text:
            return
        for number, line in enumerate(text.split("\n"), 1):
            spaced = " ".join(line.split())
            at = spaced.casefold().find(words)
            if at >= 0:
                yield number, clean_line(spaced[max(0, at - _BEFORE) :])
