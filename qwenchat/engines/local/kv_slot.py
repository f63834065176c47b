"""The slot of a worker's KV cache: has in it, before each request, as much of the prompt as was ever saved.

A slot belongs to one loaded model and ends with its worker. `saved_kv` decides about files.
"""

import asyncio
import os
from pathlib import Path

from qwenchat.engines.local.link import WorkerLink
from qwenchat.engines.local.protocol import (
    CompareKV,
    Hello,
    KVCompared,
    KVTokens,
    LoadPlan,
    RestoreKV,
    SaveKV,
    WirePart,
)
from qwenchat.engines.local.saved_kv import WORTH_READING, WORTH_SAVING, ExactPrefix, SavedKV, discard


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

    async def prepare(self, cache_key: str, prompt: list[WirePart]) -> None:
        """Have as much of a prompt in the KV cache as was ever saved, and save what would be lost by that.

        At another cache key than before, the KV cache is saved for the one before. The saved one that has most of the
        prompt is restored, of whatever key: so a file or a system prompt that an earlier chat began with is found
        again. If no file is worth it, and the prompt drops most of the KV cache, such as the tools, that is saved.

        Nothing is saved or restored for an empty key, nor where several requests are served together, or the worker is
        another program's. Nor is it where peers hold a part of the KV cache, as moving that over the network takes
        longer than to compute it again. Raises EngineDied.
        """
        if self._plan.peers or self._plan.parallel > 1 or self._worker.is_shared:
            return
        if cache_key != self._cache_key:
            await self.save()
            self._cache_key, self.tokens = cache_key, 0
        if not cache_key:
            return
        now = await self._compare(prompt, [])
        if not await self._restore_best(prompt, now) and self.tokens - now.cached > max(now.cached, WORTH_SAVING):
            await self.save()

    async def _compare(self, prompt: list[WirePart], files: list[Path]) -> KVCompared:
        """Compare a prompt with the KV cache and with files."""
        request = CompareKV(self._worker.number(), prompt, [os.fsencode(file) for file in files])
        reply = await self._worker.ask_once(request)
        return reply if isinstance(reply, KVCompared) else KVCompared(request.id, 0, 0, [0] * len(files))

    async def _restore_best(self, prompt: list[WirePart], now: KVCompared) -> bool:
        """Restore the file that has most of a prompt, the smallest of several; false if none is worth it."""
        if now.prompt - now.cached < WORTH_READING:
            return False
        sizes = await asyncio.to_thread(self._saved.complete, self._plan, self._binding)
        files = list(sizes)
        if not files:
            return False
        saved = (await self._compare(prompt, files)).saved
        shared, _size, path = max((tokens, -sizes[file], file) for tokens, file in zip(saved, files, strict=True))
        return shared >= now.cached + WORTH_READING and await self._restore(path)

    async def _restore(self, path: Path) -> bool:
        """Read a file into the KV cache; false if it is damaged, and then it is removed."""
        exact = await asyncio.to_thread(self._saved.check, path)
        if exact is None:
            return False
        restored = False
        exact_tokens = exact.tokens if exact.computed_with == self._computed_with else 0
        try:
            reply = await self._worker.ask_once(RestoreKV(self._worker.number(), os.fsencode(path), exact_tokens))
            restored = isinstance(reply, KVTokens) and reply.tokens > 0
        finally:
            if not restored:
                self._saved.remove(path)
        return restored

    async def save(self) -> None:
        """Write the KV cache to disk if it is large enough to be worth saving. Raises EngineDied."""
        key = self._cache_key
        if not key or self.tokens < WORTH_SAVING:
            return
        path = self._saved.path(key, self._plan, self._binding)
        temporary = await asyncio.to_thread(self._saved.temporary, key, path)
        if temporary is None:
            return
        reply = await self._worker.ask_once(SaveKV(self._worker.number(), os.fsencode(temporary)))
        if isinstance(reply, KVTokens) and reply.tokens:
            exact = ExactPrefix(reply.exact_tokens, self._computed_with)
            await asyncio.to_thread(self._saved.persist, key, temporary, path, exact)
        else:
            discard(temporary)
