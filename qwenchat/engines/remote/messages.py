"""Messages to and from chat APIs: turns as messages with their control tokens broken up, and answers as deltas.

Such a server puts the messages into its chat template and tokenises the result with special tokens recognised, so that
a `<|im_end|>` in a question would end it. It is broken up by a word joiner (U+2060) behind its first character: an
invisible character without width that no tokeniser of a chat model removes, and that no special token contains. Only
what is sent is changed, never what is stored. Words that a template writes as plain text, such as `### Instruction:`,
can't be told from anyone's words and stay.
"""

import re
import secrets
from collections.abc import Sequence
from typing import NotRequired, TypedDict

import msgspec

from qwenchat.chat.events import Called, Delta
from qwenchat.chat.message import FinishReason, Part, Text, ToolCall, ToolResult, Usage
from qwenchat.chat.ports import Mode, Request
from qwenchat.chat.prompt import Turn
from qwenchat.chat.sampling import Sampling
from qwenchat.chat.tools import ToolSpec
from qwenchat.engines.remote.server import RemoteServer
from qwenchat.errors import Recovery, RecoveryKind, RemoteBroken, WrongUse
from qwenchat.i18n import _
from qwenchat.text.safe import clean_line, encodable

WORD_JOINER = "\u2060"

_CONTROL_TOKEN = re.compile(
    r"""
    <[|｜][^\s<>]{1,80}>                  # <|im_start|> <｜User｜> <|turn>: Qwen, Llama 3, DeepSeek, and most others
    | <[\w:/-]{1,40}[|｜]>                # <turn|>: Gemma 4
    | \[[|][^\s\[\]]{1,40}[|]\]           # [|user|]: EXAONE
    | </?(?:s|unk|pad|bos|eos|eod|eop|sop|mask|cls|sep|role)>                     # Llama 2, Gemma, Ling
    | <(?:BOS|EOS|EOP|PAD|UNK|CLS|SEP|MASK)(?:_TOKEN)?>                           # Command R
    | <(?:PRE|SUF|MID|REPO|EOT|AI|用户)>                                          # CodeLlama, MiniCPM
    | <(?:start|end|begin|beginning)_of_\w{1,40}>                                 # Gemma
    | <(?:fim|repo|file|gh|issue|jupyter|commit|pr|empty|code|intermediate|im)[_-]\w{1,40}>    # StarCoder, Granite
    | <(?:filename|reponame|pr)>
    | <(?:extra_id|reserved|unused|SPECIAL|TOKENS_UNUSED)_?\d{1,6}>
    | </?seed:\w{1,40}>
    | \[/?(?:
        INST | SYSTEM_PROMPT | AVAILABLE_TOOLS | TOOL_[A-Z]{1,20} | ARGS | CALL_ID | MODEL_SETTINGS
        | IMG(?:_[A-Z]{1,20})? | PREFIX | MIDDLE | SUFFIX | (?:BEGIN_)?AUDIO | THINK              # Mistral
        | BOS | EOS | EOT | PAD\d{0,6} | UNK | CLS | SEP | [gs]?MASK | unused\d{1,6}              # Kimi, GLM, BERT
      )\]
    | <</?SYS>>                           # Llama 2
    | \]~!?b\[ | \]~b\] | \[e~\[          # MiniMax
    | >>[A-Z]{2,20}<<                     # Falcon
    """,
    re.VERBOSE,
)
"""The kinds of text that are control tokens of chat models. `<think>` and `<tool_call>` are none: they end no turn."""


class SentFunction(TypedDict):
    """The function that a call is of, and its arguments as JSON."""

    name: str
    arguments: str


class SentCall(TypedDict):
    """A call of a tool as chat APIs take it."""

    id: str
    type: str
    function: SentFunction


class ChatMessage(TypedDict):
    """A message as chat APIs take it."""

    role: str
    content: str
    tool_calls: NotRequired[list[SentCall]]
    """Of an answer: the calls that it made."""
    tool_call_id: NotRequired[str]
    """Of the role `tool`: the call whose result it is."""


class ChatAnswer:
    """The text of one answer as it comes, with the reasoning between `<think>` and `</think>` at its beginning."""

    def __init__(self) -> None:
        self.text = ""
        """All that came."""
        self._is_inside = False
        """Whether the reasoning is not closed yet."""

    def delta(self, text: str | None, reasoning: str | None = None) -> Delta | None:
        """Return what a piece of an answer adds to it; None where that is nothing.

        Word joiners are dropped: a model that repeats what it was asked would repeat them.
        """
        written = ""
        if reasoning:
            written = reasoning if self._is_inside else f"<think>{reasoning}"
            self._is_inside = True
        if text:
            written += f"</think>\n\n{text}" if self._is_inside else text
            self._is_inside = False
        written = written.replace(WORD_JOINER, "")
        self.text += written
        return Delta(written) if written else None

    def end_reasoning(self) -> Delta | None:
        """Return what ends the reasoning where a call follows it; None where it is ended."""
        if not self._is_inside:
            return None
        self._is_inside = False
        self.text += "</think>\n\n"
        return Delta("</think>\n\n")

    def check_json(self, server: RemoteServer) -> None:
        """Raise RemoteBroken where the answer is not JSON: some servers ignore a schema without saying so."""
        try:
            msgspec.json.decode(_without_reasoning(self.text))
        except msgspec.DecodeError:
            raise RemoteBroken(
                _("{host} ignored the JSON Schema: its answer is not JSON.").format(host=server.host),
                _("Leave the schema out."),
                recoveries=(Recovery(RecoveryKind.OTHER_MODEL, name=server.name),),
            ) from None


