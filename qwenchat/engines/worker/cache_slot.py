"""What the KV cache holds of one sequence: which tokens, and how many of them a repeatable answer may reuse.

The number of tokens that are decoded together changes the last bits of every result, and so, sooner or later, a token
of the answer. A prompt whose answer must be repeatable is therefore decoded in exact steps: EXACT_STEP tokens each,
counted from the beginning of the prompt, then the rest. Of the KV cache it reuses only what came from such steps.
"""

from array import array
from typing import Any

EXACT_STEP = 128
"""Tokens of one exact step. A change makes answers differ from those of earlier versions."""


class CacheSlot:
    """One sequence of the KV cache. `decode` of the model adds to it."""

    def __init__(self, c: Any, memory: Any, number: int) -> None:
        self._c, self._memory, self.number = c, memory, number
        self.cached = array("i")
        """The tokens in the KV cache."""
        self.exact_tokens = 0
        """How many of them, from the beginning, were decoded in exact steps."""

    def shared_with(self, tokens: "array[int]") -> int:
        """Return how many of the first tokens of a prompt are in the KV cache."""
        return common_prefix(self.cached, tokens)

    def reuse(self, tokens: "array[int]", *, exact: bool = False) -> int:
        """Truncate the KV cache to the prefix that it shares with a prompt, and return its length.

        At least the last token of the prompt is left to decode, for its logits. If `exact`, only exact steps are left.
        """
        shared = min(self.shared_with(tokens), len(tokens) - 1)
        self.truncate(min(self.exact_tokens, _whole_steps(shared)) if exact else shared)
        return len(self.cached)  # 0 if the memory of this model can't be truncated partially

    def truncate(self, length: int) -> None:
        """Leave only the first `length` tokens, or none where the memory of the model can't be truncated."""
        if not self._c.llama_memory_seq_rm(self._memory, self.number, length, -1):
            self._c.llama_memory_seq_rm(self._memory, self.number, -1, -1)
            length = 0
        del self.cached[length:]
        self.exact_tokens = min(self.exact_tokens, _whole_steps(length))

    def add(self, tokens: "array[int]", *, alone: bool) -> None:
        """Note that tokens were decoded after those in the cache, `alone` or beside tokens of other sequences."""
        if alone and len(tokens) == EXACT_STEP and self.exact_tokens == len(self.cached):
            self.exact_tokens += EXACT_STEP
        self.cached.extend(tokens)

    def replace(self, tokens: "array[int]", exact_tokens: int) -> None:
        """Note what a file that was read into the KV cache holds."""
        self.cached, self.exact_tokens = tokens, exact_tokens

    def after_failure(self, tokens: "array[int]") -> None:
        """Find out how many of the tokens that were to be decoded are in the cache, and leave these."""
        in_memory = self._c.llama_memory_seq_pos_max(self._memory, self.number) + 1
        self.cached.extend(tokens[: max(0, in_memory - len(self.cached))])
        self.truncate(min(in_memory, len(self.cached)))


def _whole_steps(length: int) -> int:
    """Return how many of the first `length` tokens are whole exact steps."""
    return length - length % EXACT_STEP


def common_prefix(one: "array[int]", other: "array[int]") -> int:
    """Return the length of the longest common prefix, by binary search over slices, which are compared in C."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
