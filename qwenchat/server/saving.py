"""Saves the chats that a server has answered as sessions, for `--save` alone.

A client sends the whole chat with each question. What of it was saved before is recognised, so that a chat becomes one
session and not one for each question. Writing happens in a thread of its own: no answer waits for a disk.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

from msgspec.structs import replace

from qwenchat.chat.ids import UUIDv7, unix_ms
from qwenchat.chat.message import (
    Citation,
    FinishReason,
    Message,
    Reasoning,
    Role,
    Status,
    Text,
    ToolCall,
    TurnPart,
    merged,
)
from qwenchat.chat.ports import Mode, SessionStore
from qwenchat.chat.prompt import Turn
from qwenchat.chat.session import Session
from qwenchat.errors import NotFound, QwenchatError
from qwenchat.server.chat import AnsweredChat

_MOST_KNOWN = 10_000
"""Messages of clients that are recognised when they are sent again; the oldest are forgotten."""


class SavedChats:
    """Saves chats in a store."""

    def __init__(self, store: SessionStore, failed: Callable[[QwenchatError], object]) -> None:
        """`failed` is called, from another thread, with the reason why a chat could not be saved."""
        self._store, self._failed, self._new_id = store, failed, UUIDv7()
        self._known: OrderedDict[str, tuple[str, str]] = OrderedDict()
        """The session and the message that a chat became, up to one of its turns."""
        self._thread = ThreadPoolExecutor(1, "saving")

    def add(self, answer: AnsweredChat) -> None:
        """Save a chat and its answer, soon."""
        self._thread.submit(self._save, answer)

    def close(self) -> None:
        """Return when everything is saved."""
        self._thread.shutdown()

    def _save(self, answer: AnsweredChat) -> None:
        try:
            self._add(answer)
        except QwenchatError as error:
            self._failed(error)

    def _add(self, answer: AnsweredChat) -> None:
        system = "\n\n".join(turn.text for turn in answer.chat.turns if turn.role == "system")
        turns = _alternating(answer)
        names = list(_names(system, turns))
        known = max((place + 1 for place, name in enumerate(names[:-1]) if name in self._known), default=0)
        session, parent = self._known[names[known - 1]] if known else ("", None)
        if not self._can_follow(session, parent):
            session, parent, known = self._created(answer, system), None, 0
        messages: list[Message] = []
        for turn in turns[known:]:
            message = self._message(turn, session, parent)
            messages.append(message)
            parent = message.id
        messages[-1] = _ended(messages[-1], answer)
        self._store.add(*messages)
        for name, message in zip(names[known:], messages, strict=True):
            self._known[name] = session, message.id
        while len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)

    def _can_follow(self, session: str, message: str | None) -> bool:
        """Return whether there is a message that others can follow: the user may have deleted it meanwhile."""
        try:
            return self._store.session(session).trashed is None and bool(self._store.branch(message))
        except NotFound:
            return False

    def _created(self, answer: AnsweredChat, system: str) -> str:
        now = unix_ms()
        session = Session(id=self._new_id(), created=now, updated=now, model=answer.info.reference, system=system)
        self._store.create(session)
        return session.id

    def _message(self, turn: Turn, session: str, parent: str | None) -> Message:
        role = Role.USER if turn.role == "user" else Role.ASSISTANT
        return Message(
            id=self._new_id(), session=session, parent=parent, role=role, parts=_parts(turn), created=unix_ms()
        )


def _alternating(answer: AnsweredChat) -> list[Turn]:
    """Return questions and answers in turn, the last of which is the new one."""
    turns = [turn for turn in answer.chat.turns if turn.role != "system"]
    begun = _parts(turns.pop()) if answer.chat.mode is Mode.CONTINUE else ()
    turns.append(Turn("assistant", "", parts=(*begun, *answer.parts)))
    found: list[Turn] = []
    for turn in turns:
        if found and found[-1].role == turn.role:
            found[-1] = Turn(turn.role, "", parts=(*_parts(found[-1]), Text("\n\n"), *_parts(turn)))
        else:
            found.append(turn)
    return found


def _parts(turn: Turn) -> tuple[TurnPart, ...]:
    """Return what a turn says, as whole parts."""
    said = merged(turn.parts or (Text(turn.text),))
    return tuple(part for part in said if not isinstance(part, Citation))


def _names(system: str, turns: list[Turn]) -> Iterator[str]:
    """Yield what identifies a chat up to each of its turns, whatever white space and reasoning a client leaves out."""
    digest = sha256(system.encode("utf-8", "replace"))
    for turn in turns:
        said = [_identity(part) for part in _parts(turn) if not isinstance(part, Reasoning)]
        digest.update(repr((turn.role, said)).encode("utf-8", "replace"))
        yield digest.hexdigest()


def _identity(part: TurnPart) -> object:
    if isinstance(part, ToolCall):
        return part.id, part.name, part.arguments
    return part.text.strip()


def _ended(message: Message, answer: AnsweredChat) -> Message:
    """Return the new answer with what is known of it."""
    finished = answer.finished
    is_cut = finished.reason in (FinishReason.LENGTH, FinishReason.CONTEXT)
    return replace(
        message,
        status=Status.TRUNCATED if is_cut else Status.COMPLETE,
        finished=unix_ms(),
        model=answer.info.reference,
        model_file=answer.info.file,
        sampling=answer.sampling,
        finish_reason=finished.reason,
        usage=finished.usage,
        timings=finished.timings,
    )
