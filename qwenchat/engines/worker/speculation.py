"""Guesses the next tokens of an answer, so that one step can verify several of them.

What quotes, rewrites or fills in repeats what the prompt or the answer says already: what followed its last tokens when
they last stood there is likely to follow again. A schema, too, often leaves no choice. Such a draft is decoded together
with the token that was sampled, and the sampler then takes its tokens one by one, as it would without a draft: a token
that differs ends the draft. So a guess changes how fast an answer comes, not which one. Nothing is sampled here. Where
nothing of that kind is found, a small model guesses (`draft_model`), if one is loaded.

A draft of which little is accepted takes longer than it saves. `Lookup` therefore keeps an account of what its drafts
gained, and asks for longer and longer matches while that is in the red.
"""

from array import array
from collections import deque
from collections.abc import Callable

from qwenchat.engines.worker.cache_slot import CacheSlot
from qwenchat.engines.worker.draft_account import LONGEST_DRAFT, MOST_CREDIT, DraftAccount
from qwenchat.engines.worker.draft_model import ModelDrafts
from qwenchat.engines.worker.llama import LlamaModel, Step
from qwenchat.engines.worker.sampler import Sampler
from qwenchat.engines.worker.step_costs import estimated_cost

GRAMS = (4, 3)
"""How many of the last tokens are looked up, the best first."""
_ENTRIES_PER_TOKEN = 4
_INDEXED_AT_ONCE = 1024
"""Tokens that are indexed before one draft: 1 ms, so that a long prompt delays no token."""
_LONGEST_MATCH = 64


class Lookup:
    """Finds what may follow a growing text within that text."""

    def __init__(self, tokens: "array[int]", most_tokens: int, cost: Callable[[int], float]) -> None:
        """Look up in `tokens`, to which others append, at most `most_tokens` in all.

        `cost` says how many steps of one token take as long as one of so many tokens.
        """
        self._tokens, self._account = tokens, DraftAccount(cost)
        self._mask = (1 << (_ENTRIES_PER_TOKEN * most_tokens).bit_length()) - 1
        self._after = array("i", bytes(4 * (self._mask + 1)))
        """Where the token stands that followed an n-gram when it last stood, by the hash of the n-gram; 0: nowhere."""
        self._indexed = max(GRAMS)
        """Tokens before this one are indexed."""
        self._match = min(GRAMS)
        """How many of the last tokens must have stood before what is drafted."""

    def draft(self, most: int) -> "array[int]":
        """Return at most `most` tokens that may follow the text; none where nothing is likely."""
        self._index()
        tokens = self._tokens
        for size in GRAMS:
            place = self._after[hash(tuple(tokens[-size:])) & self._mask]
            match = max(size, self._match)
            if place >= match and tokens[place - match : place] == tokens[-match:]:
                wanted = min(self._account.length, most)
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
        balance = self._account.learn(drafted, accepted)
        if balance < 0:
            self._match = min(2 * self._match, _LONGEST_MATCH)
        elif balance >= MOST_CREDIT:
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
        self._model, self._slot, self._sampler, self._is_exact = model, slot, sampler, is_exact
        self._tokens = prompt[:]
        """The prompt, then the answer."""
        cost = estimated_cost if is_exact else model.step_costs.cost
        self._lookup = Lookup(self._tokens, model.n_ctx, cost) if model.can_draft else None
        self._guesses = deque[int]()
        """The part of the draft that is neither accepted nor rejected."""
        self._model_drafts: ModelDrafts | None = None
        """Those of the draft model; None before it was asked."""
        self._guesser: Lookup | ModelDrafts | None = None
        """What made the draft; None where a schema forced it."""
        self._guessed = 0
        """Tokens of the draft."""
        self.drafted = self.accepted = self.accepted_of_model = 0
        """Tokens in all, and of those accepted the draft model's."""

    def step(self, most: int) -> Step:
        """Return the step that decodes the last token of the answer, and a draft of at most `most` tokens."""
        draft = self._draft(max(0, min(most, LONGEST_DRAFT)))
        self._guesses.extend(draft)
        self.drafted += len(draft)
        return Step(self._slot, self._tokens[-1:] + draft, all_logits=bool(draft), is_exact=self._is_exact)

    def _draft(self, most: int) -> "array[int]":
        self._guesser, self._guessed = None, 0
        if self._lookup is None or not most:
            return array("i")
        forced = array("i", self._sampler.forced()[:most])
        guesser: Lookup | ModelDrafts = self._lookup
        draft = guesser.draft(most)
        if not (draft or forced) and self._model.draft_model:
            guesser = self._model_drafts = self._model_drafts or ModelDrafts(
                self._model, self._model.draft_model, self._tokens, is_exact=self._is_exact
            )
            draft = guesser.draft(most)
        if draft[: len(forced)] != forced:
            return forced
        draft = draft[: self._sampler.allowed(draft)]
        self._guesser, self._guessed = guesser, len(draft)
        return draft

    def confirms(self, token: int) -> bool:
        """Take the next token of the answer; return whether the draft has it too, and thus the logits after it."""
        self._tokens.append(token)
        if self._guesses and self._guesses[0] == token:
            self._guesses.popleft()
            self.accepted += 1
            self.accepted_of_model += isinstance(self._guesser, ModelDrafts)
            return True
        rejected = len(self._guesses)
        if rejected:
            self._slot.truncate(len(self._slot.cached) - rejected)
            self._guesses.clear()
        if self._guesser:
            self._guesser.learn(self._guessed, self._guessed - rejected)
        return False

    def close(self) -> None:
        """Leave nothing in the KV cache but the prompt and the answer."""
        if self._model_drafts:
            self._model_drafts.close()
        right = self._slot.shared_with(self._tokens)
        if right < len(self._slot.cached):
            self._slot.truncate(right)
