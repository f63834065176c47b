"""Guesses the next tokens of an answer, so that one step can verify several of them.

What quotes, rewrites or fills in repeats what the prompt or the answer says already: what followed its last tokens when
they last stood there is likely to follow again. A schema, too, often leaves no choice. Such a draft is decoded together
with the token that was sampled, and the sampler then takes its tokens one by one, as it would without a draft: a token
that differs ends the draft. So a guess changes how fast an answer comes, not which one. Nothing is sampled here.

A draft of which little is accepted takes longer than it saves. `Lookup` therefore keeps an account of what its drafts
gained, in steps of one token, and asks for longer and longer matches while that is in the red.
"""

from array import array
from collections import deque
from collections.abc import Callable

from qwenchat.engines.worker.cache_slot import CacheSlot
from qwenchat.engines.worker.llama import MOST_OUTPUTS, LlamaModel, Step, estimated_cost
from qwenchat.engines.worker.sampler import Sampler

LONGEST_DRAFT = MOST_OUTPUTS - 1
SHORTEST_DRAFT = 3
"""Tokens; with the one before it, as many as the processor's kernels multiply together."""
GRAMS = (4, 3)
"""How many of the last tokens are looked up, the best first."""
_ENTRIES_PER_TOKEN = 4
_INDEXED_AT_ONCE = 1024
"""Tokens that are indexed before one draft: 1 ms, so that a long prompt delays no token."""
_MOST_CREDIT = 16.0
_FIRST_CREDIT = 2.0
"""In steps of one token."""
_LONGEST_MATCH = 64


class Lookup:
    """Finds what may follow a growing text within that text."""

    def __init__(self, tokens: "array[int]", most_tokens: int, cost: Callable[[int], float]) -> None:
        """Look up in `tokens`, to which others append, at most `most_tokens` in all.

        `cost` says how many steps of one token take as long as one of so many tokens.
        """
        self._tokens, self._cost = tokens, cost
        self._mask = (1 << (_ENTRIES_PER_TOKEN * most_tokens).bit_length()) - 1
        self._after = array("i", bytes(4 * (self._mask + 1)))
        """Where the token stands that followed an n-gram when it last stood, by the hash of the n-gram; 0: nowhere."""
        self._indexed = max(GRAMS)
        """Tokens before this one are indexed."""
        self._length = SHORTEST_DRAFT
        """Tokens of the next draft."""
        self._match = min(GRAMS)
        """How many of the last tokens must have stood before what is drafted."""
        self._credit = _FIRST_CREDIT

    def draft(self, most: int) -> "array[int]":
        """Return at most `most` tokens that may follow the text; none where nothing is likely."""
        self._index()
        tokens = self._tokens
        for size in GRAMS:
            place = self._after[hash(tuple(tokens[-size:])) & self._mask]
            match = max(size, self._match)
            if place >= match and tokens[place - match : place] == tokens[-match:]:
                wanted = min(self._length, most)
                following = tokens[place : place + wanted]
                return (following * (wanted // len(following) + 1))[:wanted]  # what has no end yet repeats itself
        return array("i")

    def _index(self) -> None:
        """Index the tokens that are not, and the n-grams before them."""
        tokens, after, mask = self._tokens, self._after, self._mask
        end = min(len(tokens), self._indexed + _INDEXED_AT_ONCE)
        for place in range(self._indexed, end):
            for size in GRAMS:
                after[hash(tuple(tokens[place - size : place])) & mask] = place
        self._indexed = max(end, self._indexed)

    def learn(self, drafted: int, accepted: int) -> None:
        """Take note of how much of a draft was accepted."""
        if accepted < drafted:
            self._length = max(SHORTEST_DRAFT, accepted | 3)  # with the token before it, a multiple of four
        elif drafted >= self._length:
            self._length = min(2 * self._length + 1, LONGEST_DRAFT)
        self._credit += accepted + 1 - self._cost(drafted + 1)
        if self._credit < 0:
            self._credit = 0.0
            self._match = min(2 * self._match, _LONGEST_MATCH)
        elif self._credit >= _MOST_CREDIT:
            self._credit = _MOST_CREDIT
            self._match = min(GRAMS)


class Speculation:
    """The drafts of one answer, which it removes from the KV cache where they were wrong; end it with `close`."""

    def __init__(
        self, model: LlamaModel, slot: CacheSlot, prompt: "array[int]", sampler: Sampler, *, is_exact: bool
    ) -> None:
        """Begin an answer to a prompt that is decoded.

        If `is_exact`, the drafts depend on the tokens alone, not on how fast this machine is: the number of tokens in a
        step changes the last bits of its results.
        """
        self._slot, self._sampler, self._is_exact = slot, sampler, is_exact
        self._tokens = prompt[:]
        """The prompt, then the answer."""
        cost = estimated_cost if is_exact else model.step_costs.cost
        self._lookup = Lookup(self._tokens, model.n_ctx, cost) if model.can_draft else None
        self._guesses = deque[int]()
        """The part of the draft that is neither accepted nor rejected."""
        self._looked_up = 0
        """Tokens of the draft, where it was looked up."""
        self.drafted = self.accepted = 0
        """Tokens in all."""

    def step(self, most: int) -> Step:
        """Return the step that decodes the last token of the answer, and a draft of at most `most` tokens."""
        draft = self._draft(max(0, min(most, LONGEST_DRAFT)))
        self._guesses.extend(draft)
        self.drafted += len(draft)
        return Step(self._slot, self._tokens[-1:] + draft, all_logits=bool(draft), is_exact=self._is_exact)

    def _draft(self, most: int) -> "array[int]":
        self._looked_up = 0
        if self._lookup is None or not most:
            return array("i")
        forced = array("i", self._sampler.forced()[:most])
        draft = self._lookup.draft(most)
        if draft[: len(forced)] != forced:
            return forced
        draft = draft[: self._sampler.allowed(draft)]
        self._looked_up = len(draft)
        return draft

    def confirms(self, token: int) -> bool:
        """Take the next token of the answer; return whether the draft has it too, and thus the logits after it."""
        self._tokens.append(token)
        if self._guesses and self._guesses[0] == token:
            self._guesses.popleft()
            self.accepted += 1
            return True
        rejected = len(self._guesses)
        if rejected:
            self._slot.truncate(len(self._slot.cached) - rejected)
            self._guesses.clear()
        if self._lookup and self._looked_up:
            self._lookup.learn(self._looked_up, self._looked_up - rejected)
        return False

    def close(self) -> None:
        """Leave nothing in the KV cache but the prompt and the answer."""
        right = self._slot.shared_with(self._tokens)
        if right < len(self._slot.cached):
            self._slot.truncate(right)
