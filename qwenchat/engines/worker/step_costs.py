"""What a step of several tokens costs beside one of a single token: estimated first, then measured on this machine.

Whether several tokens are worth a step is decided by who drafts them.
"""

MOST_OUTPUTS = 32
"""Tokens of a step with the logits of all of its tokens, each of which takes as many floats as the vocabulary has."""
_COST_OF_A_TOKEN = 0.38
"""What one more token adds to a step, in steps of one token (Qwen2-0.5B q4_k_m, 2 cores with AVX2)."""


def estimated_cost(tokens: int) -> float:
    """Return how many steps of one token take as long as one of `tokens`, as long as nothing was measured."""
    return 1 + _COST_OF_A_TOKEN * (tokens - 1)


class StepCosts:
    """How long short steps take on this machine, compared with those of one token: moving averages."""

    _WEIGHT = 0.2
    """Of a new measurement."""
    _OUTLIER = 4.0
    """A measurement counts as at most so many times what was expected: the machine may have been asleep."""

    def __init__(self) -> None:
        self._single_s = 0.0
        self._costs = [estimated_cost(tokens) for tokens in range(MOST_OUTPUTS + 1)]

    def cost(self, tokens: int) -> float:
        """Return how many steps of one token take as long as one of `tokens`, at most MOST_OUTPUTS."""
        return self._costs[tokens]

    def steps_in(self, seconds: float) -> float:
        """Return how many steps of one token take so many seconds; 0 as long as none was measured."""
        return seconds / self._single_s if self._single_s else 0.0

    def learn(self, tokens: int, seconds: float) -> None:
        """Take note of how long a step took. Before one of one token, nothing is known."""
        if tokens == 1:
            expected = self._single_s or seconds
            self._single_s = expected + self._WEIGHT * (min(seconds, self._OUTLIER * expected) - expected)
        elif self._single_s:
            expected = self._costs[tokens]
            measured = min(seconds / self._single_s, self._OUTLIER * expected)
            self._costs[tokens] = expected + self._WEIGHT * (measured - expected)
