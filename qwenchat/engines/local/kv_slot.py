"""The slot of a worker's KV cache: saves and restores it when requests of different cache keys take turns.

A slot belongs to one loaded model and ends with its worker. `saved_kv` decides about files.
"""

import asyncio
import os

from qwenchat.engines.local.link import WorkerLink
from qwenchat.engines.local.protocol import Hello, KVTokens, LoadPlan, RestoreKV, SaveKV
from qwenchat.engines.local.saved_kv import WORTH_SAVING, ExactPrefix, SavedKV, discard


class KVSlot:
    """Tracks which cache key owns the worker's KV cache, and how many tokens are in it."""

    def __init__(self, saved: SavedKV, worker: WorkerLink, plan: LoadPlan, hello: Hello) -> None:
        self._saved, self._worker, self._plan = saved, worker, plan
        self._binding = f"{hello.binding} {hello.features}"
        self._computed_with = (
            f"{plan.threads} threads, {plan.gpu_layers} GPU layers, extra buffers: {plan.extra_buffers}"
        )
        """What else changes the last bits of a result."""
        self._cache_key = ""
        self.tokens = 0
        """Tokens of the cache key's last request that are in the KV cache."""

    async def switch_to(self, cache_key: str) -> None:
        """Save the KV cache of the current cache key, and restore that of `cache_key`.

        Nothing is saved or restored for an empty key, nor where several requests are served together, or the worker is
        another program's. Nor is it where peers hold a part of the KV cache, as moving that over the network takes
        longer than to compute it again. Raises EngineDied.
        """
        if self._plan.peers or self._plan.parallel > 1 or self._worker.is_shared:
            return
        if cache_key == self._cache_key:
            return
        await self.save()
        self._cache_key, self.tokens = cache_key, 0
        if not cache_key:
            return
        path = self._saved.path(cache_key, self._plan, self._binding)
        exact = await asyncio.to_thread(self._saved.check, path)
        if exact is not None:
            restored = False
            exact_tokens = exact.tokens if exact.computed_with == self._computed_with else 0
            try:
                request = RestoreKV(self._worker.number(), os.fsencode(path), exact_tokens)
                reply = await self._worker.ask_once(request)
                restored = isinstance(reply, KVTokens) and reply.tokens > 0
            finally:
                if not restored:
                    self._saved.remove(path)

    async def save(self) -> None:
        """Write the KV cache to disk if it is large enough to be worth saving. Raises EngineDied."""
        if not self._cache_key or self.tokens < WORTH_SAVING:
            return
        path = self._saved.path(self._cache_key, self._plan, self._binding)
        temporary = self._saved.temporary(path)
        if temporary is None:
            return
        reply = await self._worker.ask_once(SaveKV(self._worker.number(), os.fsencode(temporary)))
        if isinstance(reply, KVTokens) and reply.tokens:
            exact = ExactPrefix(reply.exact_tokens, self._computed_with)
            await asyncio.to_thread(self._saved.persist, temporary, path, exact)
        else:
            discard(temporary)
