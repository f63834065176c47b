"""Lists the files and folders in one of the user's folders."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from msgspec import Meta

from qwenchat.chat.tools import ToolSpec
from qwenchat.text.safe import human_size
from qwenchat.tools.arguments import Arguments, given, schema_of
from qwenchat.tools.builtin.folders import Entry, Folders

_MOST = 200
"""Entries of a result."""


class _ListArguments(Arguments, frozen=True):
    folder: Annotated[str, Meta(description="The folder: {folders}")] = ""


@dataclass(frozen=True, slots=True)
class ListFiles:
    """The tool `list_files`."""

    folders: Folders
    writes = False

    @property
    def spec(self) -> ToolSpec:
        """Its description for the model."""
        return ToolSpec(
            name="list_files",
            description="List the files in a folder.",
            parameters=schema_of(_ListArguments, folders=self.folders.labels),
        )

    async def run(self, arguments: Mapping[str, object]) -> str:
        """Return one line for each entry. Raises ToolError."""
        return await asyncio.to_thread(self._listed, given(arguments, _ListArguments).folder)

    def _listed(self, folder: str) -> str:
        places = self.folders.places(folder)
        entries = [entry for place in places for entry in self.folders.entries(place)]
        lines = [_line(entry) for entry in entries[:_MOST]]
        if len(entries) > _MOST:
            lines.append(f"[{len(entries) - _MOST:,} more entries are not shown.]")
        return "\n".join(lines) or f"There are no files in {', '.join(place.shown for place in places)}."


def _line(entry: Entry) -> str:
    if entry.is_folder:
        return f"{entry.place.shown}/ (folder)"
    return f"{entry.place.shown} ({human_size(entry.size)}, {datetime.fromtimestamp(entry.modified):%Y-%m-%d})"
