"""What reading a document would take: whole, as a part of the prompt, or in parts, at each level of reading.

From this the program chooses how a document is read where the user does not, and says so beforehand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from qwenchat.chat.context import ContextPlan
from qwenchat.chat.message import Attachment
from qwenchat.chat.ports import Engine
from qwenchat.chat.prompt import Turn, attachment_text
from qwenchat.text.token_estimate import estimated_tokens

if TYPE_CHECKING:
    from qwenchat.documents.levels.choice import Speed

_CERTAIN = 4
"""A document that takes this many context windows by an estimate is not counted: it fits none."""
_UNKNOWN: Mapping[int, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
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


async def forecasts(
    engine: Engine, plan: ContextPlan, attachments: Sequence[Attachment], speed: "Speed | None"
) -> list[Forecast]:
    """Return what each document takes beside a planned prompt, which has none of them.

    One goes whole if it fits well beside those before it that do; for one that is `in_parts` already nothing is taken.
    Raises what `Engine.count` raises.
    """
    from qwenchat.documents.levels.choice import LEVELS, predicted_seconds  # noqa: PLC0415 - few questions have any

    free, taken = max(0, plan.room - plan.used), 0
    found: list[Forecast] = []
    for each in attachments:
        tokens, is_exact = await _tokens(engine, each, plan.n_ctx)
        fits_well = taken + tokens <= free // 2
        in_parts = {level: predicted_seconds(level, tokens, speed, room=free // 2) for level in LEVELS} if speed else {}
        found.append(
            Forecast(
                tokens=tokens,
                is_exact=is_exact,
                room=free - taken,
                fits_well=fits_well,
                whole_s=speed.seconds(tokens, 0) if speed else None,
                level_s=in_parts or _UNKNOWN,
            )
        )
        taken += tokens if fits_well and not each.in_parts else 0
    return found


async def _tokens(engine: Engine, attachment: Attachment, n_ctx: int) -> tuple[int, bool]:
    """Return the tokens of a document, and whether they were counted."""
    about = round(estimated_tokens(attachment.text))
    if about > _CERTAIN * n_ctx:
        return about, False
    counts = await engine.count([Turn("user", attachment_text(attachment.name, attachment.text))])
    return counts.values[0], counts.exact
