"""Prompt formats, which turn turns into a prompt: ChatML, the model's own chat template, or plain text to complete.

A format returns prompt parts; only the worker tokenises. Some templates open the reasoning in the prompt (QwQ and the
distilled R1 models): an answer then begins inside the reasoning, and so does the prompt that continues an answer.
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
    """Turns the turns of a chat into prompt parts."""

    @property
    def opening(self) -> str:
        """The text at the prompt's end that opens the reasoning, such as `<think>⏎`; empty if there is none."""
        ...

    async def prompt(self, turns: Sequence[Turn], *, continuing: bool) -> list[PromptPart]:
        """Return the complete prompt, ending where an answer begins or where the last turn is continued.

        Raises CannotLoad if the model has no usable chat template.
        """
        ...

    async def each(self, turns: Sequence[Turn]) -> tuple[list[list[PromptPart]], bool]:
        """Return the parts that each turn adds to a prompt, and whether they are exact. Raises CannotLoad."""
        ...


@dataclass(frozen=True, slots=True)
class PlainFormat:
    """The texts of the turns as they are, for the model to complete. The system prompt is left out."""

    opening: str = ""

    async def prompt(self, turns: Sequence[Turn], *, continuing: bool) -> list[PromptPart]:
        return [turn.content for turn in turns if turn.role != "system"]

    async def each(self, turns: Sequence[Turn]) -> tuple[list[list[PromptPart]], bool]:
        return [[] if turn.role == "system" else [turn.content] for turn in turns], True


@dataclass(frozen=True, slots=True)
class NoFormat:
    """The format of a base model, which can't answer questions and only completes text (`PlainFormat`)."""

    opening: str = ""

    async def prompt(self, turns: Sequence[Turn], *, continuing: bool) -> list[PromptPart]:
        raise _no_template()

    async def each(self, turns: Sequence[Turn]) -> tuple[list[list[PromptPart]], bool]:
        raise _no_template()


@dataclass(frozen=True, slots=True)
class ChatMLFormat:
    """Qwen2's format, written directly without running the model's chat template."""

    opening: str = ""

    async def prompt(self, turns: Sequence[Turn], *, continuing: bool) -> list[PromptPart]:
        parts = chatml(turns, continuing=continuing)
        return _open_reasoning(parts, self.opening, turns[-1] if continuing else None)

    async def each(self, turns: Sequence[Turn]) -> tuple[list[list[PromptPart]], bool]:
        return [turn_parts(turn) for turn in turns], True


class TemplateFormat:
    """The model's own Jinja template, rendered in a sandbox.

    If a template rejects a system prompt, the system prompt is put before the first question, unless it is the default
    one. Questions without an answer between them are joined, because many templates demand alternating roles. The
    parts of a turn are those that the template writes for it. Turns that are not a complete chat may be rejected by a
    template; their parts are estimates with the markers that most templates use.
    """

    def __init__(self, source: str, bos: str, eos: str, opening: str = "") -> None:
        self.opening = opening
        self._source, self._bos, self._eos = source, bos, eos
        self._last: tuple[list[Turn], bool, Rendered] | None = None

    async def prompt(self, turns: Sequence[Turn], *, continuing: bool) -> list[PromptPart]:
        rendered, _shift = await self._rendered(turns, continuing=continuing)
        # The template itself writes the opening where an answer begins, but not before an existing answer.
        return _open_reasoning(rendered.parts, self.opening, turns[-1]) if continuing else rendered.parts

    async def each(self, turns: Sequence[Turn]) -> tuple[list[list[PromptPart]], bool]:
        if [turn.role for turn in turns[:2]] == ["system", "user"]:
            with suppress(CannotLoad):  # `prompt` raises it
                rendered, shift = await self._rendered(turns, continuing=turns[-1].role == "assistant")
                last_of_joined = [not _are_questions(*pair) for pair in pairwise(turns)] + [True]
                numbered = zip(accumulate(last_of_joined), last_of_joined, strict=True)
                return [rendered.of_turn(count - 1 - shift) if is_last else [] for count, is_last in numbered], True
        return [[Plain(f"<|{turn.role}|>\n"), turn.content, Plain("<|end|>\n")] for turn in turns], False

    async def _rendered(self, turns: Sequence[Turn], *, continuing: bool) -> tuple[Rendered, int]:
        """Return the prompt, and how many of the joined `turns` were merged into the first one (0 or 1)."""
        turns = _joined(turns)
        try:
            return await self._render(turns, continuing), 0
        except CannotLoad:
            if turns[0].role != "system":
                raise
            return await self._render(_without_system(turns), continuing), 1

    async def _render(self, turns: Sequence[Turn], continuing: bool) -> Rendered:
        """Return the prompt. The last one is cached, because a prompt is counted before it is sent."""
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
    """Return the text with which the template opens the reasoning in the prompt; empty if it does not."""
    turns = [Turn("user", "")]
    try:
        rendered = await chat_template.render(ready.chat_template, turns, bos=ready.bos, eos=ready.eos)
    except CannotLoad:
        return ""  # the first request raises the same error
    last = rendered.parts[-1]
    found = re.search(r"<think>\s*\Z", last.text) if isinstance(last, Special) else None
    return found[0] if found else ""


def _open_reasoning(parts: list[PromptPart], opening: str, continued: Turn | None) -> list[PromptPart]:
    """Return a prompt with the opening of the reasoning before the answer.

    A `continued` answer given as text, not as tokens, already contains its reasoning markers.
    """
    if not opening or (continued and continued.text and not continued.token_ids):
        return parts
    if parts and isinstance(parts[-1], Tokens):
        return [*parts[:-1], Special(opening), parts[-1]]
    return [*parts, Special(opening)]


def _are_questions(turn: Turn, after: Turn) -> bool:
    return turn.role == after.role == "user"


def _joined(turns: Sequence[Turn]) -> list[Turn]:
    """Return the turns with consecutive questions joined into one."""
    joined: list[Turn] = []
    for turn in turns:
        if joined and _are_questions(joined[-1], turn):
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
        _("This model has no chat template: it can continue text, but not answer questions."),
        _("Choose an instruct model, or continue a text with --complete."),
        recoveries=(OTHER_MODEL,),
    )
