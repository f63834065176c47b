"""The prompt of a cell, exact to the token: a text with its needles, then the question.

The engine counts the tokens. Needles stand at the wanted depth, moved back to the end of a sentence; the text ends
where the prompt has the wanted length, in the middle of a word if need be. So the prompts of one length begin with the
same tokens, up to the first needle. Nothing is generated here.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from qwenchat.chat.ports import Engine, TokenCounts
from qwenchat.chat.prompt import Turn
from qwenchat.documents.needle.haystack import Haystack
from qwenchat.documents.needle.needles import Needle, draw, question
from qwenchat.documents.needle.plan import Cell, NeedlePlan
from qwenchat.errors import WrongUse
from qwenchat.i18n import _

_FRAMES = {
    "en": "Read this text. A question about a detail of it follows.\n\n<text>\n{text}\n</text>\n\n{question}",
    "zh": "请通读下面的文章，文后有一个问题，答案就在文章里。\n\n<文章>\n{text}\n</文章>\n\n{question}",
}
_BETWEEN = {"en": " ", "zh": ""}
"""What separates two sentences."""
_LEAST_TEXT = 100
"""Tokens of text without which there is nothing to search."""
_ROUND = 256
"""Tokens to which a length that is advised is rounded: the needles of another length may be longer."""
_LEEWAY = 500
"""Characters that a text may have beyond what its needles seemed to leave room for."""
_STOPS = (".", " .", ". .", " . .", " . . .")
_CHARACTERS = 4
"""Of a token, as a first guess."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedlePrompt:
    """What the model is asked for one cell."""

    turns: tuple[Turn, ...]
    tokens: int
    """Of the whole prompt."""
    exact: bool
    """Whether the tokens were counted, and not estimated."""
    needles: tuple[Needle, ...]
    places: tuple[int, ...]
    """The tokens of text before each needle."""
    question: str


class PromptMaker:
    """Makes the prompts of a plan, and remembers what was counted for them."""

    def __init__(self, engine: Engine, plan: NeedlePlan, haystack: Haystack, *, answer_tokens: int) -> None:
        """`answer_tokens` are left free in each length."""
        self._engine, self._plan, self._haystack = engine, plan, haystack
        self._answer_tokens = answer_tokens
        self._counted: dict[int, int] = {}
        """Tokens of the prompt with so many characters of the text, without needles and question."""

    async def beginning(self, tokens: int) -> Turn:
        """Return how the prompts begin: a prompt of at most so many tokens without needles and question."""
        end = await self._last_end(tokens - await self._before(0))
        return self._turn(self._haystack.text[:end], "")

    async def make(self, cell: Cell) -> NeedlePrompt:
        """Return the prompt of a cell. Raises WrongUse where its length leaves no room for a text."""
        plan, haystack = self._plan, self._haystack
        needles = draw(plan.seed_of(cell), plan.needles, plan.language, haystack.contains)
        asked = question(needles, plan.language)
        wanted = cell.length - self._answer_tokens
        around = await self._tokens(self._turn(" ".join(needle.sentence for needle in needles), asked))
        room = wanted - around
        if room < _LEAST_TEXT:
            raise WrongUse(
                _("A length of {length:,} tokens is too short for this test.").format(length=cell.length),
                _("Use lengths of {least:,} tokens or more.").format(
                    least=math.ceil((cell.length - room + _LEAST_TEXT) / _ROUND) * _ROUND
                ),
            )
        ends = [await self._last_end(room * depth / 100) for depth in plan.depths_of(cell) if depth < 100]

        def filled(size: int, after: str = "") -> Turn:
            """Return the prompt with `size` characters of the text; needles that have no place yet stand at its end."""
            places = (*(min(end, size) for end in ends), *[size] * (len(needles) - len(ends)))
            sentences = (needle.sentence for needle in needles)
            text = haystack.with_needles(size, zip(places, sentences, strict=True), between=_BETWEEN[plan.language])
            return self._turn(text + after, asked)

        turn, counts = await self._fitted(filled, await self._last_end(room) + _LEEWAY, wanted)
        start = await self._before(0)
        places = [await self._before(end) - start for end in ends]
        return NeedlePrompt(
            turns=(turn,),
            tokens=counts.total,
            exact=counts.exact,
            needles=needles,
            places=(*places, *[counts.total - around] * (len(needles) - len(ends))),
            question=asked,
        )

    async def _tokens(self, turn: Turn) -> int:
        return (await self._engine.count((turn,))).total

    def _turn(self, text: str, asked: str) -> Turn:
        return Turn("user", _FRAMES[self._plan.language].format(text=text, question=asked))

    async def _before(self, size: int) -> int:
        """Return the tokens of the prompt with the first `size` characters of the text, and nothing else."""
        if size not in self._counted:
            self._counted[size] = await self._tokens(self._turn(self._haystack.text[:size], ""))
        return self._counted[size]

    async def _last_end(self, tokens: float) -> int:
        """Return where the last sentence ends that is within the first `tokens` tokens of the text."""
        haystack, limit = self._haystack, tokens + await self._before(0)
        haystack.grow(int(tokens * _CHARACTERS))
        while await self._before(haystack.ends[-2]) <= limit:
            haystack.grow(2 * len(haystack.text))
        low, high = 0, len(haystack.ends) - 2
        while high - low > 1:
            middle = (low + high) // 2
            if await self._before(haystack.ends[middle]) <= limit:
                low = middle
            else:
                high = middle
        return haystack.ends[low]

    async def _fitted(self, filled: Callable[[int, str], Turn], high: int, wanted: int) -> tuple[Turn, TokenCounts]:
        """Return the prompt of `wanted` tokens, which fewer than `high` characters of the text make, and its counts.

        Where the next character would take several tokens, full stops after the text take the place of some of them.
        """
        low = 0
        while high - low > 1:
            middle = (low + high) // 2
            turn = filled(middle, "")
            counts = await self._engine.count((turn,))
            if counts.total == wanted:
                return turn, counts
            if counts.total < wanted:
                low = middle
            else:
                high = middle
        for stops in _STOPS:
            turn = filled(low, stops)
            counts = await self._engine.count((turn,))
            if counts.total == wanted:
                return turn, counts
        turn = filled(low, "")
        return turn, await self._engine.count((turn,))
