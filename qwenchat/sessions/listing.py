"""Lists sessions by time or tag, and finds one by the beginning of its id. It is read-only and reads no messages.

A session that holds nothing, such as one that was stored for a draft that was emptied since, is not listed.
"""

from msgspec import Struct

from qwenchat.chat.memory import no_such_session
from qwenchat.chat.session import Session
from qwenchat.errors import WrongUse
from qwenchat.i18n import _, enumerated
from qwenchat.sessions import rows
from qwenchat.storage.database import Database
from qwenchat.text.safe import encodable

_TAGGED = "EXISTS (SELECT 1 FROM json_each(sessions.tags) WHERE value = :tag)"
_HOLDS_SOMETHING = """(
    title <> '' OR trim(draft) <> '' OR tags <> '[]' OR pinned
    OR EXISTS (SELECT 1 FROM messages WHERE messages.session = sessions.n)
    OR EXISTS (SELECT 1 FROM outbox WHERE outbox.session = sessions.n))"""
_SHORTEST = 8
"""The minimum number of characters of an id that are shown."""


class ListedSession(Struct, frozen=True):
    """A session and the number of its messages in all branches."""

    session: Session
    messages: int


class SessionListing:
    """The list of all sessions. Every method may raise StoreError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def newest(self, limit: int = 50, offset: int = 0, *, trashed: bool = False, tag: str = "") -> list[ListedSession]:
        """Return a page of sessions: pinned ones first, then the last updated; in the trash, the last deleted first."""
        order = "trashed DESC" if trashed else "pinned DESC, updated DESC"
        query = f"""
            SELECT (SELECT count(*) FROM messages WHERE messages.session = sessions.n AND removed IS NULL),
                {rows.SESSION_COLUMNS}
            FROM sessions WHERE {_where(trashed, tag)} ORDER BY {order}, n DESC LIMIT :limit OFFSET :offset
        """
        with self._database.read() as connection:
            found = connection.execute(query, {"tag": encodable(tag), "limit": limit, "offset": offset})
            return [ListedSession(rows.session_of(row), messages) for messages, *row in found]

    def count(self, *, trashed: bool = False, tag: str = "") -> int:
        """Return the number of sessions that `newest` pages through."""
        with self._database.read() as connection:
            query = f"SELECT count(*) FROM sessions WHERE {_where(trashed, tag)}"
            number: int = connection.execute(query, {"tag": encodable(tag)}).fetchone()[0]
        return number

    def latest(self) -> Session | None:
        """Return the most recently updated session that is not in the trash; None if there is none."""
        with self._database.read() as connection:
            found = connection.execute(
                f"SELECT {rows.SESSION_COLUMNS} FROM sessions WHERE {_where(trashed=False)} "
                "ORDER BY updated DESC, n DESC LIMIT 1"
            ).fetchone()
            return rows.session_of(found) if found else None

    def resolve(self, prefix: str) -> str:
        """Return the id that begins with `prefix`. Raises NotFound, or WrongUse if several do."""
        prefix = encodable(prefix).strip().lower()
        with self._database.read() as connection:
            found = connection.execute(
                "SELECT id, title FROM sessions WHERE id >= ? AND id < ? ORDER BY id LIMIT 4",
                (prefix, prefix + "\U0010ffff"),
            ).fetchall()
        if not found or not prefix:
            raise no_such_session(prefix)
        if len(found) > 1 and found[0][0] != prefix:
            raise WrongUse(
                _("Several session ids begin with {prefix}: {ids}.").format(
                    prefix=prefix, ids=enumerated(session_id for session_id, _title in found[:3])
                ),
                _("Give more characters of the id."),
            )
        session_id: str = found[0][0]
        return session_id

    def short(self, session_id: str) -> str:
        """Return the shortest prefix of an id that identifies it."""
        with self._database.read() as connection:
            neighbours = connection.execute(
                "SELECT (SELECT max(id) FROM sessions WHERE id < :id), (SELECT min(id) FROM sessions WHERE id > :id)",
                {"id": session_id},
            ).fetchone()
        shared = max(_shared(session_id, other) for other in neighbours)
        return session_id[: max(shared + 1, _SHORTEST)]

    def tags(self) -> dict[str, int]:
        """Return every tag with the number of its sessions outside the trash, sorted by name."""
        with self._database.read() as connection:
            return dict(
                connection.execute(
                    "SELECT value, count(*) FROM sessions, json_each(sessions.tags) "
                    "WHERE trashed IS NULL GROUP BY value ORDER BY value"
                ).fetchall()
            )


def _where(trashed: bool, tag: str = "") -> str:
    listed = "trashed IS NOT NULL" if trashed else f"trashed IS NULL AND {_HOLDS_SOMETHING}"
    return listed + (f" AND {_TAGGED}" if tag else "")


def _shared(one: str, other: str | None) -> int:
    """Return the length of the common prefix of two ids."""
    pairs = zip(one, other or "", strict=False)
    return next((n for n, (mine, its) in enumerate(pairs) if mine != its), min(len(one), len(other or "")))
