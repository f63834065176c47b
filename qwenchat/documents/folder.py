"""A folder becomes documents: every file in it that has text, each named by its path, beginning with the folder's name.

One file that can't be read does not stop the rest. What is left out is said, with the reason, so that nobody takes
part of a folder for the whole.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path
from threading import Event

from qwenchat.documents.document import Document
from qwenchat.documents.walk import Skip, WalkedPath, walk
from qwenchat.errors import FileError
from qwenchat.i18n import _, ngettext, reason_of, sentences
from qwenchat.text.safe import clean_line

MOST_FILES = 2_000
MOST_BYTES = 64 << 20
"""Of text, of all files of a folder together."""
_MOST_ENTRIES = 200_000
"""That are looked at."""
_AT_ONCE = 4

Read = Callable[[Path, str], Awaitable[Document]]
"""Reads one file as the document of a name. Raises FileError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadFolder:
    """What was read of a folder."""

    documents: tuple[Document, ...]
    skipped: tuple[str, ...]
    """A sentence about each file that could not be read."""
    left_out: tuple[str, ...]
    """What was not tried, such as hidden files: a phrase with the number of each sort."""


async def read_folder(folder: Path, read: Read) -> ReadFolder:
    """Read a folder. Raises FileError where it can't be listed, or nothing in it can be read."""
    shown = clean_line(str(folder))
    stop = Event()
    try:
        folder, entries = await asyncio.to_thread(_listed, folder, stop)
    except OSError as error:
        raise FileError(
            _("{file} can't be read: {reason}.").format(file=shown, reason=reason_of(error)),
            _("Check its name and its permissions."),
        ) from error
    finally:
        stop.set()  # the thread would go on
    files = [entry for entry in entries if not entry.is_folder and not entry.skipped]
    documents, skipped = await _read_files(folder, files[:MOST_FILES], read)
    if not documents:
        raise FileError(
            _("Nothing in {file} can be read as text.").format(file=shown),
            sentences(*skipped[:2]) or _("Choose another folder."),
        )
    left_out = _left_out(entries, beyond=len(files) - MOST_FILES)
    return ReadFolder(documents=tuple(documents), skipped=tuple(skipped), left_out=tuple(left_out))


def _listed(folder: Path, stop: Event) -> tuple[Path, list[WalkedPath]]:
    """Return a folder by its real path, which has a name, and what is in it until `stop` is set. Raises OSError."""
    folder = folder.resolve()
    entries = takewhile(lambda _entry: not stop.is_set(), walk(folder))
    return folder, list(islice(entries, _MOST_ENTRIES))


async def _read_files(folder: Path, files: Sequence[WalkedPath], read: Read) -> tuple[list[Document], list[str]]:
    """Return the documents that files are, and sentences about those that are none."""
    documents: list[Document] = []
    skipped: list[str] = []
    room = MOST_BYTES

    async def read_one(entry: WalkedPath) -> Document | FileError:
        try:
            return await read(entry.path_in(folder), clean_line(f"{folder.name}/{entry.name}", 500))
        except FileError as error:
            return error

    for at in range(0, len(files), _AT_ONCE):
        for found in await asyncio.gather(*map(read_one, files[at : at + _AT_ONCE])):
            if isinstance(found, FileError):
                skipped.append(found.message)
            elif not found.text.strip():
                skipped.append(_("{file} is empty.").format(file=found.name))
            elif (size := len(found.text.encode())) > room:
                words = _("{file} is beyond the limit of {limit} MiB of text.")
                skipped.append(words.format(file=found.name, limit=MOST_BYTES >> 20))
            else:
                documents.append(found)
                room -= size
    return documents, skipped


def _left_out(entries: Sequence[WalkedPath], beyond: int) -> list[str]:
    """Return phrases about what was not tried, `beyond` files among it that the limit leaves out."""
    counts = Counter(entry.skipped for entry in entries if entry.skipped)
    words = {
        Skip.HIDDEN: ngettext("{count:,} hidden entry", "{count:,} hidden entries", counts[Skip.HIDDEN]),
        Skip.IGNORED: ngettext(
            "{count:,} entry that .gitignore names", "{count:,} entries that .gitignore names", counts[Skip.IGNORED]
        ),
        Skip.LINK: ngettext("{count:,} link", "{count:,} links", counts[Skip.LINK]),
        Skip.SPECIAL: ngettext("{count:,} special file", "{count:,} special files", counts[Skip.SPECIAL]),
        Skip.UNREADABLE: ngettext(
            "{count:,} folder that can't be listed", "{count:,} folders that can't be listed", counts[Skip.UNREADABLE]
        ),
    }
    phrases = [words[kind].format(count=counts[kind]) for kind in Skip if counts[kind]]
    if beyond > 0:
        phrase = ngettext(
            "{count:,} file beyond the limit of {limit:,}", "{count:,} files beyond the limit of {limit:,}", beyond
        )
        phrases.append(phrase.format(count=beyond, limit=MOST_FILES))
    return phrases
