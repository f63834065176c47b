"""OpenAI's chat `messages`, one conversation a line: what fine-tuning services and most scripts read.

A question stands as the model read it, attached files before its words. Dates, titles and models have no place in
this format. With all branches, each branch is a line of its own.
"""

from collections.abc import Iterable, Iterator

from qwenchat.sessions.archive import Archive, json_text
from qwenchat.sessions.exporters import Format
from qwenchat.sessions.reading_order import dialogues


def write(archives: Iterable[Archive], all_branches: bool) -> Iterator[str]:
    """Yield a line for each branch."""
    for archive in archives:
        for turns in dialogues(archive, all_branches):
            yield json_text({"messages": [{"role": turn.role, "content": turn.text} for turn in turns]}) + "\n"


FORMAT = Format("jsonl", ".jsonl", many=True, write=write)
