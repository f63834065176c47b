"""The import formats, one file each: to add one, copy a file and change it.

A format is the `FORMAT` of its module. It recognises its records by their content and makes an archive of each. An
unreadable record is reported with its position, and the rest of the file is imported. So is the rest of a chat, if a
message of it can't be read.
"""

import importlib
import pkgutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from qwenchat.errors import FileError
from qwenchat.i18n import _, enumerated
from qwenchat.sessions.archive import Archive, BadRecord, check, normal
from qwenchat.sessions.conversion import ImportedChat
from qwenchat.sessions.records import Record
from qwenchat.text import syntax


@dataclass(frozen=True, slots=True)
class ImportFormat:
    """A way to read sessions."""

    name: str
    """The name for users."""
    knows: Callable[[dict[str, Any]], bool]
    """Returns whether a record has this format; no record has two formats."""
    read: Callable[[dict[str, Any], int], ImportedChat]
    """Takes a record and its file's time (Unix ms). Raises BadRecord."""


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
    left_out: Mapping[str, int]
    """The reasons why messages of these chats were left out, with the number of messages for each."""


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
    left_out: Counter[str] = Counter()
    empty = 0
    for record in records:
        try:
            form, chat = _read_one(record, known)
            _check_owners(chat.archive, owners)
        except BadRecord as error:
            problems.append(Problem(record.place, error.message.rstrip(".")))
            continue
        found[form.name] = None
        left_out.update(chat.left_out)
        if chat.archive is None:
            empty += 1
        else:
            archives.append(chat.archive)
    if not found:
        first = problems[0] if problems else None
        raise FileError(
            _("It contains no chats; {place}: {reason}.").format(place=first.place, reason=first.reason)
            if first
            else _("It contains no chats."),
            _("Supported formats: {names}.").format(names=enumerated(form.name for form in known)),
        )
    return ImportedFile(tuple(archives), tuple(problems), tuple(found), empty, left_out)


def _check_owners(archive: Archive | None, owners: dict[str, str]) -> None:
    """Record the session of each message. Raises BadRecord if a message already belongs to another session."""
    for message in archive.messages if archive else ():
        if owners.setdefault(message.id, message.session) != message.session:
            raise BadRecord(_("a message of another chat has the same id"))


def _read_one(record: Record, known: list[ImportFormat]) -> tuple[ImportFormat, ImportedChat]:
    value = record.value()
    form = next((form for form in known if isinstance(value, dict) and form.knows(value)), None)
    if form is None:
        raise BadRecord(_("it is not a chat in a known format"))
    try:
        chat = form.read(value, record.modified)
        if chat.archive is None and chat.left_out:
            raise BadRecord(_("none of its messages can be read: {reason}").format(reason=next(iter(chat.left_out))))
        return form, replace(chat, archive=chat.archive and normal(check(chat.archive)))
    except msgspec.ValidationError as error:
        raise BadRecord(syntax.field_fault(error)) from error
    except RecursionError as error:
        raise BadRecord(_("it is nested too deeply")) from error
