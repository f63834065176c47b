"""ShareGPT as LLaMA-Factory reads it: an array of objects with `conversations` (`from` human or gpt) and `system`.

The description of the data set needs `"formatting": "sharegpt"` and `"columns": {"messages": "conversations", "system":
"system"}`. LLaMA-Factory skips a chat in which questions and answers do not alternate. So consecutive turns of one
speaker are joined, an answer at the beginning follows an empty question, and a question at the end is left out.

Calls of tools count as an answer (`function_call`) and their results as a question (`observation`). A call is a JSON
object with `name` and `arguments`; calls at the same time are an array of them, and their results an array of texts.
LLaMA-Factory passes over the other fields of a call: its `id`, and the text before it as `content`. Reasoning and calls
without a result are left out.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import msgspec

from qwenchat.chat.message import ToolCall
from qwenchat.sessions.archive import Archive, json_text
from qwenchat.sessions.exporters import ExportFormat
from qwenchat.sessions.reading_order import DialogueTurn, Round, dialogues, result_text, rounds_of


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
    entries: list[dict[str, str]] = []
    for each in rounds_of([part for turn in turns for part in turn.parts]):
        entries += _call_entries(each) if each.calls else [_entry("gpt", each.text)]
    return entries[:-1] if entries and entries[-1]["from"] == "observation" else entries


def _call_entries(each: Round) -> Iterator[dict[str, str]]:
    content = {"content": each.text} if each.text else {}
    (first, _result), *others = each.calls
    calls = [_call(first) | content, *(_call(call) for call, _result in others)]
    results = [result_text(result) for _call, result in each.calls]
    is_single = len(calls) == 1
    yield _entry("function_call", _json(calls[0] if is_single else calls))
    yield _entry("observation", results[0] if is_single else _json(results))


def _call(call: ToolCall) -> dict[str, Any]:
    return {"name": call.name, "arguments": _arguments(call), "id": call.id}


def _arguments(call: ToolCall) -> Any:
    """Return the arguments as they were written, as a JSON object; as text if they are none."""
    try:
        msgspec.json.decode(call.arguments, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return call.arguments
    return msgspec.Raw(call.arguments.encode())


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _entry(speaker: str, value: str) -> dict[str, str]:
    return {"from": speaker, "value": value}


FORMAT = ExportFormat("sharegpt", ".sharegpt.json", many=True, write=write, holds=holds)
