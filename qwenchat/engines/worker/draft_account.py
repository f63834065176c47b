"""Counts what drafts gain: how many tokens were accepted, and what it took to make and to verify them.

All costs are in steps of one token. What follows from a balance, such as a pause, is decided by who drafts.
"""

from collections.abc import Callable

from qwenchat.engines.worker.llama import MOST_OUTPUTS

LONGEST_DRAFT = MOST_OUTPUTS - 1
SHORTEST_DRAFT = 3
"""Tokens; with the one before it, as many as the processor's kernels multiply together."""
MOST_CREDIT = 16.0
_FIRST_CREDIT = 2.0


class DraftAccount:
    """What the drafts of one answer have gained so far."""

    def __init__(self, cost: Callable[[int], float]) -> None:
        """`cost` says how many steps of one token take as long as one of so many tokens."""
        self._cost = cost
        self._credit = _FIRST_CREDIT
        self.length = SHORTEST_DRAFT
        """Tokens of the next draft: longer while drafts are accepted, shorter where one is not."""

    def learn(self, drafted: int, accepted: int, spent: float = 0.0) -> float:
        """Take note of how much of a draft was accepted that took `spent` to make; return the balance.

        Below 0, drafts have cost more than they saved, and the account begins at 0 again; it never exceeds MOST_CREDIT.
        """
        if accepted < drafted:
            self.length = max(SHORTEST_DRAFT, accepted | 3)  # with the token before it, a multiple of four
        elif drafted >= self.length:
            self.length = min(2 * self.length + 1, LONGEST_DRAFT)
        balance = min(self._credit + accepted + 1 - self._cost(drafted + 1) - spent, MOST_CREDIT)
        self._credit = max(0.0, balance)
        return balance
