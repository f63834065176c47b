"""Writes exported text to its destination: standard output, a file, a folder or a zip.

A file is written under a temporary name and renamed when it is complete, so that it is never half written. An existing
file is not replaced without `force`. Names are made from titles and never lead out of their folder. The same sessions
always give the same zip, byte for byte.
"""

import os
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from qwenchat.chat.session import Session
from qwenchat.errors import FileError, Recovery, RecoveryKind, WrongUse
from qwenchat.files import replacing
from qwenchat.i18n import _, reason_of
from qwenchat.paths import file_name
from qwenchat.sessions.archive import ArchiveStore, normal, with_model_names
from qwenchat.sessions.exporters import ExportFormat
from qwenchat.sessions.reading_order import moment
from qwenchat.text.safe import safe_name


@dataclass(frozen=True, slots=True)
class Export:
    """The sessions to export, and the format."""

    store: ArchiveStore
    sessions: Sequence[Session]
    form: ExportFormat
    all_branches: bool = False
    model_name: Callable[[str], str] = str
    """Returns the name of a model, given its reference: an export may be shared, and a path reveals folders."""

    def text(self, sessions: Sequence[Session]) -> Iterator[str]:
        """Yield sessions as text, reading them from the store one by one."""
        archives = (with_model_names(self.store.archive(each.id), self.model_name) for each in sessions)
        return self.form.write(map(normal, archives), self.all_branches)

    def held(self) -> "Export":
        """Return the export of those sessions that the format can hold."""
        holds = self.form.holds
        if holds is None:
            return self
        archives = ((session, normal(self.store.archive(session.id))) for session in self.sessions)
        return replace(self, sessions=[session for session, archive in archives if holds(archive, self.all_branches)])

    def left_out(self) -> int:
        """Return how many messages are on branches that will not be written."""
        if self.all_branches or self.form.is_whole:
            return 0
        archives = [normal(self.store.archive(session.id)) for session in self.sessions]
        return sum(len(each.messages) - len(each.tree.branch(each.session.leaf)) for each in archives)

    def files(self) -> list[tuple[str, Session]]:
        """Return a file name for each session, unique even on systems that ignore case."""
        taken: set[str] = set()
        count: Counter[str] = Counter()
        named = []
        for session in self.sessions:
            stem = name = safe_name(session.title or session.id)
            while name.casefold() in taken:
                count[stem] += 1
                name = f"{stem} ({count[stem] + 1})"
            taken.add(name.casefold())
            named.append((name + self.form.suffix, session))
        return named


@dataclass(frozen=True, slots=True)
class Written:
    """What was written."""

    files: list[Path]
    sessions: int
    """The number of sessions in them."""


def write(export: Export, target: str | None, out: Callable[[str], object], force: bool = False) -> Written:
    """Write an export to `target` (None: to `out`, piece by piece).

    Sessions of which the format can hold nothing are left out.
    A name that ends in `.zip` makes a zip. An existing folder or a name that ends in a slash gets a file for each
    session, and so does a name without a suffix if there are several sessions. Raises FileError if a file already
    exists or can't be written, WrongUse if the format can't have several sessions in one text.
    """
    held = export.held()
    if target is None:
        _refuse_joining(held)
        for piece in held.text(held.sessions):
            out(piece)
        return Written([], len(held.sessions))
    path = Path(target)
    try:
        if _is_folder(export, path, target):
            files = _folder(held, path, force)
        elif path.suffix.lower() == ".zip":
            files = [_zip(held, path, force)]
        else:
            files = [_file(held, path, force)]
        return Written(files, len(held.sessions))
    except OSError as error:
        raise FileError(
            _("{path} can't be written: {reason}.").format(path=target, reason=reason_of(error)),
            _("Choose an existing, writable folder on a disk with free space."),
        ) from error


def _is_folder(export: Export, path: Path, target: str) -> bool:
    several = len(export.sessions) > 1 and not path.suffix and not path.exists()
    return path.is_dir() or target.endswith(("/", os.sep)) or several


def _file(export: Export, path: Path, force: bool) -> Path:
    _refuse_joining(export)
    _refuse_existing([path], force)
    with _new_file(path) as file:
        _fill(file, export.text(export.sessions))
    return path


def _folder(export: Export, folder: Path, force: bool) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    files = [(folder / file_name(name), session) for name, session in export.files()]
    _refuse_existing([path for path, _session in files], force)
    for path, session in files:
        with _new_file(path) as file:
            _fill(file, export.text([session]))
    return [path for path, _session in files]


def _zip(export: Export, path: Path, force: bool) -> Path:
    _refuse_existing([path], force)
    with _new_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, session in export.files():
            date = moment(session.updated).timetuple()[:6]
            member = zipfile.ZipInfo(name, min(max(date, (1980, 1, 1, 0, 0, 0)), (2107, 12, 31, 23, 59, 58)))
            member.compress_type = zipfile.ZIP_DEFLATED
            member.create_system = 3  # Unix, wherever it is made
            member.external_attr = 0o600 << 16
            with archive.open(member, "w") as inside:
                _fill(inside, export.text([session]))
    return path


def _fill(file: IO[bytes], pieces: Iterable[str]) -> None:
    for piece in pieces:
        file.write(piece.encode())


def _refuse_joining(export: Export) -> None:
    if len(export.sessions) > 1 and not export.form.many:
        raise WrongUse(
            _("In the format {name}, each session needs its own file.").format(name=export.form.name),
            _("Give a folder (a name that ends in /) or a .zip, or export one session."),
        )


def _refuse_existing(paths: Sequence[Path], force: bool) -> None:
    for path in paths:
        if path.is_dir():
            raise FileError(_("{path} is a folder.").format(path=path), _("Give another name."))
        if path.is_file() and not force:
            raise FileError(
                _("{path} already exists.").format(path=path),
                _("Give another name."),
                recoveries=(Recovery(RecoveryKind.REPLACE_FILE),),
            )


@contextmanager
def _new_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that appears under its name only when it is complete; a device or a pipe is written directly."""
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    with replacing(path) as file:
        yield file
