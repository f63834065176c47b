"""The lossless JSON format, which `importers.qwenchat` reads: all branches, parts, attachments, token ids, timings.

A file is an array with one object per session and one line per message, described by `json.schema.json`. The same
session always gives the same bytes. `VERSION` increases when readers of the old version would misread the new one.
Since version 2, a message has `parts`, where version 1 had `text` and `token_ids`. `text` remains for simple readers.
Since version 3, an answer may cite passages of documents, an attachment may be read in parts, and a question may stand
for earlier messages.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import structs

from qwenchat.chat.message import Message, Part
from qwenchat.sessions.archive import PART_TYPES, Archive, json_text
from qwenchat.sessions.exporters import ExportFormat

VERSION = 3

_KINDS = {part_type: kind for kind, part_type in PART_TYPES.items()}


def write(archives: Iterable[Archive], all_branches: bool) -> Iterator[str]:
    """Yield the array. `all_branches` changes nothing: this format always has every branch."""
    opening = "[\n"
    for archive in archives:
        yield f'{opening}{{"format":"qwenchat","version":{VERSION},"session":{json_text(archive.session)},"messages":['
        comma = "\n"
        for message in archive.messages:
            yield comma + json_text(_record(message))
            comma = ",\n"
        yield "]}"
        opening = ",\n"
    yield "[]\n" if opening == "[\n" else "\n]\n"


def _record(message: Message) -> dict[str, Any]:
    """Return a message as an object, each part with its `kind`."""
    return {
        **_values(message),
        "text": message.text,
        "parts": [{"kind": _KINDS[type(part)], **_values(part)} for part in message.parts],
    }


def _values(value: Message | Part) -> dict[str, Any]:
    """Return the fields of a message or part, not copied: there may be thousands of token ids."""
    return structs.asdict(value)


FORMAT = ExportFormat("json", ".json", many=True, write=write, is_whole=True)
