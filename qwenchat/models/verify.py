"""Verifies that a model is the published one, by comparing its sha256 with the name of its blob or the catalogue."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qwenchat.errors import FileError, NotFound
from qwenchat.files import sha256_of
from qwenchat.i18n import _, reason_of
from qwenchat.models.file_names import split_paths
from qwenchat.models.layouts import blob_sha256
from qwenchat.models.library import LocalModel
from qwenchat.text.safe import clean_line

ReportBytes = Callable[[int], object]
"""Called with the bytes that were processed since the last call."""


@dataclass(frozen=True, slots=True)
class VerifiedFile:
    """The sha256 of one file, and the expected ones; empty if they are not known."""

    path: Path
    sha256: str
    recorded: str
    """The sha256 at the time of the download, from the name of its blob."""
    published: str
    """The sha256 in the catalogue."""

    @property
    def verdict(self) -> str:
        """`ok`, `damaged`, `differs` (from the catalogue, with nothing else to compare with), or `unknown`."""
        if self.recorded:
            return "ok" if self.sha256 == self.recorded else "damaged"
        if self.published:
            return "ok" if self.sha256 == self.published else "differs"
        return "unknown"


def verify(model: LocalModel, report: ReportBytes) -> list[VerifiedFile]:
    """Hash all parts of a model. Raises NotFound or FileError."""
    return [
        VerifiedFile(part, model_sha256(part, report), recorded_sha256(model, part), _published_sha256(model, part))
        for part in split_paths(model.path)
    ]


def recorded_sha256(model: LocalModel, part: Path) -> str:
    """Return the sha256 of a part at the time of its download; empty if it is not known."""
    return blob_sha256(part) or (model.file.sha256 if part == model.path else "")


def _published_sha256(model: LocalModel, part: Path) -> str:
    """Return the catalogue's sha256; empty for files of other repositories, which merely have the same name.

    It may be out of date, because files on the hub have been replaced before.
    """
    published = model.published
    if not published or model.file.repo not in ("", published.model.repo):
        return ""
    known = dict(zip(published.model.file_names(published.quant), published.quant.parts, strict=True))
    return known[part.name].sha256 if part.name in known else ""


def model_sha256(path: Path, report: ReportBytes) -> str:
    """Return the sha256 of a model file in hex. Raises NotFound or FileError."""
    try:
        return sha256_of(path, lambda chunk: report(len(chunk)))
    except FileNotFoundError:
        raise NotFound(
            _("There is no file {path}.").format(path=clean_line(str(path))),
            _("Download the model again; files that are complete are not downloaded twice."),
        ) from None
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> FileError:
    """Return the error for a file that can't be read or written."""
    return FileError(
        _("{path}: {reason}.").format(path=clean_line(str(path)), reason=reason_of(error)),
        _("Check the disk and the permissions of the file and its folder."),
    )
