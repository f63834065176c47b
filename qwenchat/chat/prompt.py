"""Turns become prompt parts, so that nothing anyone wrote can pass for a special token.

Only `Special` parts are tokenised with special tokens recognised, and only this module and an engine's prompt format
make them. What users, files, system prompts and earlier answers say travels as `Plain` or `Tokens`. Whole prompts of
other programs (`Mode.RAW`) are the exception: they say themselves which special tokens they contain.
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct, structs

from qwenchat.chat.message import Citation, Message, Part, Reasoning, Role, Text, ToolCall, ToolResult, TurnPart
from qwenchat.chat.passages import names_text, passages_text
from qwenchat.chat.tools import ToolSpec
from qwenchat.text.language import is_chinese
from qwenchat.text.safe import fenced, joined


class Special(Struct, frozen=True):
    """Text in which special tokens are recognised."""

    text: str


class Plain(Struct, frozen=True):
    """Text in which no special token is recognised."""

    text: str


class Tokens(Struct, frozen=True):
    """An earlier answer exactly as it was sampled."""

    ids: tuple[int, ...]
    with_control: bool = False
    """Whether tokens stay that end a turn or begin one: only in a prompt that another program made as a whole."""


PromptPart = Special | Plain | Tokens
_ANSWER = "Answer the question in a sentence."
"""What a model reads that has to answer and not to call; it reads English whatever the user speaks."""

_SUMMARY = "[Summary of the {count} messages before this one]"
_SUMMARY_IN_CHINESE = "【此前 {count} 条消息的摘要】"


class Turn(Struct, frozen=True):
    """What one speaker says, as the model reads it; `role` is `system`, `user` or `assistant`."""

    role: str
    text: str
    token_ids: tuple[int, ...] = ()
    """If given, what the model reads in place of `text`."""
    parts: tuple[TurnPart, ...] = ()
    """Of an answer that called tools: its texts, calls and results, which the model reads in place of `text`.

    Tokens stand for a part where they are given.
    """
    tools: tuple[ToolSpec, ...] = ()
    """Of the system turn: the tools that may be called. Its text is empty where the template's own one is to stand."""

    @property
    def content(self) -> PromptPart:
        """The words alone."""
        return Tokens(self.token_ids) if self.token_ids else Plain(self.text)


def turns_of(
    system: str,
    branch: Iterable[Message],
    model_file: str = "",
    *,
    tools: Sequence[ToolSpec] = (),
    passages: Sequence[Citation] | None = None,
    continuing: bool = False,
) -> list[Turn]:
    """Return the turns of a branch, attachments before the words that came with them.

    `passages` are what was found for its last question in the documents of the chat, None where there are none. Only
    that question is read with them: later ones are read with the answer that was made of them.

    The system prompt comes first, with the tools; where the user gave none, the model's chat template decides what
    stands there.
    Tokens stand for an answer only where `model_file` is the file that sampled them: to another model they mean
    other words. Reasoning is not read again, as the templates of reasoning models have it; only of the last answer,
    where it is `continuing`, everything is.
    """
    turns = [Turn("system", system, tools=tuple(tools))] if system or tools else []
    messages = list(branch)
    last = max((place for place, message in enumerate(messages) if message.role is Role.USER), default=-1)
    for place, message in enumerate(messages):
        if message.role is Role.USER:
            turns.append(Turn("user", _asked(message, passages if place == last else None)))
        else:
            turns.append(answer_turn(message, model_file, continuing=continuing and message is messages[-1]))
    return turns


def answer_turn(answer: Message, model_file: str, *, continuing: bool) -> Turn:
    """Return the turn of an answer; `turns_of` says which of its tokens and parts are read."""
    is_own = answer.model_file == model_file
    if any(isinstance(part, ToolCall | ToolResult) for part in answer.parts):
        read = [part for part in answer.generated if continuing or not isinstance(part, Reasoning)]
        return Turn("assistant", answer.text, parts=tuple(part if is_own else _without_tokens(part) for part in read))
    if continuing:
        return Turn("assistant", generated_text(answer.parts), answer.token_ids if is_own else ())
    return Turn("assistant", answer.text, _text_tokens(answer) if is_own else ())


