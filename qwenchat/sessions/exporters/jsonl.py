"""OpenAI's chat `messages`, one session per line, which fine-tuning services and most scripts read.

A question is written as the model saw it, with attached files before its text. An answer that calls tools is several
messages: `tool_calls` with the text before them, a message of the role `tool` for each result, and so on. The format
has no reasoning, dates, titles or models, and no call without a result. With all branches, each branch is one line.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from qwenchat.chat.message import ToolCall
from qwenchat.sessions.archive import Archive, json_text
from qwenchat.sessions.exporters import ExportFormat
from qwenchat.sessions.reading_order import DialogueTurn, Round, dialogues, result_text, rounds_of


def write(archives: Iterable[Archive], all_branches: bool) -> Iterator[str]:
    """Yield a line for each branch."""
    for archive in archives:
        for turns in dialogues(archive, all_branches):
            yield json_text({"messages": [message for turn in turns for message in _messages(turn)]}) + "\n"


def holds(archive: Archive, all_branches: bool) -> bool:
    """Return whether a session has a message."""
    return bool(dialogues(archive, all_branches))


def _messages(turn: DialogueTurn) -> Iterator[dict[str, Any]]:
    if turn.role != "assistant":
        yield {"role": turn.role, "content": turn.text}
    for each in rounds_of(turn.parts):
        yield _answer(each)
        for call, result in each.calls:
            yield {"role": "tool", "tool_call_id": call.id, "content": result_text(result)}


def _answer(each: Round) -> dict[str, Any]:
    answer: dict[str, Any] = {"role": "assistant", "content": each.text}
    if each.calls:
        answer["tool_calls"] = [_function_call(call) for call, _result in each.calls]
    return answer


def _function_call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


FORMAT = ExportFormat("jsonl", ".jsonl", many=True, write=write, holds=holds)
