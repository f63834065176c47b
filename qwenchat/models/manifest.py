"""A model in a folder or on a stick, for a machine that is never online: its files and their hashes.

`bundle.json` beside the files names each with its size and sha256; `models pull --from file:FOLDER` reads it.
"""

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import Struct

from qwenchat.errors import CannotLoad, FileError, NotFound, QwenchatError
from qwenchat.i18n import _
from qwenchat.models.gguf import part_paths
from qwenchat.models.library import Entry
from qwenchat.models.names import is_safe
from qwenchat.models.verify import recorded_sha256, sha256_of, unreadable
from qwenchat.text.safe import clean_line, human_size, safe_name

MANIFEST = "bundle.json"
_CHUNK = 1 << 20


class File(Struct, frozen=True):
    """One file of a bundle."""

    name: str
    size: int
    sha256: str
    model: str = ""
    """The reference of the model that it belongs to."""


class Manifest(Struct, frozen=True):
    """What `bundle.json` holds."""

    files: tuple[File, ...] = ()


@dataclass(frozen=True, slots=True)
class _Copy:
    source: Path
    target: Path
    expected: str


def export(entry: Entry, folder: Path, report: Callable[[int], object]) -> Manifest:
    """Copy a model into a folder, hashed while it is copied, and return the folder's manifest.

    What is there already with the right hash stays; anything else of that name is not overwritten. Raises NotFound
    for a missing part, CannotLoad when a file is not what it should be, FileError for all that a disk refuses.
    """
    copies = [_Copy(part, folder / name, recorded_sha256(entry, part)) for part, name in _names(entry)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _need_room(copies, folder)
        manifest = _read(folder / MANIFEST)
        for copy in copies:
            sha256 = _copied(copy, report)
            file = File(copy.target.name, copy.target.stat().st_size, sha256, entry.reference)
            others = tuple(other for other in manifest.files if other.name != file.name)
            manifest = Manifest((*others, file))
            _write(folder / MANIFEST, manifest)
    except OSError as error:
        raise unreadable(Path(error.filename or folder), error) from error
    return manifest


def name_to_pull(entry: Entry) -> str:
    """Return what `models pull --from file:FOLDER` takes for an exported model: its reference where that names its file
    anywhere, else the file's name in the bundle.
    """
    name = _names(entry)[0][1]
    if entry.published and name == entry.published.model.file_names(entry.published.quant)[0]:
        return entry.published.reference
    return entry.reference if entry.reference == f"{entry.found.repo}/{name}" else name


def size_of(entry: Entry) -> int:
    """Return the bytes to copy."""
    return sum(part.stat().st_size for part in part_paths(entry.path) if part.exists())


def _names(entry: Entry) -> list[tuple[Path, str]]:
    """Return each part with its name in the bundle: its own, or, for a blob, the catalogue's or its owner's."""
    parts = part_paths(entry.path)
    for part in parts:
        if not part.is_file():
            raise NotFound(
                _("There is no file {path}.").format(path=clean_line(str(part))), _("Download the missing part first.")
            )
    if entry.path.suffix.lower() == ".gguf":
        return [(part, part.name if is_safe(part.name) else safe_name(part.name)) for part in parts]
    if entry.published:
        return [(entry.path, entry.published.model.file_names(entry.published.quant)[0])]
    return [(entry.path, safe_name(entry.found.name) + ".gguf")]


def _need_room(copies: list[_Copy], folder: Path) -> None:
    needed = sum(copy.source.stat().st_size for copy in copies if not copy.target.exists())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise FileError(
            _("{folder} has {free} free, and the model takes {needed}.").format(
                folder=clean_line(str(folder)), free=human_size(free), needed=human_size(needed)
            ),
            _("Free {missing} there, or choose another folder.").format(missing=human_size(needed - free)),
        )


def _copied(copy: _Copy, report: Callable[[int], object]) -> str:
    """Copy one file under a temporary name, rename it when its hash is right, and return the hash."""
    if copy.target.exists():
        sha256 = sha256_of(copy.target, report)
        if sha256 in (copy.expected, copy.expected or sha256_of(copy.source, lambda _count: None)):
            return sha256
        raise FileError(
            _("{path} is there already and is another file.").format(path=clean_line(str(copy.target))),
            _("Move it away, or choose another folder."),
        )
    partial = copy.target.with_name(copy.target.name + ".part")
    try:
        sha256 = _copy(copy.source, partial, report)
        if copy.expected and sha256 != copy.expected:
            raise _damaged(copy.source)
        partial.replace(copy.target)
    finally:
        partial.unlink(missing_ok=True)
    return sha256


def _copy(source: Path, target: Path, report: Callable[[int], object]) -> str:
    digest, buffer = hashlib.sha256(), memoryview(bytearray(_CHUNK))
    with source.open("rb", buffering=0) as reading, target.open("wb") as writing:
        while count := reading.readinto(buffer):
            writing.write(buffer[:count])
            digest.update(buffer[:count])
            report(count)
        writing.flush()
        os.fsync(writing.fileno())
    return digest.hexdigest()


def _damaged(path: Path) -> QwenchatError:
    return CannotLoad(
        _("{name} is damaged: its sha256 is not the one it should have.").format(name=clean_line(path.name)),
        _("Nothing was exported. Download the model again."),
    )


def _read(file: Path) -> Manifest:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Manifest)
    except FileNotFoundError:
        return Manifest()
    except (ValueError, RecursionError) as error:
        raise FileError(
            _("{path} is damaged: {reason}.").format(path=clean_line(str(file)), reason=error),
            _("Move it away, or choose another folder."),
        ) from error


def _write(file: Path, manifest: Manifest) -> None:
    partial = file.with_name(file.name + ".part")
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
    partial.replace(file)
