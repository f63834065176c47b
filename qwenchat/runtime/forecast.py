"""What reading a document would take: whole, as a part of the prompt, or in parts, at each level of reading.

From this the program chooses how a document is read where the user does not, and says so beforehand.
"""

import asyncio
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from msgspec import Struct

from qwenchat.chat.context import ContextPlan
from qwenchat.chat.message import Attachment
from qwenchat.chat.ports import Engine
from qwenchat.chat.prompt import Turn, attachment_text
from qwenchat.text.token_estimate import estimated_tokens

if TYPE_CHECKING:
    from qwenchat.documents.levels.choice import Speed

_CERTAIN = 4
"""A document that takes this many context windows by an estimate is not counted: it fits none."""
_STEP = 1 << 16
"""Characters that are estimated at a time."""
_UNKNOWN: Mapping[int, float] = MappingProxyType({})


class Forecast(Struct, frozen=True, kw_only=True):
    """What reading one document takes."""

    tokens: int
    is_exact: bool
    """Whether they were counted, not estimated."""
    room: int
    """Tokens that the question and what goes whole before it leave for it."""
    fits_well: bool
    """Whether it can go whole and leave half of what is free: for the answer, and for what is asked next."""
    whole_s: float | None
    """Seconds until the answer begins, about, where it goes whole; None where the speed of the model is not known."""
    level_s: Mapping[int, float]
    """Seconds until the answer begins, about, by level; empty where the speed of the model is not known."""

    @property
    def fits(self) -> bool:
        """Whether it can go whole at all."""
        return self.tokens <= self.room

    def parts_s(self, level: int | None) -> float | None:
        """Return the seconds until the answer begins where it is read in parts; None where they are not known.

        Without a `level`, for a usual question.
        """
        from qwenchat.documents.levels.choice import QUICK_S  # noqa: PLC0415 - few questions have documents

        if level is None and self.level_s:
            level = 2 if self.level_s[2] <= QUICK_S else 1
        return self.level_s.get(level or 1)


class DocumentCount(Struct, frozen=True, kw_only=True):
    """How many tokens one document takes, or several together."""

    tokens: int
    is_exact: bool


async def forecasts(
    engine: Engine, plan: ContextPlan, attachments: Sequence[Attachment], speed: "Speed | None"
) -> list[Forecast]:
    """Return what each document takes beside a planned prompt, which has none of them.

    Those that are `in_parts` already stay so. Raises what `Engine.count` raises.
    """
    counted = [(await count_documents(engine, [each], plan.n_ctx), each.in_parts or None) for each in attachments]
    return forecasts_of(plan, counted, speed)


def forecasts_of(
    plan: ContextPlan, counted: Sequence[tuple[DocumentCount, bool | None]], speed: "Speed | None"
) -> list[Forecast]:
    """Return what documents take beside a planned prompt, which has none of them.

    With each count goes whether it is to be read in parts; where that is None, it goes whole if it fits well beside
    those before it that go whole.
    """
    from qwenchat.documents.levels.choice import Level, predicted_seconds  # noqa: PLC0415 - few questions have any

    free, taken = max(0, plan.room - plan.used), 0
    found: list[Forecast] = []
    for count, in_parts in counted:
        tokens = count.tokens
        fits_well = taken + tokens <= free // 2
        level_s = (
            {level.value: predicted_seconds(level, tokens, speed, room=free // 2) for level in Level} if speed else {}
        )
        found.append(
            Forecast(
                tokens=tokens,
                is_exact=count.is_exact,
                room=free - taken,
                fits_well=fits_well,
                whole_s=speed.seconds(tokens, 0) if speed else None,
                level_s=level_s or _UNKNOWN,
            )
        )
        taken += tokens if (fits_well if in_parts is None else not in_parts and tokens <= free - taken) else 0
    return found


async def count_documents(engine: Engine, attachments: Sequence[Attachment], n_ctx: int) -> DocumentCount:
    """Return how many tokens documents take together; those that fit no window are not counted, but estimated.

    Raises what `Engine.count` raises.
    """
    about = await asyncio.to_thread(lambda: round(sum(map(_estimated, attachments))))
    if about > _CERTAIN * n_ctx:
        return DocumentCount(tokens=about, is_exact=False)
    counts = await engine.count([Turn("user", attachment_text(each.name, each.text)) for each in attachments])
    return DocumentCount(tokens=sum(counts.values), is_exact=counts.exact)


def _estimated(attachment: Attachment) -> float:
    """Return about how many tokens a document takes, in steps between which other threads run."""
    text = attachment.text
    return sum(estimated_tokens(text[at : at + _STEP]) for at in range(0, len(text), _STEP))
