"""The trash: deletes sessions and messages, restores them, and deletes them forever.

Deleting forever also deletes attached files that nothing else uses, and leaves no word of what was deleted in the
files of the database. Before many sessions are deleted at once, the database is copied (`storage.migrate`).
"""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from qwenchat.chat.ids import Clock
from qwenchat.chat.memory import no_such_message, no_such_session
from qwenchat.chat.tree import Tree
from qwenchat.sessions.locks import SessionLocks
from qwenchat.sessions.rows import TREE, drop_blobs, load
from qwenchat.storage.database import Database
from qwenchat.storage.migrate import safety_copy

CONFIRM_FROM = 10
"""Deleting at least this many sessions asks for confirmation; deleting them forever makes a safety copy first."""
_DAY_MS = 86_400_000
_BELOW = """
WITH RECURSIVE below (n) AS (
    SELECT n FROM messages WHERE id = ? AND removed IS NULL
    UNION ALL
    SELECT messages.n FROM below JOIN messages ON messages.parent = below.n AND messages.removed IS NULL
)"""
_RESTORABLE = """
root.removed = root.n
AND NOT EXISTS (SELECT 1 FROM messages AS above WHERE above.n = root.parent AND above.removed IS NOT NULL)"""
_OLD_MESSAGES = "SELECT n FROM messages WHERE removed IS NOT NULL AND removed_at < ?"


