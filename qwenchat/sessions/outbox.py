"""The outbox: questions that wait for their turn, stored on disk and not yet in the tree.

Each question belongs to the program that will ask it, which holds a lock as long as it runs. `abandoned` finds the
questions of programs that have died. This module never adds messages to a tree; `store` does.
"""

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from uuid import uuid4

from qwenchat.chat.memory import no_such_session
from qwenchat.chat.session import WaitingQuestion
from qwenchat.sessions.locks import SessionLocks
from qwenchat.sessions.rows import attachment_row, attachments_of
from qwenchat.storage.database import Database
from qwenchat.text.safe import encodable

_PREFIX = "outbox-"
"""The prefix of the names of its locks, which are in the same folder as those of sessions."""


class QuestionOutbox:
    """The waiting questions of one store. Safe from any thread; every method may raise StoreError."""

    def __init__(self, database: Database, locks: SessionLocks) -> None:
        self._database, self._locks = database, locks
        self._owner = ""
        """The name of this store's lock; empty before its first question."""
        self._owner_lock = ExitStack()
        self._guard = threading.Lock()

    def add(self, waiting: WaitingQuestion) -> None:
        """Store a question. Raises NotFound for an unknown session."""
        owner = self._acquire_owner()
        with self._database.write() as connection:
            added = connection.execute(
                "INSERT INTO outbox (id, session, follows, created, owner, text) "
                "SELECT ?, n, ?, ?, ?, ? FROM sessions WHERE id = ?",
                (waiting.id, waiting.follows, waiting.created, owner, encodable(waiting.text), waiting.session),
            )
            if not added.rowcount:
                raise no_such_session(waiting.session)
            connection.executemany(
                "INSERT INTO outbox_files (question, blob, name, media_type, in_parts) VALUES (?,?,?,?,?)",
                [(added.lastrowid, *attachment_row(connection, each)) for each in waiting.attachments],
            )

    def waiting(self, session_id: str) -> list[WaitingQuestion]:
        """Return the questions of a session that this store will ask, oldest first."""
        with self._database.read() as connection:
            return _load(connection, [self._owner], session_id)

    def redirect(self, session_id: str, follows: str, instead: str) -> None:
        """Let the questions of a session that follow a message follow another one instead."""
        with self._database.write() as connection:
            connection.execute(
                "UPDATE outbox SET follows = ? "
                "WHERE follows = ? AND owner = ? AND session IN (SELECT n FROM sessions WHERE id = ?)",
                (instead, follows, self._owner, session_id),
            )

    def remove(self, ids: Sequence[str]) -> None:
        """Delete questions that have become messages or are not to be asked; other ids are ignored."""
        with self._database.write() as connection:
            connection.executemany("DELETE FROM outbox WHERE id = ?", [(each,) for each in ids])

    @contextmanager
    def abandoned(self) -> Iterator[list[WaitingQuestion]]:
        """Yield the questions of programs that no longer run, oldest first; no other program gets them meanwhile."""
        with self._database.read() as connection:
            owners = {owner for (owner,) in connection.execute("SELECT DISTINCT owner FROM outbox")}
        owners |= set(self._locks.names(_PREFIX))  # a program that was killed leaves its file behind
        with ExitStack() as held:
            dead = [each for each in owners - {self._owner} if held.enter_context(self._locks.hold_if_free(each))]
            with self._database.read() as connection:
                waiting = _load(connection, dead)
            yield waiting

    def close(self) -> None:
        """Release the waiting questions to the next program that opens the database. May be called twice."""
        with self._guard:
            self._owner = ""
            self._owner_lock.close()

    def _acquire_owner(self) -> str:
        """Return the name of this store's lock, which is acquired on the first call."""
        with self._guard:
            while not self._owner:
                owner = f"{_PREFIX}{uuid4()}"
                # Another program may be checking at this moment whether the new lock is free.
                if self._owner_lock.enter_context(self._locks.hold_if_free(owner)):
                    self._owner = owner
            return self._owner


def _load(connection: sqlite3.Connection, owners: list[str], session_id: str | None = None) -> list[WaitingQuestion]:
    """Return the questions of some owners, of one session or of all sessions, oldest first."""
    found = connection.execute(
        "SELECT outbox.n, outbox.id, sessions.id, follows, text, outbox.created "
        "FROM outbox JOIN sessions ON sessions.n = outbox.session "
        "WHERE owner IN (SELECT value FROM json_each(?)) AND sessions.id = ifnull(?, sessions.id) ORDER BY outbox.n",
        (json.dumps(owners), session_id),
    ).fetchall()
    return [
        WaitingQuestion(
            id=question_id,
            session=session,
            follows=follows,
            text=text,
            created=created,
            attachments=attachments_of(connection, "outbox_files WHERE question = ? ORDER BY n", n),
        )
        for n, question_id, session, follows, text, created in found
    ]
