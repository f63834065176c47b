"""What every hub, mirror, URL or folder can answer: which files there are, and where the bytes of one file are.

A source moves no bytes (`download.transfer` does) and does not know where they will lie (`download.destination`).
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file as a source lists it."""

    name: str
    """Its path inside the repository, with `/` between folders."""
    size: int | None
    """Bytes; None where the source does not say."""
    sha256: str | None
    """As the source spells it, until `plan.select_files` has checked it; None where the source does not say."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where the bytes of one file are right now. Signed URLs expire, so each attempt asks again."""

    url: str = field(repr=False)
    """An http or https URL; a `file:` URL from a server is never opened."""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """For the URL's own origin and for no other."""
    size: int | None = None
    sha256: str | None = None
    commit: str = ""
    """The full id of the revision, where the source has one."""
    path: Path | None = None
    """A file on this machine, in place of a URL."""


class Source(Protocol):
    """Where models come from. Its methods block and may be called from several threads at once.

    Both raise `retry.SourceError`; its fault says whether a retry makes sense.
    """

    @property
    def name(self) -> str:
        """The name that users give it, such as `hf`."""
        ...

    def files(self, repo: str, revision: str) -> list[RemoteFile]:
        """Return the files of a repository at a revision; empty for the source's default revision."""
        ...

    def locate(self, repo: str, revision: str, name: str) -> Location:
        """Return where the bytes of one file are."""
        ...
