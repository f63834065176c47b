"""An archive: a complete session as one value, which exporters read, importers create, and the store loads and adds.

Every exported or imported archive passes through `normal`, so that the same session always gives the same bytes. An
archive from a file also passes through `check`, so that the store never gets values that it can't store.
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
from msgspec import Struct, structs
from msgspec.structs import replace

from qwenchat.chat.message import (
    Citation,
    Message,
    Part,
    PartKind,
    Reasoning,
    Role,
    Status,
    Text,
    ToolCall,
    ToolResult,
    text_parts,
)
from qwenchat.chat.sampling import Sampling
from qwenchat.chat.session import Session
from qwenchat.chat.tree import Tree
from qwenchat.errors import FileError, WrongUse
from qwenchat.i18n import _
from qwenchat.text.safe import clean_line, encodable

MAX_TIME = 253_402_300_800_000
"""Unix milliseconds at which the year 10000 begins; `datetime` supports no later times."""
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
PART_TYPES: dict[PartKind, type[Part]] = {
    PartKind.TEXT: Text,
    PartKind.REASONING: Reasoning,
    PartKind.TOOL_CALL: ToolCall,
    PartKind.TOOL_RESULT: ToolResult,
    PartKind.CITATION: Citation,
}
_ESCAPED = {
    code: f"\\u{code:04x}"
    for code in (*range(0x7F, 0xA0), 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFFFE, 0xFFFF)
}


class Archive(Struct, frozen=True):
    """A session with all its messages."""

    session: Session
    messages: tuple[Message, ...]

    @property
    def tree(self) -> Tree:
        """The messages as a tree."""
        return Tree(self.messages)


class ArchiveStore(Protocol):
    """The methods of the store that export and import use."""

    def archive(self, session_id: str) -> Archive:
        """Return a session, given by its full id, with all its messages. Raises NotFound."""
        ...

    def add_archives(self, archives: Sequence[Archive]) -> int:
        """Store sessions in one transaction and return how many were new or got new messages.

        Existing sessions and messages with the same ids are not changed.
        """
        ...


class BadRecord(FileError):
    """One session of a file is invalid; the others can still be imported."""


def normal(archive: Archive) -> Archive:
    """Return the archive in the normal form, in which archives are written and read.

    Parents come before children and older siblings first; a question is one text; no text contains a lone surrogate;
    titles, tags and names are one clean line; an answer that is still streaming is marked as interrupted, because the
    archive ends there.
    """
    session = archive.session
    session = replace(
        session,
        title=clean_line(session.title),
        model=clean_line(session.model),
        system=encodable(session.system),
        draft=encodable(session.draft),
        tags=tuple(clean_line(tag) for tag in session.tags),
        collections=tuple(clean_line(name) for name in session.collections),
        sampling=_storable_sampling(session.sampling),
    )
    return Archive(session, tuple(_normal_message(message) for message in _parents_first(archive.messages)))


def with_model_names(archive: Archive, name_of: Callable[[str], str]) -> Archive:
    """Return the archive with the names of its models instead of their references, which may contain home folders."""
    messages = (replace(each, model=name_of(each.model)) if each.model else each for each in archive.messages)
    session = archive.session
    return Archive(replace(session, model=session.model and name_of(session.model)), tuple(messages))


def check(archive: Archive) -> Archive:
    """Return the archive, or raise BadRecord if its ids, links, times or numbers are invalid."""
    session, known = archive.session, {message.id for message in archive.messages}
    for name in (session.id, *(message.id for message in archive.messages)):
        _demand(_ID.fullmatch(name), _("{id} is not a valid id").format(id=clean_line(repr(name), 80)))
    _demand(len(known) == len(archive.messages), _("two messages have the same id"))
    _demand(len(_parents_first(archive.messages)) == len(known), _("its messages form a cycle"))
    _demand(session.leaf is None or session.leaf in known, _("the open branch does not exist"))
    times = (session.created, session.updated, session.trashed or 0)
    _demand(all(_is_valid_time(time) for time in times), _("a time is invalid"))
    _demand(session.context is None or 0 < session.context < 2**31, _("a number is out of range"))
    _demand(session.level is None or 1 <= session.level <= 3, _("a number is out of range"))
    _check_sampling(session.sampling)
    for message in archive.messages:
        _check_message(message, session.id, known)
    return archive


def json_text(value: object) -> str:
    """Return a value as JSON on one line that is safe to print, because all control characters are escaped."""
    return msgspec.json.encode(value).decode().translate(_ESCAPED)


def _normal_message(message: Message) -> Message:
    return replace(
        message,
        parts=_normal_parts(message),
        error=encodable(message.error),
        model=clean_line(message.model),
        model_file=clean_line(message.model_file),
        status=Status.INTERRUPTED if message.status is Status.STREAMING else message.status,
        sampling=message.sampling and _storable_sampling(message.sampling),
        attachments=tuple(
            replace(each, name=clean_line(each.name), media_type=clean_line(each.media_type))
            for each in message.attachments
        ),
    )


def _normal_parts(message: Message) -> tuple[Part, ...]:
    if message.role is Role.USER:
        return text_parts(encodable(message.text), message.token_ids)
    return tuple(_normal_part(part) for part in message.parts if part != Text(""))


def _normal_part(part: Part) -> Part:
    match part:
        case ToolCall():
            return replace(
                part, id=clean_line(part.id), name=clean_line(part.name), arguments=encodable(part.arguments)
            )
        case ToolResult():
            return replace(
                part, call_id=clean_line(part.call_id), name=clean_line(part.name), text=encodable(part.text)
            )
        case Citation():
            return replace(
                part,
                document=clean_line(part.document),
                digest=clean_line(part.digest),
                heading=clean_line(part.heading),
                text=encodable(part.text),
            )
        case _:
            return replace(part, text=encodable(part.text))


def _storable_sampling(sampling: Sampling) -> Sampling:
    return replace(
        sampling,
        stop=tuple(encodable(stop) for stop in sampling.stop),
        schema=sampling.schema and encodable(sampling.schema),
    )


def _parents_first(messages: Sequence[Message]) -> list[Message]:
    """Return the messages depth first; messages in a cycle are left out."""
    tree = Tree(messages)
    known = {message.id for message in messages}
    roots = {message.parent for message in messages if message.parent not in known}
    left = [child for root in sorted(roots, key=str) for child in tree.children(root)][::-1]
    ordered: list[Message] = []
    while left:
        message = left.pop()
        ordered.append(message)
        left += reversed(tree.children(message.id))
    return ordered


def _check_message(message: Message, session_id: str, known: set[str]) -> None:
    _demand(message.session == session_id, _("a message belongs to another session"))
    _demand(message.parent is None or message.parent in known, _("the parent of a message is missing"))
    _demand(_is_valid_time(message.created) and _is_valid_time(message.finished or 0), _("a time is invalid"))
    is_answer = message.role is Role.ASSISTANT
    for part in message.parts:
        _demand(is_answer or isinstance(part, Text), _("a question has a part that only an answer can have"))
        tokens = () if isinstance(part, ToolResult | Citation) else part.token_ids
        _demand(all(0 <= token < 2**31 for token in tokens), _("a token id is invalid"))
        _demand(all(0 <= number < 2**53 for number in _numbers(part)), _("a number is out of range"))
    counted = [value for part in (message.usage, message.timings) if part for value in structs.astuple(part)]
    numbers = [value for value in counted if not isinstance(value, str)]
    _demand(all(math.isfinite(number) and abs(number) < 2**53 for number in numbers), _("a number is out of range"))
    if message.sampling:
        _check_sampling(message.sampling)


def _numbers(part: Part) -> tuple[int, ...]:
    if isinstance(part, ToolResult):
        return (part.took_ms,)
    return (part.number, part.start, part.page or 0) if isinstance(part, Citation) else ()


def _check_sampling(sampling: Sampling) -> None:
    try:
        sampling.check()
    except WrongUse as error:
        raise BadRecord(error.message.rstrip(".")) from error
    _demand((sampling.max_tokens or 0) < 2**53, _("a number is out of range"))


def _is_valid_time(time: int) -> bool:
    return 0 <= time < MAX_TIME


def _demand(condition: object, reason: str) -> None:
    if not condition:
        raise BadRecord(reason)
