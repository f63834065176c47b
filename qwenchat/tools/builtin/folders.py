"""The folders that the user named for tools: the only way from a tool to the disk, and only to read.

A name that a model gives is resolved, must lie in one of the folders, and is then opened one component after another
without following a symbolic link, so that nothing exchanged in between leads elsewhere. (Windows can't open that way;
there the name is resolved again once the file is open.) Hidden files, files that hold keys, and whatever is neither a
file nor a folder are refused. Names in results begin with the folder's own name, as in `notes/todo.txt`.
"""

import errno
import os
import re
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from qwenchat.errors import FileError
from qwenchat.paths import expand_home
from qwenchat.text.safe import clean, clean_line
from qwenchat.tools.tool import ToolError

MOST_ENTRIES = 10_000
"""Of one folder that are read."""
_SYSTEM = ("/proc", "/sys", "/dev")
_KEYS = re.compile(
    r"id_(rsa|dsa|ecdsa|ed25519).*|_netrc|wallet\.dat|(credentials?|secrets?|passwords?)(\..*)?|.*service.account.*\.json"
    r"|.*\.(pem|key|p12|pfx|p8|pk8|jks|keystore|ppk|kdbx?|ovpn|gpg|pgp|asc|keychain(-db)?|env)",
    re.IGNORECASE,
)
_FOLDER_FLAGS = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
_FILE_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)
BY_COMPONENT = os.open in os.supports_dir_fd and os.stat in os.supports_dir_fd and os.scandir in os.supports_fd
"""Whether this system can open a path one component after another."""


