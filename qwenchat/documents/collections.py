"""Collections: files and folders that stay under a name, such as `books`, and are read again only where they changed.

What a collection consists of is the user's word, and stands in a small file of its own, so that no damage of the index
loses it. What was read of its files is in the index. Files are never changed, and one that can't be read ends nothing.
"""

import asyncio
import json
import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from filelock import FileLock, Timeout

from qwenchat.documents.document import Document
from qwenchat.documents.index import DocumentIndex, IndexedFile, collection_owner
from qwenchat.documents.reader import DocumentReader
from qwenchat.documents.walk import Skip, walk
from qwenchat.errors import FileError, NotFound, NotText, StoreError, WrongUse
from qwenchat.files import write_atomically
from qwenchat.i18n import _, clauses, enumerated, ngettext, reason_of
from qwenchat.paths import expand_home, private_folder
from qwenchat.text import syntax
from qwenchat.text.safe import clean_line, encodable

MOST_FILES = 20_000
"""Files of one folder that are read, the nearest first."""
_LONGEST_NAME = 80
_BATCH_S, _BATCH_SIZE = 1.0, 1 << 20
"""Seconds, or characters of text, after which what was read is stored."""
_LOCK_S = 10.0
_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """A name and what it stands for."""

    name: str
    """Chosen by the user; for a folder that was asked about without a collection, its path."""
    paths: tuple[Path, ...]
    """Absolute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionProgress:
    """How far an update is."""

    done: int
    """Files that were new or had changed and have been looked at."""
    total: int
    name: str
    """Of the file that is read now."""


@dataclass(slots=True, kw_only=True)
class Update:
    """What an update found."""

    read: int = 0
    """Documents that are new or have changed."""
    unchanged: int = 0
    removed: int = 0
    """Files that are not there any more."""
    not_text: int = 0
    """Files that are no documents, such as pictures and programs."""
    skipped: Counter[Skip] = field(default_factory=Counter)
    problems: dict[str, str] = field(default_factory=dict)
    """Why files and folders could not be read, by their paths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """A file on disk."""

    path: Path
    name: str
    """As a document: the path below the folder that was added."""
    size: int
    modified: int

    @property
    def key(self) -> str:
        """The path as the index has it."""
        return encodable(str(self.path))


class _Stored(msgspec.Struct, frozen=True):
    version: int
    collections: dict[str, tuple[str, ...]]


