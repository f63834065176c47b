"""ShareGPT as LLaMA-Factory reads it: an array of `conversations` with `from` human or gpt, and `system` beside.

Its data set's description needs `"formatting": "sharegpt"` and `"columns": {"messages": "conversations", "system":
"system"}`. It passes over a conversation that does not go question, answer, question, answer; so turns in a row by
one speaker are joined, and an answer without a question or a question without an answer is left out at the ends.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from qwenchat.chat.prompt import Turn
from qwenchat.sessions.archive import Archive, json_text
from qwenchat.sessions.exporters import Format
from qwenchat.sessions.reading_order import dialogues


def write(archives: Iterable[Archive], all_branches: bool) -> Iterator[str]:
    """Yield the array, an object for each branch that has at least one question with its answer."""
    opening = "[\n"
    for archive in archives:
        for turns in dialogues(archive, all_branches):
            pairs = _in_pairs(turns)
            if pairs:
                system = archive.session.system
                yield opening + json_text({"conversations": pairs, "system": system})
                opening = ",\n"
    yield "[]\n" if opening == "[\n" else "\n]\n"


def _in_pairs(turns: Sequence[Turn]) -> list[dict[str, str]]:
    joined = [
        {"from": "human" if role == "user" else "gpt", "value": "\n\n".join(turn.text for turn in run)}
        for role, run in groupby(turns, lambda turn: turn.role)
        if role != "system"
    ]
    if joined and joined[0]["from"] == "gpt":
        joined = joined[1:]
    return joined[: len(joined) // 2 * 2]


FORMAT = Format("sharegpt", ".sharegpt.json", many=True, write=write)
