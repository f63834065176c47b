"""Says how likely the tokens at a place were: the softmax of the raw logits, before sampling changes anything.

A vocabulary has 150,000 tokens, so llama.cpp's own samplers compute the sum and find the likeliest ones. Nothing is
chosen here.
"""

import ctypes
import math
from array import array

from qwenchat.chat.events import TokenChance
from qwenchat.engines.worker.llama import LlamaModel

_FIELDS = 3
"""Of `llama_token_data`: id, logit and probability, four bytes each."""


class Chances:
    """The chances of one answer's tokens; free it with `close`."""

    def __init__(self, model: LlamaModel, count: int) -> None:
        """Report the `count` likeliest tokens for each one that is sampled, and that one."""
        self._model, self._c, size = model, model.c, model.vocabulary.size
        self._all_ids = array("i", range(size))
        self._data = array("i", bytes(_FIELDS * size * 4))
        self._ids = memoryview(self._data)[::_FIELDS]
        self._numbers = memoryview(self._data).cast("B").cast("f")
        self._tokens = (self._c.llama_token_data * size).from_buffer(self._data)
        self._softmax = self._c.llama_sampler_init_dist(0)
        self._likeliest = self._c.llama_sampler_init_top_k(count)
        self._top: list[tuple[int, float]] = []
        self._output = -1
        self._log_sum = 0.0
        """The logarithm of the sum of all exponentials of logits."""

    def look(self, output: int) -> None:
        """Compute the chances at a place of the batch; it must be called before the token is sampled."""
        self._output = output
        c, size = self._c, self._model.vocabulary.size
        self._ids[:] = memoryview(self._all_ids)
        self._numbers[1::_FIELDS] = self._logits()
        candidates = c.llama_token_data_array(self._tokens, size, -1, False)
        c.llama_sampler_apply(self._softmax, ctypes.byref(candidates))
        c.llama_sampler_apply(self._likeliest, ctypes.byref(candidates))
        best = max((candidates.data[place] for place in range(candidates.size)), key=lambda each: each.p)
        self._log_sum = best.logit - math.log(best.p)
        self._top = [(candidates.data[place].id, candidates.data[place].logit) for place in range(candidates.size)]

    @property
    def best(self) -> tuple[int, float]:
        """The likeliest token at that place, and its probability."""
        token, logit = max(self._top, key=lambda each: each[1])
        return token, math.exp(logit - self._log_sum)

    def of(self, token: int) -> tuple[TokenChance, ...]:
        """Return the chances of the likeliest tokens and of the one that was sampled, the likeliest first."""
        chances = {**dict(self._top), token: self._logits()[token]}
        ordered = sorted(chances.items(), key=lambda each: -each[1])
        piece = self._model.vocabulary.piece
        return tuple(
            TokenChance(piece(each).decode("utf-8", "replace"), each, logit - self._log_sum) for each, logit in ordered
        )

    def _logits(self) -> "memoryview[float]":
        size = self._model.vocabulary.size
        pointer = self._c.llama_get_logits_ith(self._model.ctx, self._output)
        return memoryview(ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float * size)).contents).cast("B").cast("f")

    def close(self) -> None:
        """Free llama.cpp's samplers."""
        self._c.llama_sampler_free(self._softmax)
        self._c.llama_sampler_free(self._likeliest)
