"""Computes requests in the worker: generates an answer, one step after another, or times a run.

A job says what is to be decoded next and goes on when that is done. So several can run side by side (`schedule`).
"""

import math
import random
import time
from array import array
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, TypeVar

from qwenchat.chat.events import TokenChance
from qwenchat.chat.message import FinishReason, Timings, Usage
from qwenchat.engines.local.protocol import (
    Done,
    Generate,
    Piece,
    RequestFailed,
    RunTimed,
    Scored,
    TimeRun,
    WorkerProgress,
    WorkerReply,
)
from qwenchat.engines.schema.refusal import SchemaRefused
from qwenchat.engines.worker.c_api import DecodeFailed
from qwenchat.engines.worker.cache_slot import EXACT_STEP, CacheSlot
from qwenchat.engines.worker.chances import Chances
from qwenchat.engines.worker.detokenizer import Detokenizer
from qwenchat.engines.worker.llama import LlamaModel, Step
from qwenchat.engines.worker.sampler import Sampler
from qwenchat.engines.worker.speculation import Speculation
from qwenchat.engines.worker.step_costs import MOST_OUTPUTS

if TYPE_CHECKING:
    from qwenchat.engines.worker.constraint import Constraint  # it imports llguidance, which most answers don't need

BATCH_S = 0.03
"""Seconds for which tokens are collected before they are sent."""
FIRST_STEP = 64
"""Tokens of the first step after a model was loaded, from which the parent learns how fast the next ones will be."""
SHARED_STEP = 64
"""The most tokens of a prefill in one step while other jobs decode, which wait as long."""


Result = TypeVar("Result")
Steps = Generator[Step | None, int | None, Result]
"""What a job does: it yields what is to be decoded, or None where it waits (`awaited`), and is sent the place of the
last token's logits then; None where it is cancelled."""


