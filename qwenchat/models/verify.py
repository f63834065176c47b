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
from qwenchat.text import clean_line

_CHUNK = 1 << 20

Report = Callable[[int], object]
"""Told how many bytes went by since the last call."""


@dataclass(frozen=True, slots=True)
class Checked:
    """One file's sha256, and the one it should have; empty where nobody says."""

    path: Path
    sha256: str
    expected: str

    @property
    def verdict(self) -> str:
        """`ok`, `damaged`, or `unknown` where there is nothing to compare with."""
        if not self.expected:
            return "unknown"
        return "ok" if self.sha256 == self.expected else "damaged"


def verify(entry: Entry, report: Report) -> list[Checked]:
    """Hash all parts of a model. Raises NotFound or FileError."""
    parts = part_paths(entry.path)
    return [Checked(part, sha256_of(part, report), expected_sha256(entry, part)) for part in parts]


def expected_sha256(entry: Entry, part: Path) -> str:
    """Return the sha256 that a part should have, empty where it is not known.

    A blob's name was its sha256 when it was downloaded. The catalogue speaks for files with the names of its own
    repositories only: others make files of the same model that differ.
    """
    if sha256 := blob_sha256(part) or (entry.found.sha256 if part == entry.path else ""):
        return sha256
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
