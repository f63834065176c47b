"""The session store on disk: implements `chat.ports.SessionStore` with one SQLite database.

A streaming answer is saved as short rows (`pieces`), which are combined when it ends, so that the cost of saving a
piece does not grow with the answer. `listing` lists sessions, `search` finds text, `trash` deletes, and `outbox` stores
waiting questions. Nothing here overwrites or moves a message.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakValueDictionary

from msgspec.structs import replace

from qwenchat.chat.ids import Clock, NewId, UUIDv7, unix_ms
from qwenchat.chat.memory import no_such_message, no_such_session, without_added
from qwenchat.chat.message import Message, Part, Role, Status
from qwenchat.chat.session import Session, WaitingQuestion, title_of
from qwenchat.chat.tree import Tree
from qwenchat.errors import NotFound, Recovery, RecoveryKind
from qwenchat.i18n import _
from qwenchat.sessions import rows
from qwenchat.sessions.archive import Archive
from qwenchat.sessions.listing import SessionListing
from qwenchat.sessions.locks import SessionLocks
from qwenchat.sessions.outbox import QuestionOutbox
from qwenchat.sessions.trash import Trash
from qwenchat.storage.database import BUSY_S, Database
from qwenchat.storage.migrate import migrate
from qwenchat.storage.read_only import cannot_be_saved
from qwenchat.text.safe import encodable

if TYPE_CHECKING:
    from qwenchat.sessions.search import SessionSearch

_OfSession = TypeVar("_OfSession", Message, WaitingQuestion)
_INSERT_SESSION = f"INSERT INTO sessions ({rows.SESSION_COLUMNS}) VALUES (?{',?' * rows.SESSION_COLUMNS.count(',')})"


class Store:
    """All sessions. Safe for use by several threads and programs; every method may raise StoreError."""

    persists = True

    def __init__(
        self,
        file: Path,
        *,
        clock: Clock = unix_ms,
        new_id: NewId | None = None,
        busy_s: float = BUSY_S,
        deleted: Callable[[str], object] = lambda session_id: None,
    ) -> None:
        """Open the database, or create it; `deleted` is called with the id of each session deleted forever."""
        migrate(file, rows.SCHEMA, busy_s=busy_s)
        self._database = Database(file, busy_s)
        self._locks = SessionLocks(file.parent / "locks")
        self._shared: WeakValueDictionary[str, Message] = WeakValueDictionary()
        """Messages that somebody has, by their ids: they are not read again, and all have the same object."""
        self._clock, self._new_id = clock, new_id or UUIDv7(clock)
        self._outbox = QuestionOutbox(self._database, self._locks)
        self.listing = SessionListing(self._database)
        self.trash = Trash(self._database, self._locks, clock, deleted)
        if not self.is_read_only:
            self.settle()

    @cached_property
    def search(self) -> "SessionSearch":
        """What finds messages by words."""
        from qwenchat.sessions.search import SessionSearch  # noqa: PLC0415 - few programs search

        return SessionSearch(self._database)

    @property
    def is_read_only(self) -> bool:
        """Whether sessions can only be read, as on a read-only disk; every change then raises StoreError."""
        return self._database.is_read_only

    def close(self) -> None:
        """Close the database. The next `settle`, of any program, gets the waiting questions. May be called twice."""
        self._outbox.close()
        self._database.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Combine all changes that this thread makes in the block into one transaction."""
        with self._database.write():
            yield

    def create(self, session: Session) -> None:
        with self._database.write() as connection:
            connection.execute(_INSERT_SESSION, rows.session_row(session))

    def session(self, session_id: str) -> Session:
        with self._database.read() as connection:
            found = connection.execute(
                f"SELECT {rows.SESSION_COLUMNS} FROM sessions WHERE id = ?",
                (session_id,),
            ).fetchone()
            if found is None:
                raise no_such_session(session_id)
            return rows.session_of(found)

    def exists(self, session_id: str) -> bool:
        """Return whether there is a session with this id, in the trash or not."""
        with self._database.read() as connection:
            return connection.execute("SELECT 1 FROM sessions WHERE id = ?", (session_id,)).fetchone() is not None

    def update(self, session: Session) -> None:
        columns = rows.SESSION_COLUMNS.replace(",", " = ?,") + " = ?"
        with self._database.write() as connection:
            changed = connection.execute(
                f"UPDATE sessions SET {columns} WHERE id = ?",
                (*rows.session_row(session), session.id),
            )
            if not changed.rowcount:
                raise no_such_session(session.id)

    def label(self, session_id: str, **fields: Any) -> Session:
        """Change only the given fields of a session (`title`, `tags`, `pinned`, `draft`, `model`...).

        Unlike `update`, it can't undo concurrent changes by another program. Raises NotFound.
        """
        with self._database.write():
            session = replace(self.session(session_id), **fields)
            self.update(session)
        return session

    def tree(self, session_id: str) -> Tree:
        with self._database.read() as connection:
            found = connection.execute("SELECT n FROM sessions WHERE id = ?", (session_id,)).fetchone()
            return Tree(rows.load(connection, rows.TREE, found[0], session_id, self._shared) if found else ())

    def branch(self, leaf: str | None) -> list[Message]:
        with self._database.read() as connection:
            found = connection.execute(
                "SELECT sessions.id FROM messages JOIN sessions ON sessions.n = messages.session WHERE messages.id = ?",
                (leaf,),
            ).fetchone()
            return rows.load(connection, rows.BRANCH, leaf, found[0], self._shared) if found else []

    def add(self, *messages: Message) -> None:
        """Store new messages in one transaction and make the last one their session's leaf.

        A parent must come before its children; a question in the outbox is removed from there. Raises NotFound for an
        unknown session and for a parent that is unknown or deleted.
        """
        with self._database.write() as connection:
            for message in messages:
                rows.insert(connection, message)
            self._outbox.remove([message.id for message in messages])
            for session_id, own in _by_session(messages).items():
                self.update(_with_added(self.session(session_id), own))

    def take_back(self, session: Session, *messages: Message) -> None:
        with self._database.write() as connection:
            for message in reversed(messages):
                connection.execute("DELETE FROM messages WHERE id = ?", (message.id,))
            rows.drop_blobs(connection)
            self.update(without_added(self.session(session.id), session, messages))

    def append(self, message_id: str, fragments: Sequence[Part]) -> None:
        with self._database.write() as connection:
            rows.append(connection, message_id, fragments)

    def amend(self, answer: Message) -> None:
        with self._database.write() as connection:
            if not rows.is_stored(connection, answer.id):
                raise no_such_message(answer.id)
            if answer.status is not Status.STREAMING:
                rows.fold(connection, answer.id)
            connection.execute(
                "UPDATE messages SET status = ?, finished = ?, model = ?, model_file = ?, details = ? WHERE id = ?",
                (
                    answer.status,
                    answer.finished,
                    encodable(answer.model),
                    encodable(answer.model_file),
                    rows.details_json(answer),
                    answer.id,
                ),
            )

    def enqueue(self, waiting: WaitingQuestion) -> None:
        self._refuse_read_only()
        self._outbox.add(waiting)

    def waiting(self, session_id: str) -> list[WaitingQuestion]:
        """Return the questions of a session that this store will ask, oldest first; not those of other programs."""
        return self._outbox.waiting(session_id)

    def redirect(self, session_id: str, follows: str, instead: str) -> None:
        self._outbox.redirect(session_id, follows, instead)

    def take_out(self, question_id: str) -> None:
        self._outbox.remove([question_id])

    def withdraw(self, session_id: str) -> list[Message]:
        """Move the waiting questions of a session to its tree, unanswered, and return them as messages."""
        with self._database.write() as connection:
            return self._enter(connection, self._outbox.waiting(session_id))

    def streaming(self, session_id: str) -> AbstractContextManager[None]:
        self._refuse_read_only()
        return self._locks.hold(session_id)

    def _refuse_read_only(self) -> None:
        """Raise StoreError where sessions can only be read, before a lock is tried, which would fail in other words."""
        if self.is_read_only:
            raise cannot_be_saved(self._database.file)

    def settle(self) -> int:
        """Mark the streaming answers of dead programs as interrupted, and return how many there were.

        Waiting questions of dead programs enter the tree, unanswered. A running program holds the lock of a session
        while it streams, and the lock of its outbox until it ends.
        """
        with self._database.read() as connection:
            sessions = connection.execute(
                "SELECT DISTINCT sessions.id FROM messages JOIN sessions ON sessions.n = messages.session "
                "WHERE messages.status = 'streaming'"
            ).fetchall()
        interrupted = sum(self._interrupt(session_id) for (session_id,) in sessions)
        with self._outbox.abandoned() as waiting:
            if waiting:
                with self._database.write() as connection:
                    self._enter(connection, waiting)
        return interrupted

    def find(self, prefix: str) -> Session:
        """Return the session whose id begins with `prefix`. Raises NotFound, or WrongUse if several do."""
        return self.session(self.listing.resolve(prefix))

    def find_to_resume(self, prefix: str) -> Session:
        """Return the same as `find`, but raise NotFound for a session in the trash, which may be deleted any day."""
        session = self.find(prefix)
        if session.trashed is not None:
            raise NotFound(
                _("The session {id} is in the trash.").format(id=session.id),
                recoveries=(Recovery(RecoveryKind.RESTORE, name=session.id),),
            )
        return session

    def sessions(self) -> list[Session]:
        """Return every session that is not in the trash, pinned ones first, then the newest."""
        return [listed.session for listed in self.listing.newest(limit=-1)]

    def archive(self, session_id: str) -> Archive:
        """Return a session with all its messages, as one value. Raises NotFound."""
        with self._database.read():
            return Archive(self.session(session_id), tuple(self.tree(session_id)))

    def add_archives(self, archives: Sequence[Archive]) -> int:
        """Store sessions in one transaction and return how many were new or got new messages.

        Existing sessions and messages with the same ids, including deleted ones, are not changed. If new messages were
        added below a session's leaf, the last of them becomes its leaf.
        """
        with self._database.write() as connection:
            return sum(self._add_archive(connection, archive) for archive in archives)

    def _add_archive(self, connection: sqlite3.Connection, archive: Archive) -> bool:
        session = archive.session
        is_new = not connection.execute("SELECT 1 FROM sessions WHERE id = ?", (session.id,)).fetchone()
        if is_new:
            self.create(session)
        missing = [message for message in archive.messages if not rows.is_stored(connection, message.id)]
        for message in missing:
            rows.insert(connection, message, below_deleted=True)
        if not is_new and any(message.id == session.leaf for message in missing):
            stored = self.session(session.id)
            if stored.leaf in (None, *(message.id for message in self.branch(session.leaf))):
                self.update(replace(stored, leaf=session.leaf, updated=max(stored.updated, session.updated)))
        return is_new or bool(missing)

    def duplicate(self, session_id: str) -> Session:
        """Copy a session with all its messages and return the copy. Raises NotFound."""
        with self._database.write() as connection:
            original, now = self.session(session_id), self._clock()
            copy = replace(
                original,
                id=self._new_id(),
                created=now,
                updated=now,
                title=_("{title} (copy)").format(title=original.title) if original.title else "",
                pinned=False,
                draft="",
                trashed=None,
            )
            self.create(copy)
            ids: dict[str | None, str | None] = {None: None}
            for message in self.tree(session_id):
                ids[message.id] = self._new_id()
                status = Status.INTERRUPTED if message.status is Status.STREAMING else message.status
                twin = replace(message, id=ids[message.id] or "", session=copy.id, parent=ids[message.parent])
                rows.insert(connection, replace(twin, status=status))
            copy = replace(copy, leaf=ids.get(original.leaf))
            self.update(copy)
        return copy

    def _interrupt(self, session_id: str) -> int:
        with self._locks.hold_if_free(session_id) as held:
            if not held:
                return 0
            with self._database.write() as connection:
                found = connection.execute(
                    "SELECT messages.id FROM messages JOIN sessions ON sessions.n = messages.session "
                    "WHERE sessions.id = ? AND messages.status = 'streaming'",
                    (session_id,),
                ).fetchall()
                for (message_id,) in found:
                    rows.fold(connection, message_id)
                    connection.execute("UPDATE messages SET status = 'interrupted' WHERE id = ?", (message_id,))
                return len(found)

    def _enter(self, connection: sqlite3.Connection, waiting: Sequence[WaitingQuestion]) -> list[Message]:
        """Add waiting questions, oldest first, to the trees of their sessions; return them as messages."""
        entered: list[Message] = []
        for session_id, own in _by_session(waiting).items():
            new = [each for each in own if not rows.is_stored(connection, each.id)]
            entered += self.tree(session_id).unanswered(new, self.session(session_id).leaf)
        self.add(*entered)
        self._outbox.remove([each.id for each in waiting])
        return entered


def _by_session(entries: Iterable[_OfSession]) -> dict[str, list[_OfSession]]:
    """Group messages or waiting questions by the ids of their sessions, preserving their order."""
    found: dict[str, list[_OfSession]] = {}
    for entry in entries:
        found.setdefault(entry.session, []).append(entry)
    return found


def _with_added(session: Session, new: Sequence[Message]) -> Session:
    """Return a session with the leaf, time and title that follow from its new messages."""
    question = next((message.text for message in new if message.role is Role.USER), "")
    last = new[-1]
    updated = max(session.updated, last.created)  # a question that has waited may be older
    return replace(session, leaf=last.id, updated=updated, title=session.title or title_of(question))
