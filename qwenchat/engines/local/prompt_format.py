"""How a loaded model wants its turns arranged: ChatML, its own template, or as plain text to be continued."""

from collections.abc import Sequence
from contextlib import suppress
from itertools import accumulate, pairwise
from typing import Protocol

from qwenchat.chat.prompt import DEFAULT_SYSTEM, Part, Plain, Turn, chatml, turn_parts
from qwenchat.engines.local import chat_template
from qwenchat.engines.local.chat_template import Rendered
from qwenchat.engines.local.protocol import Ready
from qwenchat.errors import CannotLoad
from qwenchat.i18n import _


class Arrangement(Protocol):
    """Turns to prompt parts."""

    async def prompt(self, turns: Sequence[Turn], *, resume: bool) -> list[Part]:
        """Return a whole prompt, ending where the answer begins."""
        ...

    async def each(self, turns: Sequence[Turn]) -> list[list[Part]]:
        """Return what each turn adds to a prompt."""
        ...


class ChatML:
    """Qwen2's own."""

    async def prompt(self, turns: Sequence[Turn], *, resume: bool) -> list[Part]:
        return chatml(turns, resume=resume)

    async def each(self, turns: Sequence[Turn]) -> list[list[Part]]:
        return [turn_parts(turn) for turn in turns]


class PlainText:
    """No arrangement: a base model carries on what stands there. The system prompt is left out."""

    async def prompt(self, turns: Sequence[Turn], *, resume: bool) -> list[Part]:
        return [part for parts in await self.each(turns) for part in parts]

    async def each(self, turns: Sequence[Turn]) -> list[list[Part]]:
        return [[] if turn.role == "system" else [turn.content] for turn in turns]


class OwnTemplate:
    """The model's Jinja template, rendered in its sandbox.

    A template that refuses a system prompt gets it in front of the first question; the default one it does not get.
    Questions between which no answer came are one question to it, as many templates demand that the roles alternate.
    What each turn of a conversation adds is what the template really writes for it. Turns that are no conversation by
    themselves it may refuse, and those are counted by the markers that most templates have.
    """

    def __init__(self, source: str, bos: str, eos: str) -> None:
        self._source, self._bos, self._eos = source, bos, eos
        self._last: tuple[list[Turn], bool, Rendered] | None = None

    async def prompt(self, turns: Sequence[Turn], *, resume: bool) -> list[Part]:
        rendered, _shift = await self._rendered(turns, resume=resume)
        return rendered.parts

    async def each(self, turns: Sequence[Turn]) -> list[list[Part]]:
        if [turn.role for turn in turns[:2]] == ["system", "user"]:
            with suppress(CannotLoad):  # `prompt` tells it
                rendered, shift = await self._rendered(turns, resume=turns[-1].role == "assistant")
                own = [not _both_ask(*pair) for pair in pairwise(turns)] + [True]
                places = zip(accumulate(own), own, strict=True)
                return [rendered.of_turn(count - 1 - shift) if last else [] for count, last in places]
        return [[Plain(f"<|{turn.role}|>\n"), turn.content, Plain("<|end|>\n")] for turn in turns]

    async def _rendered(self, turns: Sequence[Turn], *, resume: bool) -> tuple[Rendered, int]:
        """Return the prompt, and by how many places its turns come before those of the joined `turns`."""
        turns = _joined(turns)
        try:
            return await self._render(turns, resume), 0
        except CannotLoad:
            if turns[0].role != "system":
                raise
            return await self._render(_without_system(turns), resume), 1

    async def _render(self, turns: Sequence[Turn], resume: bool) -> Rendered:
        """Return the prompt; it is counted before it is sent, and the second time it is known."""
        if self._last is None or self._last[:2] != (list(turns), resume):
            rendered = await chat_template.render(self._source, turns, bos=self._bos, eos=self._eos, resume=resume)
            self._last = list(turns), resume, rendered
        return self._last[2]


def _both_ask(turn: Turn, after: Turn) -> bool:
    return turn.role == after.role == "user"


def _joined(turns: Sequence[Turn]) -> list[Turn]:
    """Return the turns, questions that follow one another as one."""
    joined: list[Turn] = []
    for turn in turns:
        if joined and _both_ask(joined[-1], turn):
            joined[-1] = Turn("user", f"{joined[-1].text}\n\n{turn.text}")
        else:
            joined.append(turn)
    return joined


def _without_system(turns: Sequence[Turn]) -> list[Turn]:
    system, first, *rest = turns
    words = first.text if system.text == DEFAULT_SYSTEM else f"{system.text}\n\n{first.text}"
    return [Turn(first.role, words), *rest]


def arrangement_for(ready: Ready, *, complete: bool) -> Arrangement:
    """Return the arrangement for a loaded model. Raises CannotLoad for a base model unless `complete`."""
    if complete:
        return PlainText()
    if not ready.chat_template:
        raise CannotLoad(
            _("This model has no chat template: it continues text, it does not answer."),
            _("Choose an instruct model, or continue a text with --complete."),
        )
    if ready.chatml and "<|im_start|>" in ready.chat_template:
        return ChatML()
    return OwnTemplate(ready.chat_template, ready.bos, ready.eos)
