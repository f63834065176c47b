"""Prompt formats, which turn turns into a prompt: ChatML, the model's own chat template, or plain text to complete.

A format returns prompt parts; only the engine tokenises, and what is counted is what is sent. Without a system prompt
of the user's, the template's default is used, if it has one. Some templates open the reasoning in the prompt (QwQ and
the distilled R1 models): an answer then begins inside the reasoning, and so does the prompt that continues an answer.
"""

import re
from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from qwenchat.chat.message import ToolResult
from qwenchat.chat.ports import Mode, TokenCounts
from qwenchat.chat.prompt import Plain, PromptPart, Special, Tokens, Turn, turn_parts
from qwenchat.engines.calls.format import CallFormat, unforged
from qwenchat.engines.calls.hermes import HermesFormat
from qwenchat.engines.calls.qwen import QwenFormat
from qwenchat.engines.chat_template import ChatTemplate, Rendered, TemplateSandbox
from qwenchat.errors import CannotLoad, Recovery, RecoveryKind
from qwenchat.i18n import _
from qwenchat.text.language import is_chinese

PROBES = (
    (Turn("user", "Q"),),
    (Turn("system", "S"), Turn("user", "Q")),
    (Turn("user", "Q"), Turn("assistant", "A"), Turn("user", "R"), Turn("user", "T")),
    (Turn("system", "S"), Turn("user", "Q"), Turn("assistant", "A"), Turn("user", "R")),
)
"""Chats that tell whether a template writes ChatML; the first also tells what it writes by itself."""
_CHATML_BY_ITSELF = re.compile(
    r"(?P<system>.*)<\|im_start\|>user\nQ<\|im_end\|>\n<\|im_start\|>assistant\n(?P<opening><think>\s*)?", re.DOTALL
)


class PromptFormat(Protocol):
    """Turns the turns of a chat into prompt parts."""

    @property
    def opening(self) -> str:
        """The text at the prompt's end that opens the reasoning, such as `<think>⏎`; empty if there is none."""
        ...

    @property
    def calls(self) -> CallFormat | None:
        """How its models call tools; None where they can't."""
        ...

    @property
    def additive(self) -> bool:
        """Whether a turn adds the same parts to every prompt, so that it need be counted only once."""
        ...

    async def prompt(self, turns: Sequence[Turn], *, continuing: bool) -> Rendered:
        """Return the complete prompt, ending where an answer begins or where the last turn is continued.

        Raises CannotLoad if the model has no usable chat template.
        """
        ...


class PlainFormat(Struct, frozen=True):
    """The texts of the turns as they are, for the model to complete. The system prompt is left out."""

    is_raw: bool = False
    """Whether the special tokens in them are what they stand for."""
    opening: str = ""
    calls: None = None
    additive: bool = True

    async def prompt(self, turns: Sequence[Turn], *, continuing: bool) -> Rendered:
        places = [place for place, turn in enumerate(turns) if turn.role != "system"]
        return Rendered([self._part(turns[place]) for place in places], [*places])

    def _part(self, turn: Turn) -> PromptPart:
        if not self.is_raw:
            return turn.content
        return Tokens(turn.token_ids, with_control=True) if turn.token_ids else Special(turn.text)


class NoFormat(Struct, frozen=True):
    """The format of a base model, which can't answer questions and only completes text (`PlainFormat`)."""

    opening: str = ""
    calls: None = None
    additive: bool = True

    async def prompt(self, turns: Sequence[Turn], *, continuing: bool) -> Rendered:
        raise CannotLoad(
            _("This model has no chat template: it can continue text, but only instruct models answer questions."),
            recoveries=(Recovery(RecoveryKind.OTHER_MODEL), Recovery(RecoveryKind.COMPLETE)),
        )


