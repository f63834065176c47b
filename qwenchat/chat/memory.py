"""A session store that forgets: for `--no-save`, private chats and tests. It writes nothing anywhere."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from qwenchat.chat.message import Message
from qwenchat.chat.session import Session, title_of
from qwenchat.chat.tree import Tree
from qwenchat.errors import NotFound, StoreError
from qwenchat.i18n import _


class MemoryStore:
    """Implements `ports.SessionStore` with two dictionaries."""

    keeps = False

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}
        self._messages: dict[str, Message] = {}
        self._held: set[str] = set()
        self._lock = threading.RLock()

    def create(self, session: Session) -> None:
        with self._lock:
            self._sessions[session.id] = session

    def session(self, session_id: str) -> Session:
        try:
            return self._sessions[session_id]
        except KeyError:
            raise no_such_session(session_id) from None

    def update(self, session: Session) -> None:
        with self._lock:
            self.session(session.id)
            self._sessions[session.id] = session

    def tree(self, session_id: str) -> Tree:
        with self._lock:
            return Tree(message for message in self._messages.values() if message.session == session_id)

    def branch(self, leaf: str | None) -> list[Message]:
        with self._lock:
            return Tree(self._messages.values()).branch(leaf)

    def add(self, *messages: Message) -> None:
        with self._lock:
            for message in messages:
                session = self.session(message.session)
                title = session.title or title_of(message.text)
                self._messages[message.id] = message
                self.update(replace(session, leaf=message.id, updated=message.created, title=title))

    def move(self, *questions: Message) -> None:
        ids = {question.id for question in questions}
        with self._lock:
            below = {message.id for message in self._messages.values() if message.parent in ids}
            if ids <= self._messages.keys() and below <= ids:
                for message_id in ids:
                    del self._messages[message_id]
                self.add(*questions)

    def append(self, message_id: str, text: str, token_ids: Sequence[int]) -> None:
        with self._lock:
            kept = self._messages[message_id]
            grown = replace(kept, text=kept.text + text, token_ids=(*kept.token_ids, *token_ids))
            self._messages[message_id] = grown

    def amend(self, answer: Message) -> None:
        with self._lock:
            kept = self._messages[answer.id]
            self._messages[answer.id] = replace(answer, text=kept.text, token_ids=kept.token_ids)

    @contextmanager
    def streaming(self, session_id: str) -> Iterator[None]:
        with self._lock:
            if session_id in self._held:
                raise session_busy()
            self._held.add(session_id)
        try:
            yield
        finally:
            self._held.discard(session_id)


def no_such_session(session_id: str) -> NotFound:
    """Return the error for an id or prefix that no session has."""
    return NotFound(_("There is no session {id}.").format(id=session_id), _("`qwenchat sessions list` shows them all."))


def no_such_message(message_id: str) -> NotFound:
    """Return the error for an id that no message has."""
    return NotFound(
        _("There is no message {id}, or it is written no longer.").format(id=message_id),
        _("It may have been deleted, perhaps by another program."),
    )


def session_busy() -> StoreError:
    """Return the error for a session into which another turn is streaming."""
    return StoreError(
        _("Another program is writing an answer into this session."),
        _("Wait until it has ended, or start a new session."),
    )
