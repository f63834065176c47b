"""How a loaded model wants its turns arranged: ChatML, its own template, or as plain text to be continued."""

from collections.abc import Sequence
from typing import Protocol

from qwenchat.chat.prompt import DEFAULT_SYSTEM, Part, Plain, Turn, chatml, turn_parts
from qwenchat.engine import template
from qwenchat.engine.protocol import Ready
from qwenchat.errors import CannotLoad
from qwenchat.i18n import _


class Arrangement(Protocol):
    """Turns to prompt parts."""

    async def prompt(self, turns: Sequence[Turn], *, resume: bool) -> list[Part]:
        """Return a whole prompt, ending where the answer begins."""
        ...

    def each(self, turns: Sequence[Turn]) -> list[list[Part]]:
        """Return what each turn adds to a prompt."""
        ...


class ChatML:
    """Qwen2's own."""

    async def prompt(self, turns: Sequence[Turn], *, resume: bool) -> list[Part]:
        return chatml(turns, resume=resume)

    def each(self, turns: Sequence[Turn]) -> list[list[Part]]:
        return [turn_parts(turn) for turn in turns]


class PlainText:
    """No arrangement: a base model carries on what stands there. The system prompt is left out."""

    async def prompt(self, turns: Sequence[Turn], *, resume: bool) -> list[Part]:
        return [part for parts in self.each(turns) for part in parts]

    def each(self, turns: Sequence[Turn]) -> list[list[Part]]:
        return [[] if turn.role == "system" else [turn.content] for turn in turns]


class OwnTemplate:
    """The model's Jinja template, rendered in its sandbox.

    What single turns add is estimated: the words exactly, the template's markers as about those of most templates.
    A template that refuses a system prompt gets it in front of the first question; the default one it does not get.
    """

    def __init__(self, source: str, bos: str, eos: str) -> None:
        self._source, self._bos, self._eos = source, bos, eos

    async def prompt(self, turns: Sequence[Turn], *, resume: bool) -> list[Part]:
        try:
            return await self._render(turns, resume)
        except CannotLoad:
            if turns[0].role != "system":
                raise
            return await self._render(_without_system(turns), resume)

    async def _render(self, turns: Sequence[Turn], resume: bool) -> list[Part]:
        return await template.render(self._source, turns, bos=self._bos, eos=self._eos, resume=resume)

    def each(self, turns: Sequence[Turn]) -> list[list[Part]]:
        return [[Plain(f"<|{turn.role}|>\n"), turn.content, Plain("<|end|>\n")] for turn in turns]


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