def with_results(turns: Sequence[Turn], answer: Sequence[Part]) -> tuple[Turn, ...]:
    """Return turns without tools, in which the last question contains what the calls of its answer returned.

    A model that would only go on calling can but answer them. Calls that failed are of no use where others did not.
    """
    names = {tool.name for turn in turns for tool in turn.tools}
    calls = {part.id: part for part in answer if isinstance(part, ToolCall) and part.name in names}
    results = [part for part in answer if isinstance(part, ToolResult) and part.call_id in calls]
    results = [part for part in results if not part.is_error] or results
    blocks = (f"Result of {part.name}({calls[part.call_id].arguments}):\n{fenced(part.text)}" for part in results)
    last = max(place for place, turn in enumerate(turns) if turn.role == "user")
    asked = turns[last]
    if results:
        asked = structs.replace(asked, text="\n\n".join([asked.text, *dict.fromkeys(blocks), _ANSWER]))
    before = [structs.replace(turn, tools=()) for turn in turns[:last] if turn.text or turn.token_ids or turn.parts]
    return (*before, asked)


def _without_tokens(part: TurnPart) -> TurnPart:
    return part if isinstance(part, ToolResult) else structs.replace(part, token_ids=())


def _asked(message: Message, passages: Sequence[Citation] | None) -> str:
    before = [attachment_text(each.name, each.text) for each in message.attachments if not each.in_parts]
    if in_parts := [each.name for each in message.attachments if each.in_parts]:
        before.append(names_text(in_parts, message.text))
    if passages is not None:
        before.append(passages_text(passages, message.text))
    return joined(*before, _summary_note(message) if message.summarises else message.text)


def _summary_note(summary: Message) -> str:
    """Return a summary as a note of what was said before, in its language."""
    note = _SUMMARY_IN_CHINESE if is_chinese(summary.text) else _SUMMARY
    return f"{note.format(count=summary.summarises)}\n{summary.text}"


def _text_tokens(message: Message) -> tuple[int, ...]:
    """Return the tokens of an answer's one Text; where it has several, words stand for them."""
    texts = [part for part in message.parts if isinstance(part, Text)]
    return texts[0].token_ids if len(texts) == 1 else ()


def generated_text(parts: Sequence[Part]) -> str:
    """Return an answer as the model wrote it, the markers of its reasoning included."""
    written = []
    for part in parts:
        if isinstance(part, Reasoning):
            closing = "</think>\n\n" if part is not parts[-1] else ""
            written.append(f"<think>{part.text}{closing}")
        elif isinstance(part, Text):
            written.append(part.text)
    return "".join(written)


def seen_by_model(branch: Sequence[Message]) -> list[Message]:
    """Return the messages of a branch that the model reads: all but answers without a word.

    The last message always stays: it is what is to be answered, or continued.
    """
    *before, last = branch
    return [*(message for message in before if message.role is Role.USER or message.text), last]


def attachment_text(name: str, text: str) -> str:
    """Return a file as the model reads it: its name, then its text in a fence."""
    return f"{name}\n{fenced(text)}"


def turn_parts(turn: Turn, words: Sequence[PromptPart] = ()) -> list[PromptPart]:
    """Return one turn in ChatML: `<|im_start|>role⏎words<|im_end|>⏎`; if given, `words` stand for its text."""
    if words:
        body: list[PromptPart] = [Plain(turn.role + "\n"), *words]
    elif turn.token_ids:
        body = [Plain(turn.role + "\n"), Tokens(turn.token_ids)]
    else:
        body = [Plain(f"{turn.role}\n{turn.text}")]
    return [Special("<|im_start|>"), *body, Special("<|im_end|>"), Plain("\n")]
