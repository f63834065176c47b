"""What models are called by programs that ask a server for them: names in which no path stands.

Such a program may name a model that is installed here, or the one that the server was started with. It can neither
probe for other files nor have its words sent to an engine elsewhere: that, only the user who starts the server chooses.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qwenchat.errors import NotFound, QwenchatError
from qwenchat.i18n import _
from qwenchat.models.reference import (
    FileReference,
    Reference,
    RemoteReference,
    path_in,
    remote_in,
)
from qwenchat.text.safe import clean_line

if TYPE_CHECKING:
    from qwenchat.runtime.program import Program


@dataclass(frozen=True, slots=True)
class ServedName:
    """A model that can be asked for."""

    name: str
    reference: str
    created: int
    """When its file was written, in Unix seconds; 0 where it is elsewhere."""


class ServedNames:
    """The names of the models on this machine. Its methods read folders, so they block."""

    def __init__(self, program: "Program", default: str) -> None:
        """`default` is the reference of the model that requests get which name none."""
        self._program, self.default = program, default
        self._resolved: dict[str, str] = {}
        """References by the names that were asked for before."""

    def listed(self) -> list[ServedName]:
        """Return all models that can be asked for, the default one first; no two have the same name."""
        found: dict[str, ServedName] = {}
        for each in self._all():
            found.setdefault(each.name.lower(), each)
        return list(found.values())

    def resolve(self, asked: str) -> str:
        """Return the reference of the model that a program asks for. Raises NotFound."""
        if asked.strip().lower() in ("", "default", name_of(self.default).lower()):
            return self.default
        if asked not in self._resolved:
            known = {each.name.lower(): each.reference for each in self.listed()}
            self._resolved[asked] = known.get(asked.lower()) or self._parsed(asked)
        return self._resolved[asked]

    def _parsed(self, asked: str) -> str:
        """Return the reference of an installed model that is named in another way, such as `7b`."""
        library = self._program.library
        try:
            parsed: Reference | None = library.parse(asked)
            if isinstance(parsed, FileReference | RemoteReference):
                parsed = None
        except QwenchatError:
            parsed = None
        if parsed is None:
            raise _unknown(asked)
        try:
            model = library.model(parsed)
        except QwenchatError:
            raise _unknown(asked) from None
        return self.default if model.path == self._default_path() else model.reference

    def _all(self) -> Iterator[ServedName]:
        path = self._default_path()
        yield ServedName(name_of(self.default), self.default, _written(path))
        for model in self._program.library.usable():
            if model.path != path:
                yield ServedName(name_of(model.reference), model.reference, _written(model.path))

    def _default_path(self) -> Path | None:
        with suppress(QwenchatError):
            return None if remote_in(self.default) else self._program.model_file(self.default)
        return None


def name_of(reference: str) -> str:
    """Return what a model is called: its reference, or the name of its file without folder and ending."""
    path = path_in(reference)
    return clean_line(path.stem) if path else clean_line(reference)


def _written(path: Path | None) -> int:
    with suppress(OSError):
        return int(path.stat().st_mtime) if path else 0
    return 0


def _unknown(asked: str) -> NotFound:
    return NotFound(
        _('No model named "{model}".').format(model=clean_line(asked)),
        _("/v1/models lists those that are on this computer."),
    )