class GenerationJob:
    """Prefills the tokens that the KV cache lacks, then decodes the answer, beside other jobs or alone."""

    def __init__(
        self,
        model: LlamaModel,
        slot: CacheSlot,
        request: Generate,
        prompt: "array[int]",
        *,
        report: Callable[[WorkerReply], None],
        constraint: "Future[Constraint] | None" = None,
        scored_from: int | None = None,
    ) -> None:
        """Prepare the job in a slot of its own; what the `constraint` allows is known when the prompt is decoded.

        The chances of the prompt's tokens are reported from `scored_from` on; None: of no token.
        """
        self.id, self.slot = request.id, slot
        self.awaited: Future[Constraint] | None = None
        """What the job waits for, where it has nothing to decode."""
        self.is_alone = True
        """Whether no other job runs, so that a step may take long and try what may be in vain."""
        self._model, self._prompt, self._report = model, prompt, report
        self._constraint = constraint
        self._sampling = request.sampling
        self._is_exact = request.sampling.is_repeatable and len(model.slots) == 1
        """Whether the answer must be the same again, which nothing can promise where others are decoded beside it."""
        stops = () if request.sampling.schema else request.sampling.stop  # one of them could cut JSON in the middle
        if request.calls:
            stops = (*stops, *request.calls.stops)
        self._is_apart = request.calls is not None or request.chances > 0
        """Whether the text of each token is sent for itself: its part of the answer is then known, and no message gets
        long by its chances."""
        self._chances: deque[tuple[TokenChance, ...]] = deque()
        """Of the tokens that were not sent yet, where they are asked for."""
        self._chance_count, self._scored_from = request.chances, scored_from
        self._text = Detokenizer(model.vocabulary.piece, stops)
        self._started = time.perf_counter()
        self._sent = 0.0
        self._is_after_marker = False
        self._first_token_s = 0.0

    def run(self) -> Steps[None]:
        """Generate the answer and send Done or RequestFailed. Raises DecodeFailed and SchemaRefused."""
        if len(self._prompt) >= self._model.n_ctx or not self._prompt:
            self._report(RequestFailed(self.id, "context", f"{len(self._prompt)} of {self._model.n_ctx}"))
            return
        with ExitStack() as resources:
            if self._scored_from is not None:
                self.slot.truncate(max(0, self._scored_from - 1))  # the token before has the chances of the next one
            cached = self.slot.reuse(self._prompt, exact=self._is_exact)
            chances = None
            if self._chance_count or self._scored_from is not None:
                chances = Chances(self._model, max(1, self._chance_count))
                resources.enter_context(closing(chances))
            try:
                output = yield from self._prefill(cached, chances)
                constraint: Constraint | None = None
                if self._constraint and output is not None:
                    constraint, output = yield from self._made_constraint(self._constraint, output)
                prefill_s = time.perf_counter() - self._started
                sampler = resources.enter_context(closing(self._sampler(constraint)))
                speculation = Speculation(self._model, self.slot, self._prompt, sampler, is_exact=self._is_exact)
                resources.enter_context(closing(speculation))
                reason, count = yield from self._decode(sampler, speculation, chances, output)
            except (DecodeFailed, SchemaRefused):
                self._send_rest()  # text that was held back is still part of the answer
                raise
        decode_s = time.perf_counter() - self._started - prefill_s
        self._send_rest()
        fresh = max(0, len(self._prompt) - cached)
        self._report(
            Done(
                self.id,
                reason,
                Usage(
                    len(self._prompt),
                    cached,
                    count,
                    speculation.drafted,
                    speculation.accepted,
                    self._model.draft_name if speculation.accepted_of_model else "",
                ),
                Timings(
                    prefill_s=prefill_s,
                    prefill_tps=fresh / prefill_s,
                    decode_s=decode_s,
                    decode_tps=count / decode_s if decode_s else 0.0,
                    ttft_s=self._first_token_s,
                ),
            )
        )

    def _prefill(self, cached: int, chances: Chances | None) -> Steps[int | None]:
        """Decode the prompt after its first `cached` tokens; return where its last logits are, None if cancelled."""
        done, output = cached, None
        total = len(self._prompt) - cached
        self._report(WorkerProgress(self.id, 0, total, 0.0))
        while done < len(self._prompt):
            is_scored = self._scored_from is not None and done >= self._scored_from - 1
            step = Step(self.slot, self._next_chunk(done), is_scored, self._is_exact)
            output = yield step
            if output is None:
                return None
            if chances and is_scored:
                self._report_scores(chances, step, output)
            done += len(step.tokens)
            self._model.has_prefilled = True
            self._report(WorkerProgress(self.id, done - cached, total, time.perf_counter() - self._started))
        return output

    def _next_chunk(self, done: int) -> "array[int]":
        """Return the tokens of the next step of the prefill.

        Steps are long, because a token costs less in them: what is slow gets no faster by shorter ones. llama.cpp can
        be stopped within a step, and the parent estimates the progress in between. They are about equal, so that none
        of a few tokens is left at the end: a token costs most in a step of less than 64, above all after a long text.
        """
        model, rest = self._model, len(self._prompt) - done
        if self._is_exact:
            size = EXACT_STEP
        elif not model.has_prefilled and rest > 2 * FIRST_STEP:
            size = FIRST_STEP
        elif self.is_alone:
            size = math.ceil(rest / math.ceil(rest / model.prefill_step))
        else:
            size = SHARED_STEP
        if self._scored_from is not None:
            unscored = self._scored_from - 1 - done
            size = min(size, unscored if unscored > 0 else MOST_OUTPUTS)
        return self._prompt[done : done + min(size, model.longest_step)]

    def _report_scores(self, chances: Chances, step: Step, output: int) -> None:
        """Report the chances of the tokens that follow those of a step, the last of which has its logits at `output`.

        The first token of the prompt follows none, but is reported, too, where it is among those to be scored.
        """
        end = len(self.slot.cached)
        start = end - len(step.tokens)
        if not start and not self._scored_from:
            self._report(Scored(self.id, (self._prompt[0],), ((),)))
        found = []
        for place, token in enumerate(self._prompt[start + 1 : end + 1], output - len(step.tokens) + 1):
            chances.look(place)
            found.append((token, chances.of(token)))
        self._report(Scored(self.id, tuple(token for token, _all in found), tuple(each for _token, each in found)))

    def _made_constraint(
        self, awaited: "Future[Constraint]", output: int
    ) -> Steps[tuple["Constraint | None", int | None]]:
        """Wait for the constraint; return it and where the prompt's last logits are then: both None if cancelled.

        They are at `output` before, but gone when another job has decoded something meanwhile.
        """
        decoded = self._model.decoded
        self.awaited = awaited
        while not awaited.done():
            if (yield None) is None:
                return None, None
        self.awaited = None
        if self._model.decoded == decoded:
            return awaited.result(), output
        done, last = self.slot.reuse(self._prompt), None
        while done < len(self._prompt):
            step = Step(self.slot, self._next_chunk(done))
            last = yield step
            if last is None:
                return None, None
            done += len(step.tokens)
        return awaited.result(), last

    def _sampler(self, constraint: "Constraint | None") -> Sampler:
        vocabulary = self._model.vocabulary
        for token in reversed(self._prompt):
            if token in vocabulary.reasoning_markers or vocabulary.is_end(token):
                break
        return Sampler(self._model, self._sampling, constraint, in_reasoning=token == vocabulary.reasoning_start)

    def _decode(
        self, sampler: Sampler, speculation: Speculation, chances: Chances | None, output: int | None
    ) -> Steps[tuple[FinishReason, int]]:
        """Sample and decode until the end; return why it ended and the number of tokens in the answer.

        `output` is where the logits for the next token are, None if cancelled.
        """
        model, text = self._model, self._text
        is_end, vocab, markers = (
            model.c.llama_vocab_is_eog,
            model.vocabulary.pointer,
            model.vocabulary.reasoning_markers,
        )
        limit = model.n_ctx if self._sampling.max_tokens is None else self._sampling.max_tokens
        room = model.n_ctx - len(self._prompt)
        count = 0
        if output is not None and not limit:
            return FinishReason.LENGTH, 0
        while output is not None:
            if chances:
                chances.look(output)
            token = sampler.next(output)
            if not count:
                self._first_token_s = time.perf_counter() - self._started
            if is_end(vocab, token):
                self._report_end(token, chances)
                return FinishReason.STOP, count
            count += 1
            is_decoded = speculation.confirms(token)
            if chances:
                self._chances.append(chances.of(token))
            if token in markers:
                self._send()
            if text.feed(token) or sampler.is_complete:
                return FinishReason.STOP, count
            self._send_if_due(token, is_decoded=is_decoded)
            if count >= limit:
                return FinishReason.LENGTH, count
            if count > room:
                return FinishReason.CONTEXT, count
            if is_decoded:
                output += 1
                continue
            step = speculation.step(min(limit - count - 1, room - count) if self.is_alone else 0)
            last = yield step
            output = None if last is None else last - len(step.tokens) + 1
        return FinishReason.CANCELLED, count

    def _send_if_due(self, token: int, *, is_decoded: bool) -> None:
        """Send the text up to a token, unless more tokens are decoded already or the last text was sent just now."""
        vocabulary = self._model.vocabulary
        is_marker = token in vocabulary.reasoning_markers
        if is_marker or (self._is_after_marker and not vocabulary.piece(token).strip(b"\r\n")):
            self._send(apart=True)
        elif self._is_apart or (not is_decoded and time.perf_counter() - self._sent >= BATCH_S):
            self._send(apart=self._is_apart)
        self._is_after_marker = is_marker

    def _report_end(self, token: int, chances: Chances | None) -> None:
        """Report the chances of the token that ends the answer, where those of the prompt were asked for, too."""
        if chances and self._scored_from is not None:
            self._send()
            self._report(Piece(self.id, "", (token,), apart=True, chances=(chances.of(token),)))

    def _send(self, *, apart: bool = False) -> None:
        """Send the text that is complete; if `apart`, it must not be joined with other pieces."""
        self._sent = time.perf_counter()
        piece, ids = self._text.take()
        if piece or ids:
            self._report(Piece(self.id, piece, ids, apart, self._chances_of(ids)))

    def _send_rest(self) -> None:
        """Send the text that was held back."""
        text, ids, tail = self._text.finish()
        chances = self._chances_of(ids)
        self._chances.clear()
        if tail:
            ids = (*ids, *self._model.vocabulary.tokenise(tail, special=False))
        if text or tail or ids:
            self._report(Piece(self.id, text + tail, ids, self._chance_count > 0, chances))

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
    complete = (
        complete and model.decode_all(prompt) and all(model.decode_all(array("i", [token])) for token in generated)
    )
    spent = time.perf_counter_ns() - started
    if not complete:
        raise DecodeFailed("aborted")
    return RunTimed(request.id, spent)


def _random(model: LlamaModel, count: int, *, seed: int) -> "array[int]":
    """Return `count` random tokens, the same ones for the same seed; the choice hardly affects the speed."""
    return array("i", random.Random(seed).choices(range(model.vocabulary.size), k=count))  # noqa: S311
