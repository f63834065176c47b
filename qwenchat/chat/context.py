"""What fits the context window: exact counts in, the turns that the model will see out.

Whole oldest turns are left out, in steps of about a quarter window, so that the prompt's beginning, and with it
the KV cache, stays the same for many turns. The system prompt and the last question always stay.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from qwenchat.errors import PromptTooLong
from qwenchat.i18n import _

ANSWER_RESERVE = 512
"""Tokens kept free for the answer where nothing else is said; less in a window too small for it."""


@dataclass(frozen=True, slots=True)
class Window:
    """Which turns are in: the first (system) and those from `start` on."""

    start: int
    tokens: int
    """Of the prompt."""
    left_out: int
    """Turns."""
    left_out_tokens: int


def reserve(n_ctx: int, max_tokens: int | None) -> int:
    """Return the tokens to keep free for the answer."""
    return min(max_tokens or ANSWER_RESERVE, n_ctx // 4)


def fit(counts: Sequence[int], n_ctx: int, room: int, keep: int = 1, answers: Collection[int] | None = None) -> Window:
    """Return the window for turns of `counts` tokens, the system prompt first.

    `room` tokens of `n_ctx` stay free for the answer and the last `keep` turns stay in. `answers` are the places in
    `counts` of what the model said; without it questions and answers take turns. What is left out begins with the
    first question and ends before another one. Raises PromptTooLong when the turns that must stay do not
    fit by themselves.
    """
    limit = n_ctx - room
    turns = counts[1:]
    least = counts[0] + sum(turns[-keep:])
    if least > limit:
        raise PromptTooLong(
            _("The message takes {tokens:,} tokens and the context window has room for {limit:,}.").format(
                tokens=least, limit=max(limit, 0)
            ),
            _("Shorten it, or load the model with a larger context (--ctx)."),
        )
    total = sum(counts)
    step = max(1, n_ctx // 4)
    drop = -(-max(0, total - limit) // step) * step
    if answers is None:
        answers = range(2, len(counts), 2)
    index = dropped = 0
    while index < len(turns) - keep and (dropped < drop or index + 1 in answers):
        dropped += turns[index]
        index += 1
    return Window(1 + index, total - dropped, index, dropped)
