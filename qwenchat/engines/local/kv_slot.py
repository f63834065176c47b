"""Whose conversation a worker's KV cache holds: each session finds its own again, from memory or from disk.

One resident belongs to one loaded model and ends with its worker. It decides nothing about files: `saved_kv` does.
"""

import asyncio
import os

from qwenchat.engines.local.process import WorkerProcess
from qwenchat.engines.local.protocol import Hello, KVTokens, LoadPlan, RestoreKV, SaveKV
from qwenchat.engines.local.saved_kv import WORTH_SAVING, SavedKV, discard


class Resident:
    """The session in the KV cache, if any."""

    def __init__(self, saved: SavedKV, worker: WorkerProcess, plan: LoadPlan, hello: Hello) -> None:
        self._saved, self._worker, self._plan = saved, worker, plan
        self._binding = f"{hello.binding} {hello.features}"
        self._session = ""
        self.tokens = 0
        """How many of its tokens are there."""

    async def take_over(self, session: str) -> None:
        """Give the KV cache to a session: save what another one left in it, restore what this one had.

        Without a name a session leaves nothing. Raises EngineDied.
        """
        if session == self._session:
            return
        await self.save()
        self._session, self.tokens = session, 0
        if not session:
            return
        state = self._saved.path(session, self._plan, self._binding)
        if await asyncio.to_thread(self._saved.usable, state):
            restored = False
            try:
                reply = await self._worker.ask_once(RestoreKV(self._worker.number(), os.fsencode(state)))
                restored = isinstance(reply, KVTokens) and reply.tokens > 0
            finally:
                if not restored:
                    self._saved.forget(state)

    async def save(self) -> None:
        """Write what is there to disk, where it is worth that. Raises EngineDied."""
        if not self._session or self.tokens < WORTH_SAVING:
            return
        path = self._saved.path(self._session, self._plan, self._binding)
        temporary = self._saved.temporary(path)
        if temporary is None:
            return
        reply = await self._worker.ask_once(SaveKV(self._worker.number(), os.fsencode(temporary)))
        if isinstance(reply, KVTokens) and reply.tokens:
            await asyncio.to_thread(self._saved.keep, temporary, path, reply.tokens)
        else:
            discard(temporary)
