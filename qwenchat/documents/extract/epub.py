"""Takes the text out of e-books (EPUB): the chapters in the order of reading, each as a page of HTML."""

from collections.abc import Iterator
from urllib.parse import unquote

from qwenchat.documents.extract.archive import Archive, Kind, beside
from qwenchat.documents.extract.formats import Reason, Refused
from qwenchat.text.files import encoding_of
from qwenchat.text.html import text_of

_CHAPTER_LIMIT = 32 << 20
"""Bytes."""
CONTAINER = "META-INF/container.xml"


def pieces(archive: Archive) -> Iterator[str]:
    """Yield the text of a book. Raises Refused and what Archive raises."""
    container = archive.events(CONTAINER)
    package = next(event.attributes["full-path"] for event in container if event.name == "rootfile")
    locked = {
        unquote(event.attributes.get("URI", ""))
        for event in archive.events_if_present("META-INF/encryption.xml")
        if event.name == "CipherReference"
    }
    is_first = True
    for entry in _chapters(archive, package):
        if entry in locked:
            raise Refused(Reason.LOCKED)
        if entry not in archive:
            continue
        text = text_of(_decoded(archive.read(entry, _CHAPTER_LIMIT)), is_chapter=True)
        if text:
            yield text if is_first else f"\n\n{text}"
            is_first = False


def _chapters(archive: Archive, package: str) -> list[str]:
    """Return the entries that are chapters, each once."""
    entries: dict[str, str] = {}
    order: list[str] = []
    for event in archive.events(package):
        if event.kind is Kind.START and event.name == "item" and "html" in event.attributes.get("media-type", ""):
            entries[event.attributes.get("id", "")] = beside(package, unquote(event.attributes.get("href", "")))
        elif event.kind is Kind.START and event.name == "itemref":
            order.append(event.attributes.get("idref", ""))
    return list(dict.fromkeys(entries[each] for each in order if each in entries))


def _decoded(data: bytes) -> str:
    return data.decode(encoding_of(data) or "utf-8", "replace").removeprefix("\ufeff")
