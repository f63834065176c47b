"""Computes one request in the worker: generates an answer, or times a run."""

import random
import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing, suppress
from typing import TYPE_CHECKING

from qwenchat.chat.events import TokenChance
from qwenchat.chat.message import FinishReason, Timings, Usage
from qwenchat.engines.local.protocol import (
    Done,
    Generate,
    Piece,
    RequestFailed,
    RunTimed,
    TimeRun,
    WorkerProgress,
    WorkerReply,
)
from qwenchat.engines.schema.document import SchemaRefused
from qwenchat.engines.worker.c_api import DecodeFailed
from qwenchat.engines.worker.chances import Chances
from qwenchat.engines.worker.detokenizer import Detokenizer
from qwenchat.engines.worker.llama import LlamaModel
from qwenchat.engines.worker.sampler import Sampler

if TYPE_CHECKING:
    from qwenchat.engines.worker.constraint import Constraint  # it imports llguidance, which most answers don't need

BATCH_S = 0.03
"""Seconds for which tokens are collected before they are sent."""
_POLL_S = 0.05
"""How often a wait looks whether it is cancelled."""


class GenerationJob:
    """Prefills the tokens that the KV cache lacks, then decodes the answer; `model.abort` ends it early."""

    def __init__(
        self,
        model: LlamaModel,
        request: Generate,
        prompt: "array[int]",
        report: Callable[[WorkerReply], None],
        constraint: "Future[Constraint] | None" = None,
    ) -> None:
        """Prepare the job; what the `constraint` allows is known when the prompt is decoded."""
        self._model, self._id, self._prompt, self._report = model, request.id, prompt, report
        self._constraint = constraint
        self._sampling = request.sampling
        stops = () if request.sampling.schema else request.sampling.stop  # one of them could cut JSON in the middle
        if request.calls:
            stops = (*stops, *request.calls.stops)
        self._is_apart = request.calls is not None or request.chances > 0
        """Whether the text of each token is sent for itself: its part of the answer is then known, and no message gets
        long by its chances."""
        self._chances: deque[tuple[TokenChance, ...]] = deque()
        """Of the tokens that were not sent yet, where they are asked for."""
        self._chance_count = request.chances
        self._text = Detokenizer(model.vocabulary.piece, stops)
        self._started = time.perf_counter()
        self._sent = 0.0
        self._first_token_s = 0.0

    def run(self) -> None:
        """Generate the answer and send Done or RequestFailed. Raises DecodeFailed and SchemaRefused."""
        if len(self._prompt) >= self._model.n_ctx or not self._prompt:
            self._report(RequestFailed(self._id, "context", f"{len(self._prompt)} of {self._model.n_ctx}"))
            return
        try:
            cached = self._model.reuse(self._prompt, exact=self._sampling.is_repeatable)
            complete = self._prefill(cached)
            constraint = self._made_constraint()
            prefill_s = time.perf_counter() - self._started
            with ExitStack() as resources:
                sampler = resources.enter_context(closing(self._sampler(constraint)))
                chances = Chances(self._model, self._chance_count) if self._chance_count else None
                if chances:
                    resources.enter_context(closing(chances))
                reason, count = self._decode(sampler, chances) if complete else (FinishReason.CANCELLED, 0)
        except (DecodeFailed, SchemaRefused):
            self._send_rest()  # text that was held back is still part of the answer
            raise
        decode_s = time.perf_counter() - self._started - prefill_s
        self._send_rest()
        fresh = max(0, len(self._prompt) - cached)
        self._report(
            Done(
                self._id,
                reason,
                Usage(len(self._prompt), cached, count),
                Timings(
                    prefill_s=prefill_s,
                    prefill_tps=fresh / prefill_s,
                    decode_s=decode_s,
                    decode_tps=count / decode_s if decode_s else 0.0,
                    ttft_s=self._first_token_s,
                ),
            )
        )

    def _prefill(self, cached: int) -> bool:
        """Decode the prompt after its first `cached` tokens; return whether all of it was decoded."""
        done = cached
        self._report(WorkerProgress(self._id, 0, len(self._prompt) - cached, 0.0))
        for done in self._model.prefill(self._prompt, cached, exact=self._sampling.is_repeatable):
            seconds = time.perf_counter() - self._started
            self._report(WorkerProgress(self._id, done - cached, len(self._prompt) - cached, seconds))
        return done == len(self._prompt)

    def _made_constraint(self) -> "Constraint | None":
        """Wait for the constraint; None without a schema, or if the request is cancelled."""
        while self._constraint and not self._model.abort:
            with suppress(TimeoutError):
                return self._constraint.result(_POLL_S)
        return None

    def _sampler(self, constraint: "Constraint | None") -> Sampler:
        vocabulary = self._model.vocabulary
        for token in reversed(self._prompt):
            if token in vocabulary.reasoning_markers or vocabulary.is_end(token):
                break
        return Sampler(self._model, self._sampling, constraint, in_reasoning=token == vocabulary.reasoning_start)

    def _decode(self, sampler: Sampler, chances: Chances | None) -> tuple[FinishReason, int]:
        """Sample and decode until the end; return why it ended and the number of tokens in the answer."""
        model, text, abort = self._model, self._text, self._model.abort
        is_end, vocabulary = model.c.llama_vocab_is_eog, model.vocabulary
        vocab, markers = vocabulary.pointer, vocabulary.reasoning_markers
        limit = self._sampling.max_tokens or model.n_ctx
        one, count, after_marker = array("i", [0]), 0, False
        while not abort:
            if chances:
                chances.look()
            token = sampler.next()
            if not count:
                self._first_token_s = time.perf_counter() - self._started
            if is_end(vocab, token):
                return FinishReason.STOP, count
            count += 1
            if chances:
                self._chances.append(chances.of(token))
            is_marker = token in markers
            if is_marker:
                self._send()
            if text.feed(token) or sampler.is_complete:
                return FinishReason.STOP, count
            if is_marker or (after_marker and not vocabulary.piece(token).strip(b"\r\n")):
                self._send(apart=True)
            elif self._is_apart or time.perf_counter() - self._sent >= BATCH_S:
                self._send(apart=self._is_apart)
            after_marker = is_marker
            if count >= limit:
                return FinishReason.LENGTH, count
            if len(model.cached) >= model.n_ctx:
                return FinishReason.CONTEXT, count
            one[0] = token
            if not model.decode(one):
                break
        return FinishReason.CANCELLED, count

    def _send(self, *, apart: bool = False) -> None:
        """Send the text that is complete; if `apart`, it must not be joined with other pieces."""
        self._sent = time.perf_counter()
        piece, ids = self._text.take()
        if piece or ids:
            self._report(Piece(self._id, piece, ids, apart, self._chances_of(ids)))

    def _send_rest(self) -> None:
        """Send the text that was held back."""
        text, ids, tail = self._text.finish()
        chances = self._chances_of(ids)
        self._chances.clear()
        if tail:
            ids = (*ids, *self._model.vocabulary.tokenise(tail, special=False))
        if text or tail or ids:
            self._report(Piece(self._id, text + tail, ids, self._chance_count > 0, chances))

    def _chances_of(self, ids: Sequence[int]) -> tuple[tuple[TokenChance, ...], ...]:
        """Return the chances of the tokens that are sent next."""
        return tuple(self._chances.popleft() for _token in ids) if self._chance_count else ()


def time_run(model: LlamaModel, request: TimeRun) -> RunTimed:
    """Decode random tokens as llama-bench does, and return the time that it took. Raises DecodeFailed.

    As in llama-bench, only llama.cpp's own work counts: no sampling, no text. The `depth` tokens are decoded before
    the clock starts and stay in the KV cache for the next run.
    """
    prompt, generated = _random(model, request.prompt, seed=1), _random(model, request.generate, seed=2)
    complete = model.replace_cache(_random(model, request.depth, seed=0))
    started = time.perf_counter_ns()
    complete = complete and model.decode_all(prompt) and all(model.decode(array("i", [token])) for token in generated)
    spent = time.perf_counter_ns() - started
    if not complete:
        raise DecodeFailed("aborted")
    return RunTimed(request.id, spent)


def _random(model: LlamaModel, count: int, *, seed: int) -> "array[int]":
    """Return `count` random tokens, the same ones for the same seed; the choice hardly affects the speed."""
    return array("i", random.Random(seed).choices(range(model.vocabulary.size), k=count))  # noqa: S311
