"""What the model sees of a chat: one plan, for the gauge and the turn alike.

Whole turns are trimmed, the oldest first, in steps of about a quarter of the context window, so that the beginning of
the prompt, and with it the KV cache, stays the same for many turns. The system prompt, a summary of earlier messages
and the last question stay. A model that does not read a history sees the last question alone.
"""

from collections.abc import Sequence

from msgspec import Struct, structs

from qwenchat.chat import prompt
from qwenchat.chat.message import Citation, Message, Role, Status
from qwenchat.chat.ports import Engine, Mode, ModelInfo, TokenCounts
from qwenchat.chat.prompt import Turn
from qwenchat.chat.tools import ToolSpec
from qwenchat.errors import PromptTooLong, Recovery, RecoveryKind
from qwenchat.i18n import _

ANSWER_RESERVE = 512
"""Tokens reserved for the answer where nothing else is said; less in a window too small for it."""


class ContextPlan(Struct, frozen=True, kw_only=True):
    """What the model reads, and how full that makes the context window. All numbers but `trimmed` are tokens."""

    turns: tuple[Turn, ...]
    """The system prompt, if there is one, and the turns that are not trimmed."""
    counts: TokenCounts
    """Of the prompt that these turns make."""
    reserve: int
    """Kept free for the answer."""
    n_ctx: int
    trimmed: int = 0
    """How many of the oldest messages the model does not see, all of them where no question is asked yet."""
    trimmed_tokens: int = 0
    first_seen: str | None = None
    """The id of the oldest message that the model sees, empty for one without an id; None where it sees all."""

    @property
    def used(self) -> int:
        """By the prompt."""
        return self.counts.total

    @property
    def room(self) -> int:
        """For the prompt."""
        return self.n_ctx - self.reserve

    @property
    def too_long(self) -> bool:
        """Whether the turns that can't be trimmed do not fit alone."""
        return self.used > self.room

    def check(self) -> "ContextPlan":
        """Return the plan. Raises PromptTooLong, naming what is too long, where it does not fit."""
        if self.too_long:
            what, part = self._longest()
            numbers = {
                "part": f"{part:,}",
                "tokens": f"{self.used:,}",
                "room": f"{self.room:,}",
                "n_ctx": f"{self.n_ctx:,}",
                "reserve": f"{self.reserve:,}",
            }
            raise PromptTooLong(
                what.format(**numbers)
                + " "
                + _(
                    "The prompt takes {tokens} tokens; the context window has room for {room}: "
                    "{n_ctx} less {reserve} for the answer."
                ).format(**numbers),
                _("Shorten it."),
                recoveries=(Recovery(RecoveryKind.LARGER_CONTEXT),),
            )
        return self

    def _longest(self) -> tuple[str, int]:
        """Return which turn is to be shortened, in words, and its tokens."""
        has_system = bool(self.turns) and self.turns[0].role == "system"
        system = self.counts.values[0] if has_system else 0
        last = self.counts.values[-1] if len(self.turns) > has_system else 0
        if system > last and self.turns[0].tools:
            return _("The system prompt and the descriptions of the tools are too long: {part} tokens."), system
        if system > last:
            return _("The system prompt is too long: {part} tokens."), system
        if self.turns and self.turns[-1].role == "assistant":
            return _("The answer is too long to continue: {part} tokens."), last
        return _("The question is too long: {part} tokens."), last


