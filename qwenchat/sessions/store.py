"""Conversations on disk: implements `chat.ports.SessionStore` over one SQLite database.

A streaming answer grows by short rows (`pieces`) and becomes one text when it ends, so that saving a piece costs the
same however long the answer is. Which sessions there are is `shelf`, finding words is `search`, deleting is `trash`.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from qwenchat.chat.ids import Clock, NewId, UUIDv7, unix_ms
from qwenchat.chat.memory import no_such_message, no_such_session
from qwenchat.chat.message import Message, Role, Status
from qwenchat.chat.session import Session, title_of
from qwenchat.chat.tree import Tree
from qwenchat.errors import NotFound
from qwenchat.i18n import _
from qwenchat.sessions import rows
from qwenchat.sessions.archive import Archive
from qwenchat.sessions.database import BUSY_S, Database
from qwenchat.sessions.listing import Shelf
from qwenchat.sessions.locks import SessionLocks
from qwenchat.sessions.migrate import migrate
from qwenchat.sessions.search import Search
from qwenchat.sessions.trash import Trash
from qwenchat.text.safe import whole

_INSERT_SESSION = f"INSERT INTO sessions ({rows.SESSION_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)"


class Store:
    """All conversations. Safe from any thread and beside other programs; every method may raise StoreError."""

    keeps = True

    def __init__(
        self, file: Path, *, clock: Clock = unix_ms, new_id: NewId | None = None, busy_s: float = BUSY_S
    ) -> None:
        migrate(file, busy_s=busy_s)
        self._database = Database(file, busy_s)
        self._locks = SessionLocks(file.parent / "locks")
        self._clock, self._new_id = clock, new_id or UUIDv7(clock)
        self.shelf = Shelf(self._database)
        self.search = Search(self._database)
        self.trash = Trash(self._database, self._locks, clock)
        self.settle()

    def close(self) -> None:
        """Close the database. May be called twice."""
        self._database.close()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Make all that this thread writes in the block one transaction: everything is kept or nothing is."""
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
        """Change some fields of a session (`title`, `tags`, `pinned`, `draft`, `model`...), leave the rest as it is.

        Unlike `update` it can't undo what another program changed meanwhile. Raises NotFound.
        """
        with self._database.write():
            session = replace(self.session(session_id), **fields)
            self.update(session)
        return session

    def tree(self, session_id: str) -> Tree:
        with self._database.read() as connection:
            found = connection.execute("SELECT n FROM sessions WHERE id = ?", (session_id,)).fetchone()
            return Tree(rows.load(connection, rows.TREE, found[0], session_id) if found else ())

    def branch(self, leaf: str | None) -> list[Message]:
        with self._database.read() as connection:
            found = connection.execute(
                "SELECT sessions.id FROM messages JOIN sessions ON sessions.n = messages.session WHERE messages.id = ?",
                (leaf,),
            ).fetchone()
            return rows.load(connection, rows.BRANCH, leaf, found[0]) if found else []

    def add(self, *new: Message) -> None:
        """Keep new messages in one transaction and make the last one their session's leaf.

        A message comes after its parent. Raises NotFound for an unknown session and for a parent that
        is unknown or deleted.
        """
        with self._database.write() as connection:
            for message in new:
                rows.insert(connection, message)
            for session_id in dict.fromkeys(message.session for message in new):
                own = [message for message in new if message.session == session_id]
                self.update(_written_to(self.session(session_id), own))

    def move(self, *questions: Message) -> None:
        with self._database.write() as connection:
            if rows.take_out(connection, {question.id for question in questions}):
                self.add(*questions)  # in new rows, as a message comes after its parent

    def append(self, message_id: str, text: str, token_ids: Sequence[int]) -> None:
        with self._database.write() as connection:
            added = connection.execute(
                "INSERT INTO pieces (message, token_ids, text) "
                "SELECT n, ?, ? FROM messages WHERE id = ? AND status = 'streaming'",
                (rows.packed(token_ids), whole(text), message_id),
            )
            if not added.rowcount:
                raise no_such_message(message_id)

    def amend(self, answer: Message) -> None:
        with self._database.write() as connection:
            changed = connection.execute(
                "UPDATE messages SET status = ?, finished = ?, model = ?, model_file = ?, details = ? WHERE id = ?",
                (
                    answer.status,
                    answer.finished,
                    whole(answer.model),
                    whole(answer.model_file),
                    rows.details_json(answer),
                    answer.id,
                ),
            )
            if not changed.rowcount:
                raise no_such_message(answer.id)
            if answer.status is not Status.STREAMING:
                rows.fold(connection, answer.id)

    def streaming(self, session_id: str) -> AbstractContextManager[None]:
        return self._locks.hold(session_id)

    def settle(self) -> int:
        """Mark answers as interrupted whose program is gone, and return how many there were.

        A living program holds its session's lock for as long as it streams.
        """
        with self._database.read() as connection:
            sessions = connection.execute(
                "SELECT DISTINCT sessions.id FROM messages JOIN sessions ON sessions.n = messages.session "
                "WHERE messages.status = 'streaming'"
            ).fetchall()
        return sum(self._interrupt(session_id) for (session_id,) in sessions)

    def find(self, prefix: str) -> Session:
        """Return the session whose id begins with `prefix`. Raises NotFound, or WrongUse where several do."""
        return self.session(self.shelf.resolve(prefix))

    def find_to_go_on(self, prefix: str) -> Session:
        """Return what `find` does. Raises NotFound for a session in the trash too: it may go any day."""
        session = self.find(prefix)
        if session.trashed is not None:
            raise NotFound(
                _("The session {id} is in the trash.").format(id=session.id),
                _("`qwenchat sessions restore {id}` takes it back.").format(id=session.id),
            )
        return session

    def sessions(self) -> list[Session]:
        """Return every session that is not in the trash, pinned ones first, then the newest."""
        return [listed.session for listed in self.shelf.newest(limit=-1)]

    def archive(self, session_id: str) -> Archive:
        """Return a session with all its messages, as one value. Raises NotFound."""
        with self._database.read():
            return Archive(self.session(session_id), tuple(self.tree(session_id)))

    def add_archives(self, archives: Sequence[Archive]) -> int:
        """Keep sessions in one transaction and return how many were new or got new messages.

        Sessions and messages whose ids are there already, deleted ones too, stay as they are; where a conversation has
        grown below the message that it was read to, it is read on to its new end.
        """
        with self._database.write() as connection:
            return sum(self._add_archive(connection, archive) for archive in archives)

    def _add_archive(self, connection: sqlite3.Connection, archive: Archive) -> bool:
        session = archive.session
        is_new = not connection.execute("SELECT 1 FROM sessions WHERE id = ?", (session.id,)).fetchone()
        if is_new:
            self.create(session)
        missing = [message for message in archive.messages if not rows.is_kept(connection, message.id)]
        for message in missing:
            rows.insert(connection, message, below_deleted=True)
        if not is_new and any(message.id == session.leaf for message in missing):
            here = self.session(session.id)
            if here.leaf in (None, *(message.id for message in self.branch(session.leaf))):
                self.update(replace(here, leaf=session.leaf, updated=max(here.updated, session.updated)))
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
                    connection.execute("UPDATE messages SET status = 'interrupted' WHERE id = ?", (message_id,))
                    rows.fold(connection, message_id)
                return len(found)


def _written_to(session: Session, new: Sequence[Message]) -> Session:
    question = next((message.text for message in new if message.role is Role.USER), "")
    last = new[-1]
    return replace(session, leaf=last.id, updated=last.created, title=session.title or title_of(question))