class Trash:
    """Deletes and restores. Every method may raise StoreError, and NotFound for an unknown id."""

    def __init__(self, database: Database, locks: SessionLocks, clock: Clock, deleted: Callable[[str], object]) -> None:
        """`deleted` is called with the id of each session that was deleted forever."""
        self._database, self._locks, self._clock, self._deleted = database, locks, clock, deleted

    def put(self, *session_ids: str) -> None:
        """Move sessions to the trash."""
        self._mark(session_ids, self._clock())

    def restore(self, *session_ids: str) -> None:
        """Restore sessions from the trash."""
        self._mark(session_ids, None)

    def delete_forever(self, *session_ids: str) -> None:
        """Delete sessions, in the trash or not. Raises StoreError if an answer is streaming into one of them."""
        if len(session_ids) >= CONFIRM_FROM:
            safety_copy(self._database.file, "deleting")
        with self._database.write() as connection, ExitStack() as held:
            for session_id in _streaming(connection).intersection(session_ids):
                held.enter_context(self._locks.hold(session_id))
            for session_id in session_ids:
                gone = connection.execute("DELETE FROM sessions WHERE id = ?", (session_id,))
                if not gone.rowcount:
                    raise no_such_session(session_id)
            drop_blobs(connection)
            _drop_words(connection)
        for session_id in session_ids:
            self._deleted(session_id)
        self._database.empty_log()

    def empty(self, before: int) -> list[str]:
        """Delete forever the sessions and messages that were deleted before a time; return the sessions' ids.

        A session into which an answer is streaming is skipped. A child of a deleted message that was not deleted itself
        becomes the first message of its branch.
        """
        with self._database.read() as connection:
            many = len(_older_than(connection, before))
            if not many and not connection.execute(f"{_OLD_MESSAGES} LIMIT 1", (before,)).fetchone():
                return []
        if many >= CONFIRM_FROM:
            safety_copy(self._database.file, "emptying")
        with self._database.write() as connection, ExitStack() as held:
            streaming = _streaming(connection)
            gone = [
                session_id
                for session_id in _older_than(connection, before)
                if session_id not in streaming or held.enter_context(self._locks.hold_if_free(session_id))
            ]
            connection.executemany("DELETE FROM sessions WHERE id = ?", [(session_id,) for session_id in gone])
            connection.execute(
                f"UPDATE messages SET parent = NULL WHERE parent IN ({_OLD_MESSAGES}) AND n NOT IN ({_OLD_MESSAGES})",
                (before, before),
            )
            connection.execute(f"DELETE FROM messages WHERE n IN ({_OLD_MESSAGES})", (before,))
            drop_blobs(connection)
            _drop_words(connection)
        for session_id in gone:
            self._deleted(session_id)
        self._database.empty_log()
        return gone

    def empty_after(self, days: int) -> None:
        """Delete forever all sessions and messages that were deleted more than `days` days ago."""
        self.empty(max(0, self._clock() - days * _DAY_MS))

    def remove_message(self, message_id: str) -> str | None:
        """Delete a message and all messages below it, and return the session's new leaf.

        If the open branch was deleted, the branch of the newest other variant becomes the open one, or else the parent.
        """
        with self._database.write() as connection:
            found = connection.execute(
                "SELECT sessions.n, sessions.id, leaf FROM messages JOIN sessions ON sessions.n = messages.session "
                "WHERE messages.id = ? AND removed IS NULL",
                (message_id,),
            ).fetchone()
            if found is None:
                raise no_such_message(message_id)
            session, session_id = found[:2]
            leaf: str | None = found[2]
            tree = Tree(load(connection, TREE, session, session_id))
            connection.execute(
                f"{_BELOW} UPDATE messages SET removed_at = ?, "
                "removed = (SELECT n FROM messages WHERE id = ?) WHERE n IN below",
                (message_id, self._clock(), message_id),
            )
            if message_id in {message.id for message in tree.branch(leaf)}:
                leaf = _leaf_beside(tree, message_id)
                connection.execute("UPDATE sessions SET leaf = ? WHERE n = ?", (leaf, session))
        return leaf

    def last_message(self, session_id: str) -> str | None:
        """Return the last deleted message of a session that `restore_message` can restore; None if there is none."""
        with self._database.read() as connection:
            found = connection.execute(
                "SELECT root.id FROM messages AS root JOIN sessions ON sessions.n = root.session "
                f"WHERE sessions.id = ? AND {_RESTORABLE} "
                "ORDER BY removed_at DESC, root.n DESC LIMIT 1",
                (session_id,),
            ).fetchone()
        return str(found[0]) if found else None

    def restore_message(self, message_id: str) -> None:
        """Undo one `remove_message`: restore the message and those deleted with it. Its parent must not be deleted."""
        with self._database.write() as connection:
            back = connection.execute(
                "UPDATE messages SET removed = NULL, removed_at = NULL "
                f"WHERE removed = (SELECT n FROM messages AS root WHERE id = ? AND {_RESTORABLE})",
                (message_id,),
            )
            if not back.rowcount:
                raise no_such_message(message_id)

    def _mark(self, session_ids: Sequence[str], when: int | None) -> None:
        with self._database.write() as connection:
            for session_id in session_ids:
                marked = connection.execute("UPDATE sessions SET trashed = ? WHERE id = ?", (when, session_id))
                if not marked.rowcount:
                    raise no_such_session(session_id)


def _streaming(connection: sqlite3.Connection) -> set[str]:
    query = "SELECT id FROM sessions WHERE n IN (SELECT session FROM messages WHERE status = 'streaming')"
    return {session_id for (session_id,) in connection.execute(query)}


def _older_than(connection: sqlite3.Connection, before: int) -> list[str]:
    """Return the ids of sessions that were moved to the trash before a time (Unix milliseconds)."""
    found = connection.execute("SELECT id FROM sessions WHERE trashed < ? ORDER BY trashed", (before,))
    return [session_id for (session_id,) in found]


def _drop_words(connection: sqlite3.Connection) -> None:
    """Remove the words of deleted rows from the index, where FTS5 holds them until it merges its segments."""
    for index in ("words", "titles", "reasoning"):
        connection.execute(f"INSERT INTO {index} ({index}) VALUES ('optimize')")


def _leaf_beside(tree: Tree, message_id: str) -> str | None:
    others = [variant.id for variant in tree.variants(message_id) if variant.id != message_id]
    return tree.leaf_below(others[-1]) if others else tree[message_id].parent