def chat_messages(request: Request) -> list[ChatMessage]:
    """Return the turns of a request as messages. Raises WrongUse for an answer that can't be continued."""
    turns = request.turns
    if request.mode is Mode.CONTINUE and not turns[-1].parts:
        turns = (*turns[:-1], Turn("assistant", _without_reasoning(turns[-1].text)))
    return as_messages(turns)


def as_messages(turns: Sequence[Turn]) -> list[ChatMessage]:
    """Return turns as messages; those without words are left out.

    What one speaker said in neighbouring turns is one message, as some servers make it. An answer with calls is several
    messages: the calls, their results, and what followed.
    """
    messages: list[ChatMessage] = []
    for turn in turns:
        for message in _answer_messages(turn.parts) if turn.parts else [_message(turn.role, turn.text)]:
            if not (message["content"] or "tool_calls" in message or "tool_call_id" in message):
                continue
            last = messages[-1] if messages else None
            if last and last["role"] == message["role"] != "tool" and not {*last, *message} & {"tool_calls"}:
                last["content"] += f"\n\n{message['content']}"
            else:
                messages.append(message)
    return messages


def functions(tools: Sequence[ToolSpec]) -> list[dict[str, object]]:
    """Return tools as chat APIs take them."""
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": without_control(tool.description),
                "parameters": msgspec.json.decode(without_control(tool.parameters)),
            },
        }
        for tool in tools
    ]


def _message(role: str, text: str) -> ChatMessage:
    return ChatMessage(role=role, content=without_control(text))


def _answer_messages(parts: Sequence[Part]) -> list[ChatMessage]:
    """Return an answer with calls as messages. A call without a result is left out: servers refuse it."""
    with_result = {part.call_id for part in parts if isinstance(part, ToolResult)}
    messages = [_message("assistant", "")]
    for part in parts:
        if isinstance(part, ToolResult):
            result = _message("tool", part.text)
            result["tool_call_id"] = part.call_id
            messages.append(result)
        elif isinstance(part, Text) or (isinstance(part, ToolCall) and part.id in with_result):
            if messages[-1]["role"] == "tool":
                messages.append(_message("assistant", ""))
            if isinstance(part, Text):
                messages[-1]["content"] += without_control(part.text)
            else:
                messages[-1].setdefault("tool_calls", []).append(_function_call(part))
    return messages


def _function_call(call: ToolCall) -> SentCall:
    try:
        msgspec.json.decode(call.arguments, type=dict[str, object])
        arguments = without_control(call.arguments)
    except msgspec.DecodeError:  # the model wrote something else, which its server could not read again
        arguments = "{}"
    return SentCall(id=call.id, type="function", function=SentFunction(name=call.name, arguments=arguments))


def plain_prompt(turns: Sequence[Turn]) -> str:
    """Return the texts of turns for a model to complete, without the system prompt."""
    return "".join(without_control(turn.text) for turn in turns if turn.role != "system")


def without_control(text: str) -> str:
    """Return a text with every control token in it broken up. What is broken up already stays as it is."""
    return _CONTROL_TOKEN.sub(lambda found: found[0][0] + WORD_JOINER + found[0][1:], text)


class StreamedCalls:
    """The calls of one answer, whose arguments come in pieces."""

    def __init__(self) -> None:
        self._calls: dict[int | str, list[str]] = {}
        """Id, name and arguments of each, by what its pieces are known by."""

    def add(self, *, index: int | None, call_id: str, name: str, arguments: str) -> None:
        """Add a piece. Without an index, one with a name begins a call, and one without goes on with the last."""
        key: int | str = len(self._calls) if index is None else index
        if index is None and not name and self._calls:
            key = [*self._calls][-1]
        call = self._calls.setdefault(key, ["", "", ""])
        call[0] = call[0] or call_id
        call[1] = call[1] or name
        call[2] += arguments

    def called(self) -> list[Called]:
        """Return the calls, once all of them has come; each has an id of its own."""
        calls: list[Called] = []
        known = set[str]()
        for call_id, name, arguments in self._calls.values():
            shown = clean_line(call_id, 100)
            if not shown or shown in known:
                shown = f"call_{secrets.token_hex(4)}"
            known.add(shown)
            written = encodable(arguments.replace(WORD_JOINER, "")).strip() or "{}"
            calls.append(Called(ToolCall(shown, clean_line(name, 100), written)))
        return calls


def limit_reached(usage: Usage, sampling: Sampling, n_ctx: int) -> FinishReason:
    """Return which limit ended an answer: one of its own, the user's or the server's, or the end of the window."""
    has_own = sampling.max_tokens is not None and usage.completion_tokens >= sampling.max_tokens
    is_full = 0 < n_ctx <= usage.prompt_tokens + usage.completion_tokens + 8
    return FinishReason.CONTEXT if is_full and not has_own else FinishReason.LENGTH


def _without_reasoning(answer: str) -> str:
    """Return what an answer that is to be continued says after its reasoning."""
    if not answer.startswith("<think>"):
        return answer
    _reasoning, closed, text = answer.partition("</think>")
    if not closed:
        raise WrongUse(
            _("This answer ended inside its reasoning, which this server can't continue."),
            _("Ask for a new answer instead."),
        )
    return text.lstrip()