class Collections:
    """The user's collections. Methods that are not coroutines block, but not for long."""

    def __init__(self, file: Path, index: Callable[[], DocumentIndex]) -> None:
        """`index` opens the index; it is called where something is read or deleted."""
        self._file, self._opened_index = file, index

    @property
    def _index(self) -> DocumentIndex:
        return self._opened_index()

    def all(self) -> list[Collection]:
        """Return the collections, sorted by name. Raises FileError if their file can't be read."""
        return collections_in(self._file)

    def find(self, name: str) -> Collection:
        """Return a collection by its name. Raises NotFound, or FileError."""
        found = self.all()
        for each in found:
            if each.name == name:
                return each
        names = enumerated(clean_line(each.name) for each in found)
        raise NotFound(
            _("There is no collection named {name}.").format(name=clean_line(name)),
            _("Collections: {names}.").format(names=names) if found else _("Add files or folders to make one."),
        )

    def put(self, name: str, paths: Iterable[Path]) -> Collection:
        """Add paths to a collection, which is made if it is new; nothing is read yet.

        Raises WrongUse for a name that can't be one, and FileError for a path that does not exist.
        """
        added = [_existing(path) for path in paths]
        is_name = bool(name) and clean_line(name, _LONGEST_NAME) == name
        if not is_name and name not in map(str, added):
            raise WrongUse(
                _("{name} can't be the name of a collection.").format(name=clean_line(name) or '""'),
                _("Use a short name without line breaks."),
            )
        with self._changed() as stored:
            stored[name] = list(dict.fromkeys([*stored.get(name, ()), *map(str, added)]))
        return self.find(name)

    def remove(self, name: str) -> None:
        """Forget a collection and delete what was read of it; the files stay. Raises NotFound."""
        self.find(name)
        with self._changed() as stored:
            stored.pop(name, None)
        self._index.drop(collection_owner(name))

    def remove_path(self, path: Path) -> list[Collection]:
        """Take a path out of every collection that it was added to, and return these as they were before.

        What was read there is deleted, and a collection that had nothing else is removed. Raises NotFound if no
        collection has it.
        """
        wanted = _absolute(path)
        holding = [each for each in self.all() if wanted in each.paths]
        if not holding:
            raise NotFound(
                _("No collection has {path}.").format(path=clean_line(str(wanted))),
                _("Give the name of a collection, or a path as it was added."),
            )
        with self._changed() as stored:
            for each in holding:
                stored[each.name] = [path for path in stored.get(each.name, ()) if Path(path) != wanted]
            for name in [name for name, paths in stored.items() if not paths]:
                del stored[name]
        for each in holding:
            owner, others = collection_owner(each.name), [path for path in each.paths if path != wanted]
            gone = [
                key
                for key in self._index.files(owner)
                if not any(Path(key).is_relative_to(encodable(str(other))) for other in others)
            ]
            self._index.remove_files(owner, gone)
        self._index.tidy()
        return holding

    async def update(self, name: str, report: Callable[[CollectionProgress], object] = lambda progress: None) -> Update:
        """Read what is new or has changed in a collection, and remove what is gone.

        What was read is stored as it comes, so that an update that was cancelled or killed is continued by the next.
        Raises NotFound, FileError for the file of collections, and StoreError.
        """
        collection, owner, update = self.find(name), collection_owner(name), Update()
        seen, lost = await asyncio.to_thread(_seen_in, collection.paths, update)
        known = await asyncio.to_thread(self._index.files, owner)
        changed = [
            each
            for key, each in seen.items()
            if (old := known.get(key)) is None or (old.size, old.modified) != (each.size, each.modified)
        ]
        gone = [key for key in known if key not in seen and not any(Path(key).is_relative_to(each) for each in lost)]
        update.unchanged, update.removed = len(seen) - len(changed), len(gone)
        update.problems |= {key: old.problem for key, old in known.items() if old.problem and key in seen}
        await asyncio.to_thread(self._index.remove_files, owner, gone)
        try:
            await self._read(owner, changed, report, update)
        finally:
            if gone or changed:
                await asyncio.to_thread(self._index.tidy)
        return update

    async def _read(
        self,
        owner: str,
        files: Sequence[_Seen],
        report: Callable[[CollectionProgress], object],
        update: Update,
    ) -> None:
        batch: list[tuple[IndexedFile, Document | None]] = []
        try:
            async with DocumentReader() as reader:
                begun, size = time.monotonic(), 0
                for done, file in enumerate(files):
                    report(CollectionProgress(done=done, total=len(files), name=file.name))
                    state, document = await _read_file(reader, file, update)
                    batch.append((state, document))
                    size += len(document.text) if document else 0
                    if size >= _BATCH_SIZE or time.monotonic() - begun >= _BATCH_S:
                        await asyncio.to_thread(self._index.put_files, owner, batch)
                        batch, begun, size = [], time.monotonic(), 0
        finally:
            if batch:
                await asyncio.to_thread(self._index.put_files, owner, batch)

    @contextmanager
    def _changed(self) -> Iterator[dict[str, list[str]]]:
        """Yield what is stored and store it as it is at the end; no other program changes it meanwhile."""
        private_folder(self._file.parent)
        try:
            with FileLock(f"{self._file}.lock", timeout=_LOCK_S, mode=0o600):
                stored = {name: list(paths) for name, paths in _load(self._file).items()}
                yield stored
                text = json.dumps({"version": _VERSION, "collections": stored}, indent=1)
                write_atomically(self._file, text.encode())
        except Timeout as error:
            raise StoreError(
                _("Another program is updating {file}.").format(file=self._file),
                _("Wait until it has finished, then try again."),
            ) from error
        except OSError as error:
            raise FileError(
                _("{file} can't be written: {reason}.").format(file=self._file, reason=reason_of(error)),
                _("Make the file and its folder writable, or set QWENCHAT_HOME to a folder that is."),
            ) from error


