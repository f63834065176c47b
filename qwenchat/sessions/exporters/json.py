"""Everything there is, to be read back by `importers.qwenchat`: all branches, attachments, token ids, timings.

A file is an array with one object a conversation and one line a message, described by `json.schema.json`. The same
conversation always gives the same bytes. `VERSION` grows when a reader of the old one would misread the new one.
"""

from collections.abc import Iterable, Iterator

from qwenchat.sessions.archive import Archive, json_text
from qwenchat.sessions.exporters import Format

VERSION = 1


def write(archives: Iterable[Archive], all_branches: bool) -> Iterator[str]:
    """Yield the array. `all_branches` changes nothing: a format that keeps everything keeps every branch."""
    opening = "[\n"
    for archive in archives:
        yield f'{opening}{{"format":"qwenchat","version":{VERSION},"session":{json_text(archive.session)},"messages":['
        comma = "\n"
        for message in archive.messages:
            yield comma + json_text(message)
            comma = ",\n"
        yield "]}"
        opening = ",\n"
    yield "[]\n" if opening == "[\n" else "\n]\n"


FORMAT = Format("json", ".json", many=True, write=write)
