"""Lets a small model guess how the answer of a large one goes on, one draft after another.

The small model reads what the large one has read and said into a KV cache of its own, and then takes its likeliest
token again and again, as long as it is sure enough of the whole draft for what decoding one more token costs. Wrong
guesses leave its KV cache when the next draft begins.

No first token waits for it: it reads the prompt after that, in parts, and drafts nothing before it has caught up. An
account of what its drafts gained and of the time that they took makes it pause, longer each time and beyond the end of
the answer, where that is in the red. Nothing is sampled here, and no failure of the small model is one of the answer.
"""

import time
from array import array

from qwenchat.engines.worker.c_api import DecodeFailed
from qwenchat.engines.worker.cache_slot import EXACT_STEP
from qwenchat.engines.worker.chances import Chances
from qwenchat.engines.worker.draft_account import MOST_CREDIT, DraftAccount, DraftPause
from qwenchat.engines.worker.llama import LlamaModel, Step
from qwenchat.engines.worker.step_costs import estimated_cost

READ_PER_TOKEN = 8
"""Tokens that the small model may read for each token of the answer while it catches up: a token read in a long step
costs about a quarter of one decoded, and a small model a tenth of a large one, so that answers are slowed by a fifth
meanwhile."""
_NEARLY = 32
"""Tokens that are read at once before a draft."""
LEAST_CHANCE = 0.75
"""Of a token to be drafted, by the small model."""
_WEIGHT = 0.2
"""Of a new measurement of the small model's speed."""


class ModelDrafts:
    """The drafts of one answer by a small model; free it with `close`."""

    def __init__(self, model: LlamaModel, small: LlamaModel, tokens: "array[int]", *, is_exact: bool) -> None:
        """Draft what may follow `tokens`, the prompt, to which others append the answer.

        If `is_exact`, the drafts depend on the tokens alone: not on measured times, nor on what was read before, nor on
        a pause that began in another answer.
        """
        self._model, self._small, self._tokens, self._is_exact = model, small, tokens, is_exact
        self._slot = small.slots[0]
        if is_exact:
            self._slot.truncate(0)
        self._chances = Chances(small, 1)
        self._prompt_size = len(tokens)
        self._read = 0
        """Tokens that were read to catch up."""
        self._price = small.tensor_bytes / model.tensor_bytes
        """What a step of one token costs the small model, in such steps of the large one."""
        self._spent = 0.0
        """On the last draft, in the same unit."""
        self._cost = estimated_cost if is_exact else model.step_costs.cost
        self._account = DraftAccount(self._cost)
        self._pause = DraftPause() if is_exact else model.draft_pause
        self._has_failed = False

    def draft(self, most: int) -> "array[int]":
        """Return at most `most` tokens that may follow the text; none where the small model is not sure of one."""
        self._spent = 0.0
        if self._has_failed or self._pause.goes_on():
            return array("i")
        try:
            return self._draft(most) if self._has_caught_up() else array("i")
        except DecodeFailed:
            self._has_failed = True
            return array("i")

    def _has_caught_up(self) -> bool:
        """Return whether few tokens are left to read; if not, read a part of them where that is due."""
        tokens, cached = self._tokens, self._slot.reuse(self._tokens)
        if len(tokens) - cached <= _NEARLY:
            return True
        part = tokens[cached : min(cached + EXACT_STEP, len(tokens) - 1)]
        if self._read + len(part) <= READ_PER_TOKEN * (len(tokens) - self._prompt_size):
            self._read += len(part)
            self._small.decode(Step(self._slot, part, is_exact=self._is_exact))
        return False

    def _draft(self, most: int) -> "array[int]":
        drafted, vocabulary, cost = array("i"), self._model.vocabulary, self._cost
        most = min(most, self._account.length)
        rest, work, chance, started = self._tokens[len(self._slot.cached) :], 0.0, 1.0, time.perf_counter()
        while len(drafted) < most:
            ends = self._small.decode(Step(self._slot, rest, is_exact=self._is_exact))
            if not ends:  # the answer was cancelled
                break
            work += estimated_cost(len(rest))
            self._chances.look(ends[0])
            token, sure = self._chances.best
            chance *= sure
            price = self._price + (cost(len(drafted) + 2) - 1) / (len(drafted) + 1)
            if sure < LEAST_CHANCE or chance < price or token >= vocabulary.size or vocabulary.is_end(token):
                break
            drafted.append(token)
            rest = drafted[-1:]
        self._note_cost(work, time.perf_counter() - started)
        return drafted

    def _note_cost(self, work: float, seconds: float) -> None:
        """Take note of how long so much work took, in steps of one token of the small model."""
        measured = 0.0 if self._is_exact else self._model.step_costs.steps_in(seconds)
        self._spent = measured or self._price * work
        if work:
            self._price += _WEIGHT * (self._spent / work - self._price)

    def learn(self, drafted: int, accepted: int) -> None:
        """Take note of how much of a draft was accepted."""
        balance = self._account.learn(drafted, accepted, self._spent)
        if balance < 0:
            self._account = DraftAccount(self._cost)
            self._pause.begin()
        elif balance >= MOST_CREDIT:
            self._pause.shorten()

    def close(self) -> None:
        """Free llama.cpp's samplers."""
        self._chances.close()
