"""What the model sees of a chat: one plan, for the gauge and the turn alike.

Whole turns are trimmed, the oldest first, in steps of about a quarter of the context window, so that the beginning of
the prompt, and with it the KV cache, stays the same for many turns. The system prompt and the last question stay.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from qwenchat.chat import prompt
from qwenchat.chat.message import Message, Role, Status
from qwenchat.chat.ports import Engine, Mode, ModelInfo
from qwenchat.chat.prompt import Turn
from qwenchat.errors import PromptTooLong
from qwenchat.i18n import _

ANSWER_RESERVE = 512
"""Tokens reserved for the answer where nothing else is said; less in a window too small for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextPlan:
    """What the model reads, and how full that makes the context window. All numbers but `trimmed` are tokens."""

    turns: tuple[Turn, ...]
    """The system prompt and the turns that are not trimmed."""
    used: int
    """By those turns."""
    reserve: int
    """Kept free for the answer."""
    n_ctx: int
    trimmed: int = 0
    """How many of the oldest messages the model does not see."""
    trimmed_tokens: int = 0
    first_seen: str | None = None
    """The id of the oldest message that the model sees; None where it sees all."""
    exact: bool = True
    """False where the engine can only estimate."""

    @property
    def too_long(self) -> bool:
        """Whether the turns that can't be trimmed do not fit alone."""
        return self.used > self.n_ctx - self.reserve

    def check(self) -> "ContextPlan":
        """Return the plan. Raises PromptTooLong where it does not fit."""
        if self.too_long:
            raise PromptTooLong(
                _("The message takes {tokens:,} tokens and the context window has room for {limit:,}.").format(
                    tokens=self.used, limit=max(self.n_ctx - self.reserve, 0)
                ),
                _("Shorten it, or load the model with a larger context (--ctx)."),
            )
        return self


class MessageCounts:
    """The tokens of messages that were counted before, so that each is counted once while a model is loaded."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], int] = {}

    def clear(self) -> None:
        """Forget all: another model is loaded."""
        self._known.clear()

    async def count(
        self, engine: Engine, turns: Sequence[Turn], messages: Sequence[Message], mode: Mode
    ) -> tuple[list[int], bool]:
        """Return the tokens of each of `turns`, and whether they are exact.

        `turns` are the system prompt and one turn for each of `messages`.
        """
        keys = [(message.id, len(turn.text)) for message, turn in zip(messages, turns[1:], strict=True)]
        missing = [place for place, key in enumerate(keys) if key not in self._known]
        reply = await engine.count([turns[0], *(turns[1 + place] for place in missing)], mode)
        if not reply.exact and len(missing) < len(keys):  # a template may need the whole chat to count a turn
            whole = await engine.count(turns, mode)
            return list(whole.values), whole.exact
        fresh = dict(zip(missing, reply.values[1:], strict=True))
        counts = [fresh[place] if place in fresh else self._known[key] for place, key in enumerate(keys)]
        if reply.exact:
            for place, count in fresh.items():
                if messages[place].id and messages[place].status is not Status.STREAMING:
                    self._known[keys[place]] = count
        return [reply.values[0], *counts], reply.exact


async def plan_context(
    engine: Engine,
    info: ModelInfo,
    branch: Sequence[Message],
    *,
    system: str,
    max_tokens: int | None,
    mode: Mode = Mode.ANSWER,
    counts: MessageCounts,
) -> ContextPlan:
    """Return what the model sees of a branch that ends with the question, or with the answer to be continued.

    `max_tokens` limits the answer, None where nothing does. Raises what `Engine.count` raises.
    """
    continuing = mode is Mode.CONTINUE
    seen = prompt.seen_by_model(branch) if branch else []
    turns = prompt.turns_of(system, seen, info.file, continuing=continuing)
    values, exact = await counts.count(engine, turns, seen, mode)
    reserve = min(max_tokens or ANSWER_RESERVE, info.n_ctx // 4)
    answers = {place for place, message in enumerate(seen) if message.role is Role.ASSISTANT}
    keep = min(2 if continuing else 1, len(seen))
    trimmed = _trimmed(values, info.n_ctx - reserve, step=info.n_ctx // 4, keep=keep, answers=answers)
    return ContextPlan(
        turns=(turns[0], *turns[1 + trimmed :]),
        used=values[0] + sum(values[1 + trimmed :]),
        reserve=reserve,
        n_ctx=info.n_ctx,
        trimmed=trimmed,
        trimmed_tokens=sum(values[1 : 1 + trimmed]),
        first_seen=(seen[trimmed].id or None) if trimmed else None,
        exact=exact,
    )


def _trimmed(counts: Sequence[int], limit: int, step: int, keep: int, answers: Collection[int]) -> int:
    """Return how many of the oldest turns go, so that `counts`, the system prompt first, stay within `limit` tokens.

    The last `keep` turns stay. What goes ends before a question: `answers` are the places, behind the system prompt, of
    what the model said. Tokens go in whole steps.
    """
    turns = counts[1:]
    excess = max(0, sum(counts) - limit)
    step = max(1, step)
    wanted = -(-excess // step) * step
    place = dropped = 0
    while place < len(turns) - keep and (dropped < wanted or place in answers):
        dropped += turns[place]
        place += 1
    return place
