"""The port that every hub, mirror, URL and folder implements: it lists files and locates the bytes of one file.

A source transfers no bytes (`download.transfer` does) and does not know where they are stored (`download.destination`).
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file in the list of a source."""

    name: str
    """Its path inside the repository, with `/` between folders."""
    size: int | None
    """Bytes; None if the source does not say."""
    sha256: str | None
    """Unchecked text from the source until `plan.select_files` has checked it; None if the source does not say."""


@dataclass(frozen=True, slots=True)
class Location:
    """The current location of one file's bytes. Each attempt asks for it again, because signed URLs expire."""

    url: str = field(repr=False)
    """An http or https URL; a `file:` URL from a server is never opened."""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Headers that only the URL's own origin may receive."""
    size: int | None = None
    sha256: str | None = None
    commit: str = ""
    """The full id of the revision, if the source has one."""
    path: Path | None = None
    """A file on this machine, instead of a URL."""


class Source(Protocol):
    """A source of models. Its methods block and may be called from several threads at once.

    Both raise `retry.SourceError`; its fault determines whether a retry makes sense.
    """

    @property
    def name(self) -> str:
        """The name with which users select it, such as `hf`."""
        ...

    def files(self, repo: str, revision: str) -> list[RemoteFile]:
        """Return the files of a repository at a revision; an empty one is the source's default."""
        ...

    def locate(self, repo: str, revision: str, name: str) -> Location:
        """Return the location of one file's bytes."""
        ...