class MessageCounts:
    """The tokens of messages that were counted before, so that each is counted once while a model is loaded."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], int] = {}

    def clear(self) -> None:
        """Forget all: another model is loaded."""
        self._known.clear()

    async def count(
        self, engine: Engine, turns: Sequence[Turn], messages: Sequence[Message], mode: Mode
    ) -> TokenCounts:
        """Return the tokens of the prompt that `turns` make: the system prompt, if any, and one for each message."""
        head = len(turns) - len(messages)
        keys = [(message.id, hash(turn.text)) for message, turn in zip(messages, turns[head:], strict=True)]
        known = [self._known.get(key) for key in keys]
        if mode is Mode.CONTINUE:
            known[-1] = None  # it is left open and takes less than a whole turn
        missing = [place for place, count in enumerate(known) if count is None]
        reply = await engine.count([*turns[:head], *(turns[head + place] for place in missing)], mode)
        if not reply.additive:
            return reply if len(missing) == len(keys) else await engine.count(turns, mode)
        fresh = dict(zip(missing, reply.values[head:], strict=True))
        for place, count in fresh.items():
            is_whole = messages[place].id and messages[place].status is not Status.STREAMING
            if is_whole and reply.exact and not (mode is Mode.CONTINUE and place == len(keys) - 1):
                self._known[keys[place]] = count
        counts = [fresh[place] if count is None else count for place, count in enumerate(known)]
        return structs.replace(reply, values=(*reply.values[:head], *counts))


async def plan_context(
    engine: Engine,
    info: ModelInfo,
    branch: Sequence[Message],
    *,
    system: str,
    max_tokens: int | None,
    mode: Mode = Mode.ANSWER,
    tools: Sequence[ToolSpec] = (),
    passages: Sequence[Citation] | None = None,
    counts: MessageCounts,
) -> ContextPlan:
    """Return what the model sees of a branch that ends with the question, or with the answer to be continued.

    `max_tokens` limits the answer, None where nothing does; `tools` may be called; `passages` were found in documents
    for the question, None where there are none. Raises what `Engine.count` raises.
    """
    continuing = mode is Mode.CONTINUE
    seen = prompt.seen_by_model(branch) if branch else []
    turns = prompt.turns_of(system, seen, info.file, tools=tools, passages=passages, continuing=continuing)
    head = len(turns) - len(seen)
    reserve = min(max_tokens or ANSWER_RESERVE, info.n_ctx // 4)
    keep = min(2 if continuing else 1, len(seen))
    whole = current = await counts.count(engine, turns, seen, mode)
    trimmed = 0
    stays = int(_begins_with_summary(seen, whole.values[head:], info))
    if not info.reads_history:
        is_answered = bool(seen) and seen[-1].role is Role.ASSISTANT and not continuing
        trimmed = len(seen) if is_answered else max(0, len(seen) - keep)
        turns = [*turns[:head], *turns[head + trimmed :]]
        current = await counts.count(engine, turns, seen[trimmed:], mode) if trimmed else current
    while current.total > info.n_ctx - reserve and len(seen) - stays - trimmed > keep:
        excess = current.total - (info.n_ctx - reserve)
        values = current.values[head + stays :]
        answers = [message.role is Role.ASSISTANT for message in seen[stays + trimmed :]]
        trimmed += _trimmed(values, answers, excess=excess, step=info.n_ctx // 4, keep=keep)
        turns = [*turns[: head + stays], *turns[len(turns) - (len(seen) - stays - trimmed) :]]
        current = await counts.count(engine, turns, [*seen[:stays], *seen[stays + trimmed :]], mode)
    return ContextPlan(
        turns=tuple(turns),
        counts=current,
        reserve=reserve,
        n_ctx=info.n_ctx,
        trimmed=trimmed,
        trimmed_tokens=whole.total - current.total,
        first_seen=next((message.id for message in seen[stays + trimmed :]), "") if trimmed else None,
    )


def _begins_with_summary(seen: Sequence[Message], tokens: Sequence[int], info: ModelInfo) -> bool:
    """Say whether messages begin with a summary that is short enough to stay: a quarter of the context window."""
    return info.reads_history and len(seen) > 1 and seen[0].summarises > 0 and tokens[0] <= info.n_ctx // 4


def _trimmed(values: Sequence[int], answers: Sequence[bool], *, excess: int, step: int, keep: int) -> int:
    """Return how many of the oldest turns go, at least one, so that `excess` tokens do where that can be.

    `values` are the tokens of the turns and `answers` says which are the model's. The last `keep` turns stay. What goes
    ends before a question, and tokens go in whole steps.
    """
    step = max(1, step)
    wanted = -(-excess // step) * step
    place = dropped = 0
    while place < len(values) - keep and (dropped < wanted or answers[place]):
        dropped += values[place]
        place += 1
    return place
