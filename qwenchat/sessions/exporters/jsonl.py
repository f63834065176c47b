"""OpenAI's chat `messages`, one session per line, which fine-tuning services and most scripts read.

A question is written as the model saw it, with attached files before its text. Tool calls and their results are
separate messages. The format has no reasoning, dates, titles or models. With all branches, each branch is one line.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from qwenchat.chat.message import Text, ToolCall, ToolResult
from qwenchat.sessions.archive import Archive, json_text
from qwenchat.sessions.exporters import ExportFormat
from qwenchat.sessions.reading_order import DialogueTurn, dialogues


def write(archives: Iterable[Archive], all_branches: bool) -> Iterator[str]:
    """Yield a line for each branch."""
    for archive in archives:
        for turns in dialogues(archive, all_branches):
            yield json_text({"messages": [message for turn in turns for message in _messages(turn)]}) + "\n"


def holds(archive: Archive, all_branches: bool) -> bool:
    """Return whether a session has a message."""
    return bool(dialogues(archive, all_branches))


def _messages(turn: DialogueTurn) -> Iterator[dict[str, Any]]:
    if not any(isinstance(part, ToolCall | ToolResult) for part in turn.parts):
        yield {"role": turn.role, "content": turn.text}
        return
    texts: list[str] = []
    calls: list[ToolCall] = []
    for part in turn.parts:
        if (texts or calls) and (isinstance(part, ToolResult) or (calls and isinstance(part, Text))):
            yield _answer(texts, calls)
            texts, calls = [], []
        if isinstance(part, ToolResult):
            yield {"role": "tool", "tool_call_id": part.call_id, "content": part.text}
        elif isinstance(part, ToolCall):
            calls.append(part)
        elif isinstance(part, Text) and part.text:
            texts.append(part.text)
    if texts or calls:
        yield _answer(texts, calls)


def _answer(texts: list[str], calls: list[ToolCall]) -> dict[str, Any]:
    answer: dict[str, Any] = {"role": "assistant", "content": "\n\n".join(texts)}
    if calls:
        answer["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in calls
        ]
    return answer


FORMAT = ExportFormat("jsonl", ".jsonl", many=True, write=write, holds=holds)
