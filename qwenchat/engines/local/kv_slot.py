"""The one slot of a worker's KV cache: each request finds what its cache key left, in memory or on disk.

A slot belongs to one loaded model and ends with its worker. It decides nothing about files: `saved_kv` does.
"""

import asyncio
import os

from qwenchat.engines.local.process import WorkerProcess
from qwenchat.engines.local.protocol import Hello, KVTokens, LoadPlan, RestoreKV, SaveKV
from qwenchat.engines.local.saved_kv import WORTH_SAVING, SavedKV, discard


class KVSlot:
    """What the KV cache holds, and for which cache key."""

    def __init__(self, saved: SavedKV, worker: WorkerProcess, plan: LoadPlan, hello: Hello) -> None:
        self._saved, self._worker, self._plan = saved, worker, plan
        self._binding = f"{hello.binding} {hello.features}"
        self._cache_key = ""
        self.tokens = 0
        """How many tokens of the cache key's last request the KV cache holds."""

    async def take_over(self, cache_key: str) -> None:
        """Give the KV cache to a cache key: save what another one left in it, restore what this one had.

        Nothing is written for an empty key. Raises EngineDied.
        """
        if cache_key == self._cache_key:
            return
        await self.save()
        self._cache_key, self.tokens = cache_key, 0
        if not cache_key:
            return
        state = self._saved.path(cache_key, self._plan, self._binding)
        if await asyncio.to_thread(self._saved.usable, state):
            restored = False
            try:
                reply = await self._worker.ask_once(RestoreKV(self._worker.number(), os.fsencode(state)))
                restored = isinstance(reply, KVTokens) and reply.tokens > 0
            finally:
                if not restored:
                    self._saved.remove(state)

    async def save(self) -> None:
        """Write the KV cache to disk, where it is worth that. Raises EngineDied."""
        if not self._cache_key or self.tokens < WORTH_SAVING:
            return
        path = self._saved.path(self._cache_key, self._plan, self._binding)
        temporary = self._saved.temporary(path)
        if temporary is None:
            return
        reply = await self._worker.ask_once(SaveKV(self._worker.number(), os.fsencode(temporary)))
        if isinstance(reply, KVTokens) and reply.tokens:
            await asyncio.to_thread(self._saved.persist, temporary, path, reply.tokens)
        else:
            discard(temporary)
