"""Is a file what its makers published: its sha256 against the name of its blob or the catalogue."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qwenchat.errors import FileError, NotFound
from qwenchat.i18n import _
from qwenchat.models.gguf import part_paths
from qwenchat.models.layouts import blob_sha256
from qwenchat.models.library import Entry
from qwenchat.text.safe import clean_line

_CHUNK = 1 << 20

Report = Callable[[int], object]
"""Told how many bytes went by since the last call."""


@dataclass(frozen=True, slots=True)
class Checked:
    """One file's sha256, and those that it should have; empty where nobody says."""

    path: Path
    sha256: str
    recorded: str
    """What it was when it was downloaded, which the name of its blob tells."""
    published: str
    """What the catalogue says."""

    @property
    def verdict(self) -> str:
        """`ok`, `damaged`, `differs` from the catalogue alone, or `unknown` with nothing to compare with."""
        if self.recorded:
            return "ok" if self.sha256 == self.recorded else "damaged"
        if self.published:
            return "ok" if self.sha256 == self.published else "differs"
        return "unknown"


def verify(entry: Entry, report: Report) -> list[Checked]:
    """Hash all parts of a model. Raises NotFound or FileError."""
    return [
        Checked(part, sha256_of(part, report), recorded_sha256(entry, part), _published_sha256(entry, part))
        for part in part_paths(entry.path)
    ]


def recorded_sha256(entry: Entry, part: Path) -> str:
    """Return the sha256 that a part had when it was downloaded, empty where nothing tells."""
    return blob_sha256(part) or (entry.found.sha256 if part == entry.path else "")


def _published_sha256(entry: Entry, part: Path) -> str:
    """Return the catalogue's sha256 for files with the names of its own repositories, which others' files only share.

    It may be out of date: files were replaced on the hub before.
    """
    if not entry.published or entry.found.repo not in ("", entry.published.model.repo):
        return ""
    model, quant = entry.published.model, entry.published.quant
    known = dict(zip(model.file_names(quant), quant.parts, strict=True))
    return known[part.name].sha256 if part.name in known else ""


def sha256_of(path: Path, report: Report) -> str:
    """Return a file's sha256 in hex. Raises NotFound or FileError."""
    digest, buffer = hashlib.sha256(), memoryview(bytearray(_CHUNK))
    try:
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                digest.update(buffer[:count])
                report(count)
    except FileNotFoundError:
        raise NotFound(
            _("There is no file {path}.").format(path=clean_line(str(path))),
            _("Download the model again; what is there already is kept."),
        ) from None
    except OSError as error:
        raise unreadable(path, error) from error
    return digest.hexdigest()


def unreadable(path: Path, error: OSError) -> FileError:
    """Return the error for a file that the system does not let us read or write."""
    return FileError(
        _("{path}: {reason}.").format(path=clean_line(str(path)), reason=error.strerror or error),
        _("Check the disk and the permissions of the file and its folder."),
    )
