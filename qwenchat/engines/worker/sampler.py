"""Chooses the next token with llama.cpp's sampler chain, within what a JSON Schema allows.

A token is sampled first and then checked, which is cheap and mostly enough. If it is not allowed, the same chain
samples again among all that are: it goes on with the same random numbers, so a seed still decides the answer.

The repetition penalty looks only at the answer, not at the prompt, so that the end markers of earlier turns do not make
the answer's end less likely.
"""

import ctypes
import math
import os
import re
from array import array
from collections import deque
from typing import TYPE_CHECKING, Any

from qwenchat.chat.sampling import Sampling
from qwenchat.engines.schema.refusal import Reason, SchemaRefused
from qwenchat.engines.worker.llama import LlamaModel

if TYPE_CHECKING:
    from qwenchat.engines.worker.constraint import Constraint  # it imports llguidance, which most answers don't need

PENALTY_TOKENS = 64
"""How far back the repetition penalty looks; llama.cpp's default."""


class Sampler:
    """Samples one answer; free it with `close`."""

    def __init__(
        self,
        model: LlamaModel,
        sampling: Sampling,
        constraint: "Constraint | None" = None,
        *,
        in_reasoning: bool = False,
    ) -> None:
        """Begin an answer, which begins inside its reasoning if `in_reasoning`."""
        self._model, self._c = model, model.c
        self._constraint, self._is_reasoning = constraint, in_reasoning
        self._penalty = self._c.llama_sampler_init_penalties(
            model.vocabulary.size, PENALTY_TOKENS, sampling.repeat_penalty or 1.0, 0.0, 0.0
        )
        self._chain = self._make_chain(sampling)
        self._accepted: deque[int] = deque(maxlen=PENALTY_TOKENS)
        self._excluded = memoryview(array("f", [-math.inf]) * model.vocabulary.size)
        """Logits of tokens that can't be sampled."""

    def _make_chain(self, sampling: Sampling) -> Any:
        c = self._c
        chain = c.llama_sampler_chain_init(c.llama_sampler_chain_default_params())
        c.llama_sampler_chain_add(chain, self._penalty)
        if not sampling.temperature:
            c.llama_sampler_chain_add(chain, c.llama_sampler_init_greedy())
            return chain
        if sampling.top_k:
            c.llama_sampler_chain_add(chain, c.llama_sampler_init_top_k(sampling.top_k))
        if sampling.top_p is not None and sampling.top_p < 1:
            c.llama_sampler_chain_add(chain, c.llama_sampler_init_top_p(sampling.top_p, 1))
        if sampling.min_p:
            c.llama_sampler_chain_add(chain, c.llama_sampler_init_min_p(sampling.min_p, 1))
        c.llama_sampler_chain_add(chain, c.llama_sampler_init_temp(sampling.temperature))
        seed = int.from_bytes(os.urandom(4)) if sampling.seed is None else sampling.seed
        c.llama_sampler_chain_add(chain, c.llama_sampler_init_dist(seed))
        return chain

    def next(self, output: int) -> int:
        """Sample from the logits at a place of the batch, and accept the token as part of the answer.

        Raises SchemaRefused where the schema turns out to be too complex.
        """
        token: int = self._c.llama_sampler_sample(self._chain, self._model.ctx, output)
        if self._constraint:
            token = self._constrained(token, self._constraint, output)
            self._accepted.append(token)
        return token

    @property
    def is_complete(self) -> bool:
        """Whether the schema allows nothing more."""
        return self._constraint is not None and self._constraint.is_complete

    def forced(self) -> list[int]:
        """Return the next tokens where the schema leaves no choice about them, after a token has been sampled."""
        return [] if self._constraint is None or self._is_reasoning else self._constraint.forced()

    def allowed(self, draft: "array[int]") -> int:
        """Return how many of the drafted tokens the schema allows."""
        return len(draft) if self._constraint is None or self._is_reasoning else self._constraint.follow(draft)

    def _constrained(self, token: int, constraint: "Constraint", output: int) -> int:
        """Return the sampled token, or another one where the schema does not allow it. Reasoning is free."""
        vocabulary = self._model.vocabulary
        if self._is_reasoning:
            if vocabulary.is_end(token):  # an answer must come after it
                token = vocabulary.reasoning_end
            self._is_reasoning = token != vocabulary.reasoning_end
        elif token == vocabulary.reasoning_start and not self._accepted:
            self._is_reasoning = True
        elif not constraint.accept(token):
            token = self._sample_again(constraint, output)
        return token

    def _sample_again(self, constraint: "Constraint", output: int) -> int:
        """Sample among the tokens that the schema allows, with a penalty that has forgotten the token it does not."""
        c, size = self._c, self._model.vocabulary.size
        c.llama_sampler_reset(self._penalty)
        for accepted in self._accepted:
            c.llama_sampler_accept(self._penalty, accepted)
        pointer = c.llama_get_logits_ith(self._model.ctx, output)
        logits = memoryview(ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float * size)).contents).cast("B").cast("f")
        for run in re.finditer(rb"\0+", constraint.allowed()[:size]):
            logits[run.start() : run.end()] = self._excluded[: run.end() - run.start()]
        token: int = c.llama_sampler_sample(self._chain, self._model.ctx, output)
        if not constraint.accept(token):
            raise SchemaRefused(Reason.IMPOSSIBLE)
        return token

    def close(self) -> None:
        """Free the memory that llama.cpp uses for this answer."""
        self._c.llama_sampler_free(self._chain)
