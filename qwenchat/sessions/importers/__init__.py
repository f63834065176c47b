"""The import formats, one file each: to add one, copy a file and change it.

A format is the `FORMAT` of its module. It recognises its records by their content and makes an archive of each. An
unreadable record is reported with its position, and the rest of the file is imported.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from qwenchat.errors import FileError
from qwenchat.i18n import _, enumerated
from qwenchat.sessions.archive import Archive, BadRecord, check, normal
from qwenchat.sessions.records import Record


@dataclass(frozen=True, slots=True)
class ImportFormat:
    """A way to read sessions."""

    name: str
    """The name for users."""
    knows: Callable[[dict[str, Any]], bool]
    """Returns whether a record has this format; no record has two formats."""
    read: Callable[[dict[str, Any], int], Archive | None]
    """A record and its file's time (Unix ms) -> an archive; None for a chat without text. Raises BadRecord."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A record that could not be imported."""

    place: str
    reason: str


@dataclass(frozen=True, slots=True)
class ImportedFile:
    """The chats of one file."""

    archives: tuple[Archive, ...]
    problems: tuple[Problem, ...]
    formats: tuple[str, ...]
    """The names of the formats found in the file."""
    empty: int
    """The number of chats without text."""


def formats() -> list[ImportFormat]:
    """Return every format."""
    modules = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return [importlib.import_module(f"{__name__}.{name}").FORMAT for name in modules]


def read(records: Iterable[Record]) -> ImportedFile:
    """Make archives of a file's records. Raises FileError if none of them is a chat."""
    known = formats()
    archives: list[Archive] = []
    owners: dict[str, str] = {}
    problems: list[Problem] = []
    found: dict[str, None] = {}
    empty = 0
    for record in records:
        try:
            form, archive = _read_one(record, known)
            _check_owners(archive, owners)
        except BadRecord as error:
            problems.append(Problem(record.place, error.message))
            continue
        found[form.name] = None
        if archive is None:
            empty += 1
        else:
            archives.append(archive)
    if problems and not found:
        first = problems[0]
        raise FileError(
            _("It contains no chats; {place}: {reason}.").format(place=first.place, reason=first.reason),
            _("Supported formats: {names}.").format(names=enumerated(form.name for form in known)),
        )
    return ImportedFile(tuple(archives), tuple(problems), tuple(found), empty)


def _check_owners(archive: Archive | None, owners: dict[str, str]) -> None:
    """Record the session of each message. Raises BadRecord if a message already belongs to another session."""
    for message in archive.messages if archive else ():
        if owners.setdefault(message.id, message.session) != message.session:
            raise BadRecord(_("a message of another chat has the same id"))


def _read_one(record: Record, known: list[ImportFormat]) -> tuple[ImportFormat, Archive | None]:
    value = record.value()
    form = next((form for form in known if isinstance(value, dict) and form.knows(value)), None)
    if form is None:
        raise BadRecord(_("it is not a chat in a known format"))
    try:
        archive = form.read(value, record.modified)
        return form, archive and normal(check(archive))
    except msgspec.ValidationError as error:
        raise BadRecord(str(error)) from error
