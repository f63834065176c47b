"""What waits in a prompt to be sent along: files and folders, each of which the screen shows as one chip.

A chip is there before its text is. How much of the context window it would take, and so whether the model reads it
whole, is known once a model is loaded. Nothing is read or drawn here.
"""

import asyncio
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct, field
from msgspec.structs import replace

from qwenchat.chat.message import Attachment
from qwenchat.i18n import ngettext
from qwenchat.text.safe import clean_line

if TYPE_CHECKING:
    from qwenchat.runtime.forecast import DocumentCount, Forecast

_UNKNOWN_WINDOW_BYTES = 6_000
"""Of text that goes whole while nothing is known of the model; more is read in parts."""


class Attached(Struct, eq=False, kw_only=True):
    """A file or folder in a prompt."""

    name: str
    """A clean line."""
    path: Path | None = None
    """Where it was read; None for what came back with a question."""
    documents: tuple[Attachment, ...] = ()
    is_folder: bool = False
    is_read: bool = True
    """Whether the documents are there; until then the chip stands for what is being read."""
    skipped: tuple[str, ...] = ()
    """A sentence about each file of a folder that could not be read."""
    left_out: tuple[str, ...] = ()
    """What of a folder was not tried: a phrase about each sort."""
    counts: "dict[str, DocumentCount]" = field(default_factory=dict)
    """How many tokens the documents take together, by the identity of the model's file."""
    forecast: "Forecast | None" = None
    """What reading them takes; None while that is not known."""
    chosen: bool | None = None
    """Whether the user wants it read in parts; None leaves that to the size."""
    task: asyncio.Task[object] | None = None
    """What reads it."""

    @property
    def in_parts(self) -> bool:
        """Whether the model reads parts of it, and not the whole."""
        if self.forecast and not self.forecast.fits:
            return True
        if self.wish is not None:
            return self.wish
        return not self.forecast.fits_well if self.forecast else self.bytes > _UNKNOWN_WINDOW_BYTES

    @property
    def wish(self) -> bool | None:
        """Whether it is to be read in parts: as the user chose, else a folder is; None leaves it to the size."""
        return True if self.chosen is None and self.is_folder else self.chosen

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        """The documents as they go with the question."""
        return tuple(replace(document, in_parts=self.in_parts) for document in self.documents)

    @property
    def bytes(self) -> int:
        """Of its text."""
        return sum(len(document.data) for document in self.documents)

    @property
    def pages(self) -> int | None:
        """Of a single document; None where it has no pages."""
        from qwenchat.documents.document import PAGE_BREAK  # noqa: PLC0415 - the screen is drawn without documents

        breaks = self.documents[0].data.count(PAGE_BREAK.encode()) if len(self.documents) == 1 else 0
        return breaks + 1 if breaks else None

    @property
    def title(self) -> str:
        """The name, and the number of files of a folder."""
        return titled(self.name, len(self.documents)) if self.is_folder and self.is_read else self.name


def titled(folder: str, count: int) -> str:
    """Return the name of a folder with the number of its files that were read."""
    return ngettext("{name} ({count:,} file)", "{name} ({count:,} files)", count).format(name=folder, count=count)


def attached_of(attachments: Sequence[Attachment]) -> list[Attached]:
    """Return what came with a question as it stood in the prompt; the way of reading stays the one that was used."""
    return [
        Attached(
            name=folder or clean_line(files[0].name),
            documents=files,
            is_folder=bool(folder),
            chosen=files[0].in_parts,
        )
        for folder, files in by_folder(attachments)
    ]


def by_folder(attachments: Iterable[Attachment]) -> list[tuple[str, tuple[Attachment, ...]]]:
    """Return attachments in their order, those of a folder together with its name, which is empty for a single file."""
    found: list[tuple[str, tuple[Attachment, ...]]] = []
    for folder, group in groupby(attachments, key=_folder_of):
        files = tuple(group)
        found += [(folder, files)] if folder and len(files) > 1 else [("", (each,)) for each in files]
    return found


def _folder_of(attachment: Attachment) -> str:
    """Return the folder that a file was attached with: its name begins with it."""
    folder, slash, _name = attachment.name.partition("/")
    return clean_line(folder) if slash else ""
