"""How turns become the prompt of a loaded model: ChatML, the model's own chat template, or plain text to be completed.

Formats give prompt parts; only the worker tokenises. Some templates open the model's reasoning in the prompt (QwQ and
the distilled R1 models): then an answer begins inside it, and so must one that is continued.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Protocol

from qwenchat.chat.prompt import DEFAULT_SYSTEM, Plain, PromptPart, Special, Tokens, Turn, chatml, turn_parts
from qwenchat.engines.local import chat_template
from qwenchat.engines.local.chat_template import Rendered
from qwenchat.engines.local.failures import OTHER_MODEL
from qwenchat.engines.local.protocol import Ready
from qwenchat.errors import CannotLoad
from qwenchat.i18n import _


class PromptFormat(Protocol):
    """Turns to prompt parts."""

    @property
    def opening(self) -> str:
        """What the prompt ends with where it opens the reasoning, such as `<think>⏎`; else empty."""
        ...

    async def prompt(self, turns: Sequence[Turn], *, continuing: bool) -> list[PromptPart]:
        """Return a whole prompt, ending where an answer begins or where the last turn is continued.

        Raises CannotLoad where the model has no usable chat template.
        """
        ...

    async def each(self, turns: Sequence[Turn]) -> tuple[list[list[PromptPart]], bool]:
        """Return what each turn adds to a prompt, and whether it does so exactly. Raises CannotLoad like `prompt`."""
        ...


@dataclass(frozen=True, slots=True)
class PlainFormat:
    """Text to be completed, as it is. The system prompt is left out."""

    opening: str = ""

    async def prompt(self, turns: Sequence[Turn], *, continuing: bool) -> list[PromptPart]:
        return [turn.content for turn in turns if turn.role != "system"]

    async def each(self, turns: Sequence[Turn]) -> tuple[list[list[PromptPart]], bool]:
        return [[] if turn.role == "system" else [turn.content] for turn in turns], True


@dataclass(frozen=True, slots=True)
class NoFormat:
    """A base model's: it can't be asked anything, only given a text to complete."""

    opening: str = ""

    async def prompt(self, turns: Sequence[Turn], *, continuing: bool) -> list[PromptPart]:
        raise _no_template()

    async def each(self, turns: Sequence[Turn]) -> tuple[list[list[PromptPart]], bool]:
        raise _no_template()


@dataclass(frozen=True, slots=True)
class ChatMLFormat:
    """Qwen2's own, without running its chat template."""

    opening: str = ""

    async def prompt(self, turns: Sequence[Turn], *, continuing: bool) -> list[PromptPart]:
        parts = chatml(turns, continuing=continuing)
        return _open_reasoning(parts, self.opening, turns[-1] if continuing else None)

    async def each(self, turns: Sequence[Turn]) -> tuple[list[list[PromptPart]], bool]:
        return [turn_parts(turn) for turn in turns], True


class TemplateFormat:
    """The model's Jinja template, rendered in its sandbox.

    A template that refuses a system prompt gets it in front of the first question, unless it is the default one.
    Questions without an answer between them are joined, as many templates demand that the roles alternate. What a
    turn of a conversation adds is what the template writes for it. A template may refuse turns that are not
    a conversation; those are estimated with the markers that most templates have.
    """

    def __init__(self, source: str, bos: str, eos: str, opening: str = "") -> None:
        self.opening = opening
        self._source, self._bos, self._eos = source, bos, eos
        self._last: tuple[list[Turn], bool, Rendered] | None = None

    async def prompt(self, turns: Sequence[Turn], *, continuing: bool) -> list[PromptPart]:
        rendered, _shift = await self._rendered(turns, continuing=continuing)
        # The template writes the opening itself where an answer begins, never in front of an answer.
        return _open_reasoning(rendered.parts, self.opening, turns[-1]) if continuing else rendered.parts

    async def each(self, turns: Sequence[Turn]) -> tuple[list[list[PromptPart]], bool]:
        if [turn.role for turn in turns[:2]] == ["system", "user"]:
            with suppress(CannotLoad):  # `prompt` raises it
                rendered, shift = await self._rendered(turns, continuing=turns[-1].role == "assistant")
                last_of_joined = [not _both_ask(*pair) for pair in pairwise(turns)] + [True]
                places = zip(accumulate(last_of_joined), last_of_joined, strict=True)
                return [rendered.of_turn(count - 1 - shift) if is_last else [] for count, is_last in places], True
        return [[Plain(f"<|{turn.role}|>\n"), turn.content, Plain("<|end|>\n")] for turn in turns], False

    async def _rendered(self, turns: Sequence[Turn], *, continuing: bool) -> tuple[Rendered, int]:
        """Return the prompt, and by how many places its turns come before those of the joined `turns`."""
        turns = _joined(turns)
        try:
            return await self._render(turns, continuing), 0
        except CannotLoad:
            if turns[0].role != "system":
                raise
            return await self._render(_without_system(turns), continuing), 1

    async def _render(self, turns: Sequence[Turn], continuing: bool) -> Rendered:
        """Return the prompt. It is counted before it is sent, so the last one is remembered."""
        if self._last is None or self._last[:2] != (list(turns), continuing):
            rendered = await chat_template.render(
                self._source, turns, bos=self._bos, eos=self._eos, continuing=continuing
            )
            self._last = list(turns), continuing, rendered
        return self._last[2]


async def prompt_format_for(ready: Ready) -> PromptFormat:
    """Return the format of a loaded model."""
    if not ready.chat_template:
        return NoFormat()
    opening = await _opening(ready) if "<think>" in ready.chat_template else ""
    if ready.chatml and "<|im_start|>" in ready.chat_template:
        return ChatMLFormat(opening)
    return TemplateFormat(ready.chat_template, ready.bos, ready.eos, opening)


async def _opening(ready: Ready) -> str:
    """Return how the template opens the reasoning in the prompt, empty where it does not."""
    turns = [Turn("user", "")]
    try:
        rendered = await chat_template.render(ready.chat_template, turns, bos=ready.bos, eos=ready.eos)
    except CannotLoad:
        return ""  # whoever asks the model gets the reason
    last = rendered.parts[-1]
    found = re.search(r"<think>\s*\Z", last.text) if isinstance(last, Special) else None
    return found[0] if found else ""


def _open_reasoning(parts: list[PromptPart], opening: str, continued: Turn | None) -> list[PromptPart]:
    """Return a prompt with the opening of the reasoning where an answer begins, or began.

    Where the answer is `continued` as text, not as tokens, the text says itself where the reasoning is.
    """
    if not opening or (continued and continued.text and not continued.token_ids):
        return parts
    if parts and isinstance(parts[-1], Tokens):
        return [*parts[:-1], Special(opening), parts[-1]]
    return [*parts, Special(opening)]


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


def _no_template() -> CannotLoad:
    return CannotLoad(
        _("This model has no chat template: it continues text, it does not answer."),
        _("Choose an instruct model, or continue a text with --complete."),
        recoveries=(OTHER_MODEL,),
    )
