"""Where model files come from: the few questions that every hub, mirror, URL or folder can answer.

A source lists and locates; it moves no bytes (`transfer` does) and knows nothing of where they will lie (`place`).
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
    """As the source spells it, until `choice.choose` has checked it; None where the source does not say."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where one file's bytes are right now. Signed URLs expire, so it is asked for anew on each attempt."""

    url: str = field(repr=False)
    """Of http or https; what a server calls `file:` is never opened."""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """For the URL's own origin and for no other."""
    size: int | None = None
    sha256: str | None = None
    commit: str = ""
    """The revision's full id, where the source has one."""
    path: Path | None = None
    """A file on this machine, in place of a URL."""


class Source(Protocol):
    """A place to get models from. Its methods block and may be called from several threads at once.

    Both raise `faults.WireError`, whose fault says whether trying again makes sense.
    """

    @property
    def name(self) -> str:
        """What a person calls it, such as `hf`."""
        ...

    def files(self, repo: str, revision: str) -> list[RemoteFile]:
        """Return the files of a repository at a revision; empty for the source's default revision."""
        ...

    def locate(self, repo: str, revision: str, name: str) -> Location:
        """Return where to get one file from."""
        ...
