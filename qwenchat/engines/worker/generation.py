"""One answer, computed: prefill what the KV cache lacks, then decode until something ends it."""

import time
from array import array

from qwenchat.chat.message import FinishReason, Timings, Usage
from qwenchat.engines.local.protocol import Done, Failed, Generate, Piece, Progress
from qwenchat.engines.worker.c_api import DecodeFailed
from qwenchat.engines.worker.detokenizer import AnswerText
from qwenchat.engines.worker.llama import Model
from qwenchat.engines.worker.outbox import Outbox
from qwenchat.engines.worker.sampler import Sampler

BATCH_S = 0.03
"""How long tokens are gathered before they travel."""


class Generation:
    """The work for one `Generate` request; `model.abort` ends it early."""

    def __init__(self, model: Model, outbox: Outbox, request: Generate, prompt: "array[int]") -> None:
        self._model, self._outbox, self._id, self._prompt = model, outbox, request.id, prompt
        self._sampling = request.sampling
        self._text = AnswerText(model.vocabulary.piece, request.sampling.stop)
        self._started = time.perf_counter()
        self._sent = 0.0
        self._first_token_s = 0.0

    def run(self) -> None:
        """Answer, and report Done or Failed."""
        if len(self._prompt) >= self._model.n_ctx or not self._prompt:
            self._outbox.put(Failed(self._id, "context", f"{len(self._prompt)} of {self._model.n_ctx}"))
            return
        sampler = Sampler(self._model, self._sampling)
        try:
            cached = self._model.reuse(self._prompt)
            complete = self._prefill(cached)
            prefill_s = time.perf_counter() - self._started
            reason, count = self._decode(sampler) if complete else (FinishReason.CANCELLED, 0)
        except DecodeFailed:
            self._last_piece()  # what was held back is still the person's
            raise
        finally:
            sampler.close()
        decode_s = time.perf_counter() - self._started - prefill_s
        self._last_piece()
        fresh = max(0, len(self._prompt) - cached)
        self._outbox.put(
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
        """Decode the prompt behind the `cached` tokens; say whether it was completed."""
        done = cached
        self._outbox.put(Progress(self._id, 0, len(self._prompt) - cached, 0.0))
        for done in self._model.prefill(self._prompt, cached):
            seconds = time.perf_counter() - self._started
            self._outbox.put(Progress(self._id, done - cached, len(self._prompt) - cached, seconds))
        return done == len(self._prompt)

    def _decode(self, sampler: Sampler) -> tuple[FinishReason, int]:
        """Sample and decode until the end; return why it ended and the tokens of the answer."""
        model, text, abort = self._model, self._text, self._model.abort
        is_end, vocab = model.c.llama_vocab_is_eog, model.vocabulary.pointer
        limit = self._sampling.max_tokens or model.n_ctx
        one, count = array("i", [0]), 0
        while not abort:
            token = sampler.next()
            if not count:
                self._first_token_s = time.perf_counter() - self._started
            if is_end(vocab, token):
                return FinishReason.STOP, count
            count += 1
            if text.feed(token):
                return FinishReason.STOP, count
            now = time.perf_counter()
            if now - self._sent >= BATCH_S:
                self._sent = now
                self._outbox.put(Piece(self._id, *text.take()))
            if count >= limit:
                return FinishReason.LENGTH, count
            if len(model.cached) >= model.n_ctx:
                return FinishReason.CONTEXT, count
            one[0] = token
            if not model.decode(one):
                break
        return FinishReason.CANCELLED, count

    def _last_piece(self) -> None:
        text, ids, tail = self._text.finish()
        if tail:
            ids = (*ids, *self._model.vocabulary.tokenise(tail, special=False))
        if text or tail or ids:
            self._outbox.put(Piece(self._id, text + tail, ids))
