"""Deleting sessions for good, together with what is stored of them outside the database: their KV caches."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qwenchat.chat.ids import unix_ms

if TYPE_CHECKING:
    from qwenchat.engines.local.saved_kv import SavedKV
    from qwenchat.sessions.store import Store

_DAY_MS = 86_400_000


def delete_forever(store: "Store", saved_kv: "SavedKV", session_ids: Sequence[str]) -> None:
    """Delete sessions. Raises NotFound and StoreError."""
    store.trash.delete_forever(*session_ids)
    _forget(saved_kv, session_ids)


def empty_old_trash(store: "Store", saved_kv: "SavedKV", days: int) -> None:
    """Delete what has been in the trash for more than `days`. Raises StoreError and OSError."""
    _forget(saved_kv, store.trash.empty(max(0, unix_ms() - days * _DAY_MS)))


def _forget(saved_kv: "SavedKV", session_ids: Sequence[str]) -> None:
    for session_id in session_ids:
        saved_kv.forget_session(session_id)
