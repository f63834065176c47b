"""Chooses the next token with llama.cpp's sampler chain; a JSON schema checks only the chosen token.

The repetition penalty looks only at the answer, not at the prompt, so that the end markers of earlier turns do not make
the answer's end less likely.
"""

import ctypes
import json
import math
import os
from importlib import import_module
from typing import Any

from qwenchat.chat.sampling import Sampling
from qwenchat.engines.worker.llama import LlamaModel

PENALTY_TOKENS = 64
"""How far back the repetition penalty looks; llama.cpp's default."""


class SchemaRefused(Exception):
    """The JSON schema can't be turned into a grammar."""


class Sampler:
    """Samples one answer; free it with `close`."""

    def __init__(self, model: LlamaModel, sampling: Sampling) -> None:
        self._model, self._c = model, model.c
        self._grammar = self._make_grammar(sampling.schema) if sampling.schema else None
        self._penalty = self._c.llama_sampler_init_penalties(
            model.vocabulary.size, PENALTY_TOKENS, sampling.repeat_penalty or 1.0, 0.0, 0.0
        )
        self._chain = self._make_chain(sampling)
        self._accepted: list[int] = []

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

    def _make_grammar(self, schema: str) -> Any:
        try:
            convert = import_module("llama_cpp.llama_grammar").json_schema_to_gbnf
            grammar = convert(json.dumps(json.loads(schema))).encode()
        except Exception as error:
            raise SchemaRefused(str(error)) from error
        sampler = self._c.llama_sampler_init_grammar(self._model.vocabulary.pointer, grammar, b"root")
        if not sampler:
            raise SchemaRefused("llama.cpp rejects the grammar made from it")
        return sampler

    def next(self) -> int:
        """Sample the token after the last one decoded, and accept it as part of the answer."""
        token: int = self._c.llama_sampler_sample(self._chain, self._model.ctx, -1)
        if self._grammar:
            if not self._allows(token):
                token = self._sample_again()
            self._c.llama_sampler_accept(self._grammar, token)
            self._accepted.append(token)
        return token

    def _allows(self, token: int) -> bool:
        """Return whether the grammar allows one token; this takes microseconds, the whole vocabulary 44 ms."""
        candidate = self._c.llama_token_data(token, 0.0, 0.0)
        candidates = self._c.llama_token_data_array(ctypes.pointer(candidate), 1, -1, False)
        self._c.llama_sampler_apply(self._grammar, ctypes.byref(candidates))
        return candidates.size > 0 and not math.isinf(candidates.data[0].logit)

    def _sample_again(self) -> int:
        """Sample among the tokens that the grammar allows, after removing the rejected token from the penalty."""
        c = self._c
        c.llama_sampler_reset(self._penalty)
        for accepted in self._accepted[-PENALTY_TOKENS:]:
            c.llama_sampler_accept(self._penalty, accepted)
        strict = c.llama_sampler_chain_init(c.llama_sampler_chain_default_params())
        c.llama_sampler_chain_add(strict, c.llama_sampler_clone(self._grammar))
        c.llama_sampler_chain_add(strict, c.llama_sampler_clone(self._chain))
        token: int = c.llama_sampler_sample(strict, self._model.ctx, -1)
        c.llama_sampler_free(strict)
        c.llama_sampler_accept(self._penalty, token)
        return token

    def close(self) -> None:
        """Free the memory that llama.cpp uses for this answer."""
        self._c.llama_sampler_free(self._chain)
        if self._grammar:
            self._c.llama_sampler_free(self._grammar)
