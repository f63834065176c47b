"""Estimates of how many tokens a prompt takes, for servers that count only afterwards.

Texts are estimated by what they are made of (`text.token_estimate`). Vocabularies differ, and nobody knows what a
server's template adds. So what a server counted corrects the estimates that follow. No estimate is ever called exact.
"""

from collections.abc import Sequence

from qwenchat.chat.ports import Mode, TokenCounts
from qwenchat.chat.prompt import Turn
from qwenchat.text.token_estimate import estimated_tokens

_TURN, _AROUND = 5, 3
"""Tokens of the markers and the role around a turn, and of those that begin the answer, in ChatML."""
_TRUST = 200
"""Tokens that an estimate is taken to be right for: the template's own words weigh little in a long prompt."""
_LEAST, _MOST = 0.8, 2.0
"""Between what a factor corrects, whatever a server claims: some count only what their KV cache lacked."""


class TokenEstimates:
    """Estimates for the prompts of one model, corrected by what its server counts."""

    def __init__(self) -> None:
        self._factor = 1.0
        self._known: dict[str, float] = {}
        """The tokens of the texts of a prompt that was counted before, most of which is in the next one too."""

    def count(self, turns: Sequence[Turn], mode: Mode) -> TokenCounts:
        """Return the estimate of a prompt."""
        values = (max(bool(tokens), round(tokens * self._factor)) for tokens in self._tokens(turns, mode))
        return TokenCounts(values=tuple(values), around=0 if mode is Mode.COMPLETE else _AROUND, exact=False)

    def learn(self, turns: Sequence[Turn], mode: Mode, counted: int) -> None:
        """Correct later estimates by the tokens that the server counted of a prompt; 0 where it counts none."""
        if counted > 0:
            estimated = sum(self._tokens(turns, mode))
            self._factor = min(_MOST, max(_LEAST, (counted + _TRUST) / (estimated + _TRUST)))

    def learn_too_long(self, turns: Sequence[Turn], mode: Mode, n_ctx: int) -> None:
        """Correct later estimates where a prompt that was estimated to fit its window does not."""
        if self.count(turns, mode).total < n_ctx:
            self.learn(turns, mode, n_ctx + n_ctx // 16)

    def _tokens(self, turns: Sequence[Turn], mode: Mode) -> list[float]:
        """Return the tokens of each turn, not corrected. Text that is completed has no markers and no system prompt."""
        known = self._known
        if any(turn.text not in known for turn in turns):
            self._known = {
                turn.text: known[turn.text] if turn.text in known else estimated_tokens(turn.text) for turn in turns
            }
        if mode is Mode.COMPLETE:
            return [0.0 if turn.role == "system" else self._known[turn.text] for turn in turns]
        return [self._known[turn.text] + _TURN for turn in turns]
