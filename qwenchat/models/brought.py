"""Which files in a person's own folders this program put there: they lie among others that it must never delete.

One small note for each file, so that programs and threads that download side by side need not wait for each other.
Without its note a file counts as the person's.
"""

import hashlib
from contextlib import suppress
from pathlib import Path

from qwenchat.models.gguf import part_paths
from qwenchat.models.remembered import remember
from qwenchat.paths import is_missing


class Brought:
    """The notes below our own folder of models."""

    def __init__(self, models: Path) -> None:
        self._folder = models / "brought"

    def add(self, file: Path) -> None:
        """Note a file that a download of ours finished."""
        remember(self._note(file), _address(file))

    def forget(self, file: Path) -> None:
        """Drop the note of a file that was deleted: the next one of its name may be another's."""
        with suppress(OSError):
            self._note(file).unlink()

    def has(self, model: Path) -> bool:
        """Say whether all there is of a model, which may be split, was brought by us."""
        return all(self._note(part).exists() for part in part_paths(model) if part == model or not is_missing(part))

    def _note(self, file: Path) -> Path:
        return self._folder / hashlib.sha256(_address(file)).hexdigest()[:32]


def _address(file: Path) -> bytes:
    return (file.parent.resolve() / file.name).as_uri().encode()
