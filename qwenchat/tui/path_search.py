"""Finds files and folders by a few letters of their paths, for the `@` picker. Draws nothing and opens no file.

A folder is walked once, in a thread, up to a number of entries and seconds; it can be searched while that goes on.
Chinese names are also found by the initials of their pinyin. Names are kept as the disk has them: who draws them
cleans them.
"""

import re
import threading
import time
from dataclasses import dataclass
from heapq import nsmallest
from itertools import islice
from pathlib import Path

from qwenchat.documents.walk import walk
from qwenchat.errors import FileError
from qwenchat.paths import expand_home
from qwenchat.text.pinyin import initials

MOST_ENTRIES = 100_000
"""Of one folder that are searched, those near its top first."""
MOST_SECONDS = 10.0
_PLACE = re.compile(r"(~|\.{0,2}/|[A-Za-z]:[/\\])")
"""How a path begins that does not stand below the current folder, or says so."""


@dataclass(frozen=True, slots=True)
class FoundPath:
    """A file or folder that fits what was typed."""

    path: Path
    name: str
    """Of the file or folder itself."""
    folder: str
    """The path of the folder that it is in, as the user would type it; empty for the current folder."""
    is_folder: bool


@dataclass(frozen=True, slots=True)
class _Known:
    """An entry with what is searched in it, in lower case."""

    name: str
    key: str
    letters: str
    """The key with initials of Chinese characters; empty where that is the same."""
    is_folder: bool


class PathSearch:
    """The paths below one folder. `read` blocks and is called once, in a thread; `best` may be called meanwhile."""

    def __init__(self, folder: Path, typed: str = "") -> None:
        """`typed` is the folder as the user typed it, ending with `/`; empty for the current folder."""
        self.folder, self.typed = folder, typed
        self.is_complete = False
        """Whether all is known that will be."""
        self._known: list[_Known] = []
        self._stop = threading.Event()

    def stop(self) -> None:
        """End the reading, soon."""
        self._stop.set()

    def read(self) -> None:
        """Read the folder, as far as the limits allow; a folder that can't be listed has nothing in it."""
        end = time.monotonic() + MOST_SECONDS
        try:
            for entry in islice(walk(self.folder), MOST_ENTRIES):
                if self._stop.is_set() or time.monotonic() > end:
                    break
                if entry.skipped:
                    continue
                key = entry.name.casefold()
                letters = "" if key.isascii() else initials(key)
                self._known.append(_Known(entry.name, key, letters if letters != key else "", entry.is_folder))
        except OSError:
            pass
        self.is_complete = True

    def best(self, words: str, limit: int) -> list[FoundPath]:
        """Return the paths that have the letters of `words` in their order, the likeliest first."""
        wanted = words.casefold().replace("\\", "/")
        pattern = re.compile("".join(f"[^{re.escape(letter)}]*{re.escape(letter)}" for letter in wanted), re.DOTALL)
        known = self._known[:]  # the thread adds to it
        scored = []
        for at, each in enumerate(known):
            ranks = [_rank(key, wanted, pattern) for key in (each.key, each.letters) if key and pattern.match(key)]
            if ranks:
                scored.append((*min(ranks), each.name.count("/"), len(each.name), at))
        return [self._found(known[score[-1]]) for score in nsmallest(limit, scored)]

    def _found(self, known: _Known) -> FoundPath:
        folder, _slash, name = known.name.rpartition("/")
        shown = self.typed + (folder + "/" if folder else "")
        return FoundPath(self.folder / known.name, name, shown, known.is_folder)


def search_for(typed: str, here: Path) -> tuple[Path, str, str]:
    """Return the folder that a typed path is searched in, that folder as it was typed, and the rest, which is sought.

    It is the last folder of the path that exists, for a path that begins with `/`, `./`, `../` or `~/`; for any other
    one, `here`. Blocks.
    """
    typed = typed + "/" if typed == "~" else typed
    if _PLACE.match(typed):
        ends = [found.end() for found in re.finditer(r"[/\\]", typed)]
        for end in reversed(ends):
            try:
                folder = here / expand_home(typed[:end])
                if folder.is_dir():
                    return folder, typed[:end], typed[end:]
            except (FileError, OSError, ValueError):
                continue
    return here, "", typed


def _rank(key: str, wanted: str, pattern: re.Pattern[str]) -> tuple[int, int]:
    """Return how well a path fits, less being better: by its name before its folders, by whole words before letters."""
    name = key.rpartition("/")[2]
    if wanted in name:
        return (0 if name.startswith(wanted) else 1), 0
    if wanted in key:
        return 2, 0
    if found := pattern.match(name):
        begins = name.startswith(wanted[0])
        return (3 if begins else 4), found.end()
    return 5, 0
