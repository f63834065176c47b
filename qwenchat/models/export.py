"""Exports a model's files and a manifest to a folder or USB stick, for a machine that is never online.

`models pull --from file:FOLDER` reads both (`sources.folder`). Existing files in the folder are never overwritten.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from qwenchat.errors import CannotLoad, FileError, NotFound, QwenchatError
from qwenchat.files import free_bytes, replacing, sha256_of, write_atomically
from qwenchat.i18n import _
from qwenchat.models.file_names import is_gguf, is_safe, split_paths
from qwenchat.models.library import LocalModel
from qwenchat.models.sources.folder import MANIFEST_NAME, Manifest, ManifestFile
from qwenchat.models.verify import ReportBytes, model_sha256, recorded_sha256, unreadable
from qwenchat.text import syntax
from qwenchat.text.safe import clean_line, human_size, safe_name


@dataclass(frozen=True, slots=True)
class _Copy:
    source: Path
    target: Path
    expected_sha256: str
    """Empty if it is not known."""


def export(model: LocalModel, folder: Path, report: ReportBytes) -> Manifest:
    """Copy a model to a folder, hashing it while copying, and return the folder's manifest.

    An existing file is never overwritten; one with the right sha256 is used as it is. Raises NotFound for a missing
    part, CannotLoad for a damaged file, and FileError when a file can't be read or written, or is a different one.
    """
    copies = [_Copy(part, folder / name, recorded_sha256(model, part)) for part, name in _names(model)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _check_disk_space(copies, folder)
        manifest = _read(folder / MANIFEST_NAME)
        for copy in copies:
            sha256 = _copied(copy, report)
            file = ManifestFile(copy.target.name, copy.target.stat().st_size, sha256, model.reference)
            others = tuple(other for other in manifest.files if other.name != file.name)
            manifest = Manifest((*others, file))
            content = msgspec.json.format(msgspec.json.encode(manifest))
            write_atomically(folder / MANIFEST_NAME, content, private=False)
    except OSError as error:
        raise unreadable(Path(error.filename or folder), error) from error
    return manifest


def name_to_pull(model: LocalModel) -> str:
    """Return the name under which `models pull --from file:FOLDER` finds an exported model.

    It is the model reference if that names the same file on any machine, otherwise the name of the exported file.
    """
    name = _names(model)[0][1]
    published = model.published
    if published and name == published.model.file_names(published.quant)[0]:
        return published.reference
    return model.reference if model.reference == f"{model.file.repo}/{name}" else name


def size_of(model: LocalModel) -> int:
    """Return the bytes to copy."""
    return sum(part.stat().st_size for part in split_paths(model.path) if part.exists())


def _names(model: LocalModel) -> list[tuple[Path, str]]:
    """Return each part with its name in the export: its file name; for a blob, the catalogue's or its owner's name."""
    parts = split_paths(model.path)
    for part in parts:
        if not part.is_file():
            raise NotFound(
                _("There is no file {path}.").format(path=clean_line(str(part))), _("Download the missing part first.")
            )
    if is_gguf(model.path.name):
        return [(part, part.name if is_safe(part.name) else safe_name(part.name)) for part in parts]
    if published := model.published:
        return [(model.path, published.model.file_names(published.quant)[0])]
    return [(model.path, safe_name(model.file.name) + ".gguf")]


def _check_disk_space(copies: list[_Copy], folder: Path) -> None:
    needed = sum(copy.source.stat().st_size for copy in copies if not copy.target.exists())
    free = free_bytes(folder)
    if needed > free:
        raise FileError(
            _("The model needs {needed}, but {folder} has only {free} free.").format(
                folder=clean_line(str(folder)), free=human_size(free), needed=human_size(needed)
            ),
            _("Free {missing} there, or choose another folder.").format(missing=human_size(needed - free)),
        )


def _copied(copy: _Copy, report: ReportBytes) -> str:
    """Copy one file under a temporary name, rename it if its sha256 is right, and return the sha256."""
    if copy.target.exists():
        sha256 = model_sha256(copy.target, report)
        expected = copy.expected_sha256 or model_sha256(copy.source, lambda _count: None)
        if sha256 == expected:
            return sha256
        raise FileError(
            _("{path} already exists and is a different file.").format(path=clean_line(str(copy.target))),
            _("Move it away, or choose another folder."),
        )
    with replacing(copy.target, private=False) as stream:
        sha256 = _copy(copy.source, stream, report)
        if copy.expected_sha256 and sha256 != copy.expected_sha256:
            raise _damaged(copy.source)
    return sha256


def _copy(source: Path, target: BinaryIO, report: ReportBytes) -> str:
    def write(chunk: memoryview) -> None:
        target.write(chunk)
        report(len(chunk))

    sha256 = sha256_of(source, write)
    target.flush()
    os.fsync(target.fileno())
    return sha256


def _damaged(path: Path) -> QwenchatError:
    return CannotLoad(
        _("{name} is damaged: its sha256 is wrong.").format(name=clean_line(path.name)),
        _("Nothing was exported. Download the model again."),
    )


def _read(file: Path) -> Manifest:
    content = b""
    try:
        content = file.read_bytes()
        return msgspec.json.decode(content, type=Manifest)
    except FileNotFoundError:
        return Manifest(())
    except (ValueError, RecursionError) as error:
        reason = clean_line(syntax.fault(error, content), 200)
        raise FileError(
            _("{path} is damaged: {reason}.").format(path=clean_line(str(file)), reason=reason),
            _("Move it away, or choose another folder."),
        ) from error