def update_words(result: Update) -> str:
    """Return a line that says what an update did."""
    skipped = result.not_text + sum(result.skipped.values())
    return clauses(
        ngettext("{count:,} document read", "{count:,} documents read", result.read).format(count=result.read),
        _("{count:,} unchanged").format(count=result.unchanged) if result.unchanged else "",
        _("{count:,} removed").format(count=result.removed) if result.removed else "",
        _("{count:,} left out (hidden, ignored by git, no text)").format(count=skipped) if skipped else "",
    )


def collections_in(file: Path) -> list[Collection]:
    """Return the collections that a file names, sorted by name. Raises FileError if it can't be read."""
    return [Collection(name=name, paths=tuple(map(Path, paths))) for name, paths in sorted(_load(file).items())]


def _load(file: Path) -> dict[str, tuple[str, ...]]:
    """Return the paths of each collection. Raises FileError."""
    text = ""
    try:
        text = file.read_text("utf-8")
        stored = msgspec.convert(json.loads(text), _Stored)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _unreadable(file, reason_of(error)) from error
    except msgspec.ValidationError as error:
        raise _unreadable(file, _("it does not hold collections")) from error
    except (ValueError, RecursionError) as error:
        raise _unreadable(file, syntax.fault(error, text)) from error
    if stored.version > _VERSION:
        raise FileError(
            _("{file} was written by a newer qwenchat.").format(file=file),
            _("Update qwenchat; the file was not changed."),
        )
    return stored.collections


def _unreadable(file: Path, reason: str) -> FileError:
    return FileError(
        _("{file} can't be read: {reason}.").format(file=file, reason=reason),
        _("Repair it, or delete it and add the collections again."),
    )


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(expand_home(path)))  # noqa: PTH100 - `..` goes, links stay


def _existing(path: Path) -> Path:
    """Return a path, absolute. Raises FileError if nothing is there."""
    absolute = _absolute(path)
    try:
        absolute.stat()
    except OSError as error:
        raise FileError(
            _("{file} can't be read: {reason}.").format(file=clean_line(str(path)), reason=reason_of(error)),
            _("Check its name and its permissions."),
        ) from error
    return absolute


def _seen_in(paths: Sequence[Path], update: Update) -> tuple[dict[str, _Seen], list[Path]]:
    """Return the files of a collection by their keys, and the files and folders that could not be looked at."""
    seen: dict[str, _Seen] = {}
    lost: list[Path] = []
    for path in paths:
        try:
            names = _names_in(path, update, lost) if stat.S_ISDIR(path.stat().st_mode) else [""]
            files = [_seen(path / name, name or path.name) for name in names]
        except OSError as error:
            lost.append(path)
            reason = reason_of(error)
            update.problems[str(path)] = _("{file} can't be read: {reason}.").format(
                file=clean_line(str(path)), reason=reason
            )
            continue
        for found in filter(None, files):
            seen.setdefault(found.key, found)
    return seen, lost


def _names_in(folder: Path, update: Update, lost: list[Path]) -> Iterator[str]:
    """Yield the names of the files that belong to a folder, those in folders in it included. Raises OSError."""
    count = 0
    for entry in walk(folder):
        if entry.skipped:
            update.skipped[entry.skipped] += 1
            if entry.skipped is Skip.UNREADABLE:
                lost.append(entry.path_in(folder))
        elif not entry.is_folder:
            count += 1
            if count > MOST_FILES:
                words = _("It has more than {limit} files; only the nearest were read. Add the folders that matter.")
                update.problems[str(folder)] = words.format(limit=f"{MOST_FILES:,}")
                return
            yield entry.name


def _seen(path: Path, name: str) -> _Seen | None:
    """Return what a file is now; None if it is no regular file, or is gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return _Seen(path=path, name=name, size=status.st_size, modified=status.st_mtime_ns)


async def _read_file(reader: DocumentReader, file: _Seen, update: Update) -> tuple[IndexedFile, Document | None]:
    """Read a file, and say in the update what came of it."""
    problem, document = "", None
    update.problems.pop(file.key, None)
    try:
        document = await reader.read(file.path, file.name)
        update.read += 1
    except NotText:
        update.not_text += 1
    except FileError as error:
        problem = update.problems[file.key] = error.message
    state = IndexedFile(path=file.key, size=file.size, modified=file.modified, problem=problem)
    return state, document
