"""Lists sessions: newest first, by id or its beginning, by tag. It reads only, and no messages."""

from dataclasses import dataclass

from qwenchat.chat.memory import no_such_session
from qwenchat.chat.session import Session
from qwenchat.errors import WrongUse
from qwenchat.i18n import _
from qwenchat.sessions import rows
from qwenchat.sessions.database import Database
from qwenchat.text.safe import encodable

_TAGGED = "EXISTS (SELECT 1 FROM json_each(sessions.tags) WHERE value = :tag)"
_SHORTEST = 8
"""Characters of an id that are shown at least."""


@dataclass(frozen=True, slots=True)
class ListedSession:
    """A session and how many messages it has, in all its branches."""

    session: Session
    messages: int


class SessionListing:
    """All sessions as a list. Every method may raise StoreError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def newest(self, limit: int = 50, offset: int = 0, *, trashed: bool = False, tag: str = "") -> list[ListedSession]:
        """Return a page of sessions: pinned ones first, then those last written to; trashed ones by when they went."""
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
        """Return how many sessions `newest` goes through."""
        with self._database.read() as connection:
            query = f"SELECT count(*) FROM sessions WHERE {_where(trashed, tag)}"
            number: int = connection.execute(query, {"tag": encodable(tag)}).fetchone()[0]
        return number

    def latest(self) -> Session | None:
        """Return the session that was written to last, if there is any outside the trash."""
        with self._database.read() as connection:
            found = connection.execute(
                f"SELECT {rows.SESSION_COLUMNS} FROM sessions WHERE trashed IS NULL "
                "ORDER BY updated DESC, n DESC LIMIT 1"
            ).fetchone()
            return rows.session_of(found) if found else None

    def resolve(self, prefix: str) -> str:
        """Return the id that begins with `prefix`. Raises NotFound, or WrongUse where several do."""
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
                _("Several sessions begin with {prefix}: {ids}.").format(
                    prefix=prefix, ids=", ".join(session_id for session_id, _title in found[:3])
                ),
                _("Give more characters of the one you mean."),
            )
        session_id: str = found[0][0]
        return session_id

    def short(self, session_id: str) -> str:
        """Return the shortest beginning of an id that no other session has."""
        with self._database.read() as connection:
            beside = connection.execute(
                "SELECT (SELECT max(id) FROM sessions WHERE id < :id), (SELECT min(id) FROM sessions WHERE id > :id)",
                {"id": session_id},
            ).fetchone()
        shared = max(_shared(session_id, other) for other in beside)
        return session_id[: max(shared + 1, _SHORTEST)]

    def tags(self) -> dict[str, int]:
        """Return every tag with the number of its sessions outside the trash, in the order of their names."""
        with self._database.read() as connection:
            return dict(
                connection.execute(
                    "SELECT value, count(*) FROM sessions, json_each(sessions.tags) "
                    "WHERE trashed IS NULL GROUP BY value ORDER BY value"
                ).fetchall()
            )


def _where(trashed: bool, tag: str) -> str:
    return f"trashed IS {'NOT ' if trashed else ''}NULL" + (f" AND {_TAGGED}" if tag else "")


def _shared(one: str, other: str | None) -> int:
    """Return how many characters two ids begin with alike."""
    pairs = zip(one, other or "", strict=False)
    return next((n for n, (mine, its) in enumerate(pairs) if mine != its), min(len(one), len(other or "")))
