"""ShareGPT as LLaMA-Factory reads it: an array of objects with `conversations` (`from` human or gpt) and `system`.

The description of the data set needs `"formatting": "sharegpt"` and `"columns": {"messages": "conversations", "system":
"system"}`. LLaMA-Factory skips a chat in which questions and answers do not alternate. So consecutive turns of one
speaker are joined, an answer at the beginning follows an empty question, and a question at the end is left out. A tool
call counts as an answer (`function_call`) and its result as a question (`observation`): these pairs come before the
text of their answer, and a call without a result is left out. So is reasoning.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import msgspec

from qwenchat.chat.message import ToolCall, ToolResult
from qwenchat.sessions.archive import Archive, json_text
from qwenchat.sessions.exporters import ExportFormat
from qwenchat.sessions.reading_order import DialogueTurn, dialogues


def write(archives: Iterable[Archive], all_branches: bool) -> Iterator[str]:
    """Yield the array, an object for each branch that has at least one question with its answer."""
    opening = "[\n"
    for archive in archives:
        for turns in dialogues(archive, all_branches):
            if pairs := _in_pairs(turns):
                system = archive.session.system
                yield opening + json_text({"conversations": pairs, "system": system})
                opening = ",\n"
    yield "[]\n" if opening == "[\n" else "\n]\n"


def holds(archive: Archive, all_branches: bool) -> bool:
    """Return whether a session has an answer."""
    return any(map(_in_pairs, dialogues(archive, all_branches)))


def _in_pairs(turns: Sequence[DialogueTurn]) -> list[dict[str, str]]:
    entries: list[dict[str, str]] = []
    for role, group in groupby(turns, lambda turn: turn.role):
        if role == "user":
            unanswered = [entries.pop()["value"]] if entries and entries[-1]["from"] == "human" else []
            entries.append(_entry("human", "\n\n".join([*unanswered, *(turn.text for turn in group)])))
        elif role == "assistant" and (answer := _answer(list(group))):
            entries += answer if entries else [_entry("human", ""), *answer]
    return entries[: len(entries) // 2 * 2]


def _answer(turns: Sequence[DialogueTurn]) -> list[dict[str, str]]:
    """Return consecutive answers as entries, the last of which is the model's."""
    parts = [part for turn in turns for part in turn.parts]
    results = {part.call_id: part for part in parts if isinstance(part, ToolResult)}
    entries: list[dict[str, str]] = []
    for part in parts:
        if isinstance(part, ToolCall) and (result := results.pop(part.id, None)):
            call = {"name": part.name, "arguments": _arguments(part)}
            entries += [_entry("function_call", json_text(call)), _entry("observation", result.text)]
    text = "\n\n".join(turn.text for turn in turns if turn.text)
    return [*entries, _entry("gpt", text)] if text else entries[:-1]


def _arguments(call: ToolCall) -> Any:
    """Return the arguments as a JSON value, or as text if they are not JSON."""
    try:
        return msgspec.json.decode(call.arguments)
    except (msgspec.DecodeError, RecursionError):
        return call.arguments


def _entry(speaker: str, value: str) -> dict[str, str]:
    return {"from": speaker, "value": value}


FORMAT = ExportFormat("sharegpt", ".sharegpt.json", many=True, write=write, holds=holds)