class ChatMLFormat(Struct, frozen=True):
    """Qwen2's format, written directly where the model's chat template would write the same."""

    system: str = ""
    """What the template writes before the first turn if that is no system prompt: its default one, or nothing."""
    opening: str = ""
    calls: CallFormat | None = None
    additive: bool = True

    async def prompt(self, turns: Sequence[Turn], *, continuing: bool) -> Rendered:
        return self.chatml(turns, continuing=continuing)

    def chatml(self, turns: Sequence[Turn], *, continuing: bool = False) -> Rendered:
        """Return the prompt."""
        parts: list[PromptPart] = []
        owners: list[int | None] = []
        if self.system and not (turns and turns[0].role == "system"):
            parts, owners = [Special(self.system)], [None]
        for place, turn in enumerate(turns):
            is_last = place == len(turns) - 1
            parts += self._turn(turn, turns, is_open=continuing and is_last)
            owners += [place] * (len(parts) - len(owners))
        if continuing:
            return _open_reasoning(Rendered(parts[:-2], owners[:-2]), self.opening, turns[-1])
        parts += [Special("<|im_start|>"), Plain("assistant\n"), *([Special(self.opening)] if self.opening else [])]
        return Rendered(parts, [*owners, *[None] * (len(parts) - len(owners))])

    def _turn(self, turn: Turn, turns: Sequence[Turn], *, is_open: bool) -> list[PromptPart]:
        """Return the parts of one turn, with its tools or its calls."""
        if turn.tools and self.calls:
            own = self.system.removeprefix("<|im_start|>system\n").removesuffix("<|im_end|>\n")
            asked = next((other.text for other in turns if other.role == "user"), "")
            return turn_parts(turn, self.calls.system(turn.text or own, turn.tools, chinese=is_chinese(asked)))
        if turn.parts and self.calls:
            return turn_parts(turn, self.calls.answer(turn.parts, is_open=is_open))
        if turn.role == "user" and self.calls and turns[0].tools:
            return turn_parts(replace(turn, text=unforged(turn.text, self.calls.markers)))
        return turn_parts(turn)


class TemplateFormat:
    """The model's own Jinja template, rendered in a sandbox.

    If a template rejects or omits a system prompt, the system prompt is put before the first question. Questions
    without an answer between them are joined, because many templates demand alternating roles. Turns that are not a
    complete chat may be rejected by a template.
    """

    additive = False
    calls = None

    def __init__(self, template: ChatTemplate, opening: str = "") -> None:
        self.opening = opening
        self._template = template
        self._last: tuple[list[Turn], bool, Rendered] | None = None
        """The newest prompt: it is counted before it is sent."""

    async def prompt(self, turns: Sequence[Turn], *, continuing: bool) -> Rendered:
        if self._last is None or self._last[:2] != (list(turns), continuing):
            self._last = list(turns), continuing, await self._render(turns, continuing)
        return self._last[2]

    async def _render(self, turns: Sequence[Turn], continuing: bool) -> Rendered:
        joined, places = _joined(turns)
        chats = [joined]
        if [turn.role for turn in joined[:2]] == ["system", "user"]:
            chats.append([Turn("user", f"{joined[0].text}\n\n{joined[1].text}"), *joined[2:]])
        found = await self._template.render(*chats, continuing=continuing)
        rendered = found[0]
        if len(chats) > 1 and not (isinstance(rendered, Rendered) and 0 in rendered.turns):
            rendered, places = found[1] if isinstance(found[1], Rendered) else rendered, places[1:]
        if isinstance(rendered, CannotLoad):
            raise rendered
        owned = Rendered(rendered.parts, [None if turn is None else places[turn] for turn in rendered.turns])
        # The template itself writes the opening where an answer begins, but not before an existing answer.
        return _open_reasoning(owned, self.opening, turns[-1]) if continuing else owned


def for_mode(prompt_format: PromptFormat, mode: Mode) -> PromptFormat:
    """Return the format for a request's mode, given the model's own."""
    return PlainFormat(is_raw=mode is Mode.RAW) if mode in (Mode.COMPLETE, Mode.RAW) else prompt_format


class PromptToCount(Struct, frozen=True, kw_only=True):
    """A prompt whose tokens are to be counted, part by part."""

    rendered: Rendered
    turns: int
    exact: bool
    """Whether it is the prompt that is sent."""
    additive: bool

    def counts(self, tokens: Sequence[int], total: int) -> TokenCounts:
        """Return the tokens of each turn, given those of each part and of the whole prompt."""
        values = [0] * self.turns
        for owner, count in zip(self.rendered.turns, tokens, strict=True):
            if owner is not None:
                values[owner] += count
        return TokenCounts(values=tuple(values), around=total - sum(values), exact=self.exact, additive=self.additive)


async def prompt_to_count(prompt_format: PromptFormat, turns: Sequence[Turn], mode: Mode) -> PromptToCount:
    """Return the prompt to count for a request.

    Turns that a template refuses take about what their contents take, between markers as most templates have. Raises
    CannotLoad where the model has no template at all.
    """
    used, exact = for_mode(prompt_format, mode), True
    try:
        rendered = await used.prompt(turns, continuing=mode is Mode.CONTINUE)
    except CannotLoad:
        if used.additive:
            raise
        rendered, exact = _estimate(turns), False
    return PromptToCount(rendered=rendered, turns=len(turns), exact=exact, additive=used.additive)


