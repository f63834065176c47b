"""Plain text without mark-up: the speaker between two rules, then the text.

Reasoning and tools are indented below their label.
"""

from collections.abc import Iterable, Iterator
from textwrap import indent

from qwenchat.chat.message import Message
from qwenchat.i18n import _
from qwenchat.sessions.archive import Archive
from qwenchat.sessions.exporters import ExportFormat
from qwenchat.sessions.reading_order import (
    attached,
    model_of,
    notes,
    ordered,
    part_block,
    speaker,
    title_of,
    to_read,
    when,
)
from qwenchat.text.safe import clean, clean_line

_RULE = "─" * 72


def write(archives: Iterable[Archive], all_branches: bool) -> Iterator[str]:
    """Yield each session, a message at a time."""
    for archive in archives:
        session = archive.session
        facts = (f"{when(session.created)} – {when(session.updated)}", model_of(archive), ", ".join(session.tags))
        yield f"{title_of(archive)}\n{clean_line(' · '.join(filter(None, facts)), 1000)}\n"
        if session.system:
            yield _block(_("System prompt"), session.system)
        for entry in ordered(archive, all_branches):
            yield _block(f"{speaker(entry)} · {notes(entry)}", _words(entry.message))
            for attachment in entry.message.attachments:
                name, text = attached(attachment)
                yield f"\n[{name}]\n\n{indent(text.rstrip(), '    ')}\n"


def _words(message: Message) -> str:
    return "\n\n".join(filter(None, map(part_block, to_read(message.parts))))


def _block(heading: str, text: str) -> str:
    return f"\n{_RULE}\n{heading}\n{_RULE}\n\n{clean(text).strip(chr(10))}\n"


FORMAT = ExportFormat("txt", ".txt", many=False, write=write)
