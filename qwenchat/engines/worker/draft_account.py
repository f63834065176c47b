"""Counts what drafts gain: how many tokens were accepted, and what it took to make and to verify them.

All costs are in steps of one token. What follows from a balance, such as a pause, is decided by who drafts.
"""

from collections.abc import Callable

from qwenchat.engines.worker.step_costs import MOST_OUTPUTS

LONGEST_DRAFT = MOST_OUTPUTS - 1
SHORTEST_DRAFT = 3
"""Tokens; with the one before it, as many as the processor's kernels multiply together."""
MOST_CREDIT = 16.0
_FIRST_CREDIT = 2.0
FIRST_PAUSE, _LONGEST_PAUSE = 32, 1024
"""Steps without drafts after they have cost more than they gained, twice as many each time."""


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


class DraftPause:
    """How long no model is asked for drafts, after they have cost more than they gained.

    It outlives the answer: the next one is likely to be as hard to guess.
    """

    def __init__(self) -> None:
        self._length, self._left = FIRST_PAUSE, 0
        """Steps of the next pause, and of this one."""

    def goes_on(self) -> bool:
        """Count a step, and return whether it belongs to the pause."""
        self._left -= 1
        return self._left >= 0

    def begin(self) -> None:
        """Ask for no drafts for a while."""
        self._left = self._length
        self._length = min(2 * self._length, _LONGEST_PAUSE)

    def shorten(self) -> None:
        """Let the next pause be a short one: drafts have gained much."""
        self._length = FIRST_PAUSE