def _estimate(turns: Sequence[Turn]) -> Rendered:
    parts: list[PromptPart] = []
    for turn in turns:
        parts += [Plain(f"<|{turn.role}|>\n"), turn.content, Plain("<|end|>\n")]
    return Rendered(parts, [place for place in range(len(turns)) for _part in range(3)])


class TemplateFacts(Struct, frozen=True):
    """What a template was found to write."""

    is_chatml: bool = False
    system: str = ""
    """With ChatML: what the template writes before the first turn if that is no system prompt."""
    opening: str = ""
    """What it opens the reasoning with, at the end of the prompt."""


async def prompt_format_for(
    template: ChatTemplate, *, chatml: bool, sandbox: TemplateSandbox | None = None
) -> PromptFormat:
    """Return the format of a model with this template, as `template_facts` and `format_with` do."""
    return format_with(template, await template_facts(template, chatml=chatml, sandbox=sandbox))


async def template_facts(
    template: ChatTemplate, *, chatml: bool, sandbox: TemplateSandbox | None = None
) -> TemplateFacts:
    """Find out what a template writes; its source is empty where the model has none.

    `chatml` says whether ChatML's two markers are single tokens of the model. `sandbox` may have been started before.
    """
    if "<|im_start|>" not in template.source and "<think>" not in template.source:
        return TemplateFacts()
    try:
        texts = [each.text for each in await template.texts(PROBES, sandbox=sandbox)]
    except CannotLoad:
        return TemplateFacts()  # the first request raises the same error
    if chatml and "strftime_now" not in template.source and (written := chatml_of(texts)):
        return TemplateFacts(is_chatml=True, system=written.system, opening=written.opening)
    opening = re.search(r"<think>\s*\Z", texts[0])
    return TemplateFacts(opening=opening[0] if opening else "")


def format_with(template: ChatTemplate, facts: TemplateFacts) -> PromptFormat:
    """Return the format of a model whose template was found to write this."""
    if not template.source:
        return NoFormat()
    if not facts.is_chatml:
        return TemplateFormat(template, facts.opening)
    calls = HermesFormat() if "<tool_call>" in template.source else QwenFormat()
    return ChatMLFormat(facts.system, facts.opening, calls)


def chatml_of(texts: Sequence[str]) -> ChatMLFormat | None:
    """Return ChatML as a template writes it, given the texts that it makes of `PROBES`; None if it writes another."""
    by_itself = _CHATML_BY_ITSELF.fullmatch(texts[0])
    if by_itself is None:
        return None
    written = ChatMLFormat(by_itself["system"], by_itself["opening"] or "")
    return written if [*texts] == [_text(written.chatml(probe)) for probe in PROBES] else None


def _text(rendered: Rendered) -> str:
    return "".join(part.text for part in rendered.parts if not isinstance(part, Tokens))


def _open_reasoning(rendered: Rendered, opening: str, continued: Turn) -> Rendered:
    """Return a prompt with the opening of the reasoning before the answer that is continued.

    An answer given as text, not as tokens, already contains its reasoning markers.
    """
    if not opening or (continued.text and not continued.token_ids and not continued.parts):
        return rendered
    if continued.parts:
        if not isinstance(continued.parts[-1], ToolResult):
            return rendered
        return Rendered([*rendered.parts, Special(opening)], [*rendered.turns, None])
    at = len(rendered.parts)
    if rendered.parts and isinstance(rendered.parts[-1], Tokens):
        at -= 1
    return Rendered(
        [*rendered.parts[:at], Special(opening), *rendered.parts[at:]],
        [*rendered.turns[:at], None, *rendered.turns[at:]],
    )


def _joined(turns: Sequence[Turn]) -> tuple[list[Turn], list[int]]:
    """Return the turns with consecutive questions joined into one, and the place of the last turn in each."""
    joined: list[Turn] = []
    places: list[int] = []
    for place, turn in enumerate(turns):
        if joined and joined[-1].role == turn.role == "user":
            joined[-1], places[-1] = Turn("user", f"{joined[-1].text}\n\n{turn.text}"), place
        else:
            joined.append(turn)
            places.append(place)
    return joined, places