@dataclass(frozen=True, slots=True)
class Place:
    """A file or folder that may be opened. Its path, resolved, is `root` and `parts`."""

    label: str
    root: Path
    parts: tuple[str, ...]

    @property
    def path(self) -> Path:
        """The path, resolved."""
        return self.root.joinpath(*self.parts)

    @property
    def shown(self) -> str:
        """The name by which the model knows it."""
        return "/".join((self.label, *self.parts))


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder in a folder."""

    place: Place
    is_folder: bool
    size: int
    modified: float
    """Unix time in seconds."""
    is_link: bool = False
    """Whether it is a link to something inside; what else is said here is of that."""


class Folders:
    """The named folders. Every method blocks, and raises ToolError."""

    def __init__(self, folders: Sequence[str | Path], *, by_component: bool = BY_COMPONENT) -> None:
        self._by_component = by_component
        self._roots: dict[str, Path] = {}
        self._given: dict[str, Path] = {}
        """As the user named them, by the same labels: a model may repeat that name."""
        for folder in folders:
            given = expand_home(folder)
            name, number = clean_line(given.name) or "files", 2
            label = name
            while label in self._roots:
                label, number = f"{name}-{number}", number + 1
            self._given[label], self._roots[label] = given, given.resolve()

    @property
    def labels(self) -> str:
        """The names of the folders, for the description of an argument.

        Not for that of a tool: small models then take the name of a folder for the name of a tool.
        """
        return ", ".join(self._roots)

    def places(self, name: str) -> list[Place]:
        """Return what a name stands for: all folders for an empty one."""
        if _path(name).parts:
            return [self.place(name)]
        return [self._resolved(Place(label, root, ())) for label, root in self._roots.items()]

    def place(self, name: str) -> Place:
        """Return the one file or folder that a name stands for, whether or not it exists."""
        path = _path(name)
        if clean(name) != name or not path.parts:
            raise ToolError(f'"{clean_line(name)}" is not the name of a file. The folders are: {self.labels}.')
        found = list(self._candidates(path))
        if not found:
            raise ToolError(f'"{clean_line(name)}" is outside the folders that may be read: {self.labels}.')
        existing = (each for each in found if os.path.lexists(each.path))
        return self._resolved(next(existing, found[0]))

    def _candidates(self, path: Path) -> Iterator[Place]:
        """Yield what a path may stand for, judged by its letters alone."""
        if path.is_absolute() or path.drive:
            for label, root in self._roots.items():
                for base in (root, self._given[label]):
                    if path.is_relative_to(base):
                        yield Place(label, root, path.relative_to(base).parts)
            yield from self._below_made_up(path)
            return
        first, *rest = path.parts
        if first == "..":
            return
        if first in self._roots:
            yield Place(first, self._roots[first], tuple(rest))
        for label, root in self._roots.items():
            yield Place(label, root, path.parts)

    def _below_made_up(self, path: Path) -> Iterator[Place]:
        """Yield what a path stands for that a small model made up around a folder's name: `/home/user/notes/x`."""
        for label, root in self._roots.items():
            if label in path.parts:
                place = Place(label, root, path.parts[path.parts.index(label) + 1 :])
                if os.path.lexists(place.path):
                    yield place

    def _resolved(self, place: Place) -> Place:
        _check_names(place)
        try:
            real = place.path.resolve()
            if real.is_symlink():  # a loop of links: Python 3.13 and newer return it
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a name that is too long
            raise ToolError(f'"{place.shown}" can\'t be read.') from error
        if not real.is_relative_to(place.root):
            raise ToolError(f'"{place.shown}" leads out of the folder {place.label}, so it is not read.')
        resolved = Place(place.label, place.root, real.relative_to(place.root).parts)
        _check_names(resolved)
        if sys.platform != "win32" and any(real.is_relative_to(system) for system in _SYSTEM):
            raise ToolError(f'"{place.shown}" belongs to the system, so it is not read.')
        return resolved

    @contextmanager
    def file(self, place: Place) -> Iterator[BinaryIO]:
        """Open a regular file."""
        *folders, name = place.parts or (".",)
        with _words_for_errors(place), self._opened(place, folders) as folder:
            target = str(place.path) if folder is None else name
            _check_kind(os.stat(target, dir_fd=folder, follow_symlinks=False), place)
            with os.fdopen(os.open(target, _FILE_FLAGS, dir_fd=folder), "rb") as opened:
                _check_kind(os.fstat(opened.fileno()), place)
                self._check_again(place)
                yield opened

    def entries(self, place: Place) -> list[Entry]:
        """Return the files and folders in a folder, sorted by name; links only where they lead to something inside."""
        found: list[Entry] = []
        with (
            _words_for_errors(place),
            self._opened(place, place.parts) as folder,
            os.scandir(place.path if folder is None else folder) as listed,
        ):
            self._check_again(place)
            for entry in islice(listed, MOST_ENTRIES):
                if clean(entry.name) != entry.name or "\n" in entry.name or _is_secret(entry.name):
                    continue
                inside = Place(place.label, place.root, (*place.parts, entry.name))
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISLNK(status.st_mode):
                    found += self._linked(inside)
                elif stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
                    found.append(_entry(inside, status))
        return sorted(found, key=lambda entry: entry.place.parts)

    def _linked(self, link: Place) -> list[Entry]:
        try:
            real = self._resolved(link)
            return [replace(_entry(link, real.path.lstat()), is_link=True)]
        except (ToolError, OSError):
            return []

    @contextmanager
    def _opened(self, place: Place, parts: Sequence[str]) -> Iterator[int | None]:
        """Open the folder that parts of a place lead to, and yield its descriptor; None where that is not possible."""
        if not self._by_component:
            yield None
            return
        descriptor = os.open(place.root, _FOLDER_FLAGS)
        try:
            for name in parts:
                inner = os.open(name, _FOLDER_FLAGS, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
            yield descriptor
        finally:
            os.close(descriptor)

    def _check_again(self, place: Place) -> None:
        """Where components can't be opened one by one, resolve a name again once it is open."""
        if not self._by_component and self._resolved(place) != place:
            raise ToolError(f'"{place.shown}" changed while it was opened.')


def _path(name: str) -> Path:
    try:
        return Path(os.path.normpath(expand_home(name.strip())))
    except FileError as error:
        raise ToolError(error.message) from error


def _entry(place: Place, status: os.stat_result) -> Entry:
    return Entry(place, stat.S_ISDIR(status.st_mode), status.st_size, status.st_mtime)


def _is_secret(name: str) -> bool:
    return name.startswith(".") or _KEYS.fullmatch(name) is not None


def _check_names(place: Place) -> None:
    for name in place.parts:
        if _is_secret(name) or (sys.platform == "win32" and ":" in name):
            raise ToolError(f'"{clean_line(name)}" is hidden or may hold keys or passwords, so it is not read.')


def _check_kind(status: os.stat_result, place: Place) -> None:
    """Raise ToolError for what is not a regular file."""
    if not stat.S_ISREG(status.st_mode):
        raise ToolError(f'"{place.shown}" is {"a folder" if stat.S_ISDIR(status.st_mode) else "not a file"}.')


@contextmanager
def _words_for_errors(place: Place) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise ToolError(f'There is no "{place.shown}". list_files shows which files there are.') from None
    except NotADirectoryError:
        raise ToolError(f'"{place.shown}" is not a folder. read_file reads files.') from None
    except OSError as error:
        raise ToolError(f'"{place.shown}" can\'t be read: {error.strerror or type(error).__name__}.') from error
