"""A session store in memory: for `--no-save`, private chats and tests. It writes nothing anywhere."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from msgspec.structs import replace

from qwenchat.chat.message import Message, Part, merged
from qwenchat.chat.session import Session, WaitingQuestion, title_of
from qwenchat.chat.tree import Tree
from qwenchat.errors import NotFound, Recovery, RecoveryKind, StoreError
from qwenchat.i18n import _


class MemoryStore:
    """Implements `ports.SessionStore` with dictionaries."""

    persists = False

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}
        self._messages: dict[str, Message] = {}
        self._waiting: dict[str, WaitingQuestion] = {}
        self._locked: set[str] = set()
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
                self._waiting.pop(message.id, None)
                self.update(
                    replace(session, leaf=message.id, updated=max(session.updated, message.created), title=title)
                )

    def take_back(self, session: Session, *messages: Message) -> None:
        with self._lock:
            for message in messages:
                del self._messages[message.id]
            self.update(without_added(self.session(session.id), session, messages))

    def append(self, message_id: str, fragments: Sequence[Part]) -> None:
        with self._lock:
            answer = self._messages[message_id]
            self._messages[message_id] = replace(answer, parts=merged([*answer.parts, *fragments]))

    def amend(self, answer: Message) -> None:
        with self._lock:
            stored = self._messages[answer.id]
            self._messages[answer.id] = replace(answer, parts=stored.parts)

    def enqueue(self, waiting: WaitingQuestion) -> None:
        with self._lock:
            self.session(waiting.session)
            self._waiting[waiting.id] = waiting

    def waiting(self, session_id: str) -> list[WaitingQuestion]:
        with self._lock:
            return [waiting for waiting in self._waiting.values() if waiting.session == session_id]

    def redirect(self, session_id: str, follows: str, instead: str) -> None:
        with self._lock:
            for waiting in self.waiting(session_id):
                if waiting.follows == follows:
                    self._waiting[waiting.id] = replace(waiting, follows=instead)

    def take_out(self, question_id: str) -> None:
        with self._lock:
            self._waiting.pop(question_id, None)

    def withdraw(self, session_id: str) -> list[Message]:
        with self._lock:
            leaf = self.session(session_id).leaf
            entered = self.tree(session_id).unanswered(self.waiting(session_id), leaf)
            self.add(*entered)
            return entered

    @contextmanager
    def streaming(self, session_id: str) -> Iterator[None]:
        with self._lock:
            if session_id in self._locked:
                raise session_busy()
            self._locked.add(session_id)
        try:
            yield
        finally:
            self._locked.discard(session_id)


def without_added(session: Session, before: Session, messages: Sequence[Message]) -> Session:
    """Return a session with leaf, title and time as `before` it got messages; a title given since stays."""
    title = before.title if session.title in map(title_of, (message.text for message in messages)) else session.title
    return replace(session, leaf=before.leaf, updated=before.updated, title=title)


def no_such_session(session_id: str) -> NotFound:
    """Return the error for an id or prefix that no session has."""
    return NotFound(
        _("There is no session {id}.").format(id=session_id),
        _("It may have been deleted."),
        recoveries=(Recovery(RecoveryKind.LIST_SESSIONS),),
    )


def no_such_message(message_id: str) -> NotFound:
    """Return the error for an id that no message has."""
    return NotFound(
        _("There is no message {id}, or it is no longer being written.").format(id=message_id),
        _("It may have been deleted, perhaps by another program."),
    )


def session_busy() -> StoreError:
    """Return the error for a session that another turn has locked."""
    return StoreError(
        _("Another program is writing an answer into this session."),
        _("Wait until it has ended, or start a new session."),
    )
