"""Takes the text out of e-books (EPUB): the chapters in the order of reading, each as a page of HTML."""

import re
from collections.abc import Iterator
from urllib.parse import unquote

from qwenchat.documents.extract.archive import Kind, ZipArchive, beside
from qwenchat.documents.extract.formats import RefusalReason, Refused
from qwenchat.text.files import decode_as
from qwenchat.text.html import encoding_named, text_of

_CHAPTER_LIMIT = 32 << 20
"""Bytes."""
_HEADING = re.compile(r"^#{1,6} ", re.MULTILINE)
CONTAINER = "META-INF/container.xml"


def pieces(archive: ZipArchive) -> Iterator[str]:
    """Yield the text of a book. Raises Refused and what ZipArchive raises."""
    container = archive.events(CONTAINER)
    package = next(event.attributes["full-path"] for event in container if event.name == "rootfile")
    locked = {
        unquote(event.attributes.get("URI", ""))
        for event in archive.events_if_present("META-INF/encryption.xml")
        if event.name == "CipherReference"
    }
    chapters, titles = _chapters(archive, package)
    is_first = True
    for entry in chapters:
        if entry in locked:
            raise Refused(RefusalReason.LOCKED)
        if entry not in archive:
            continue
        page = archive.read(entry, _CHAPTER_LIMIT)
        text = text_of(decode_as(page, encoding_named(page)), is_chapter=True)
        if not text:
            continue
        if entry in titles and not _HEADING.search(text):
            text = f"# {titles[entry]}\n\n{text}"
        yield text if is_first else f"\n\n{text}"
        is_first = False


def _chapters(archive: ZipArchive, package: str) -> tuple[list[str], dict[str, str]]:
    """Return the entries that are chapters, each once, and the titles that the table of contents has for them."""
    entries: dict[str, str] = {}
    titles: dict[str, str] = {}
    order: list[str] = []
    for event in archive.events(package):
        if event.kind is Kind.START and event.name == "item":
            entry = beside(package, unquote(event.attributes.get("href", "")))
            media_type = event.attributes.get("media-type", "")
            if "html" in media_type:
                entries[event.attributes.get("id", "")] = entry
            elif media_type == "application/x-dtbncx+xml" and entry in archive:
                titles = _titles(archive, entry)
        elif event.kind is Kind.START and event.name == "itemref":
            order.append(event.attributes.get("idref", ""))
    return list(dict.fromkeys(entries[each] for each in order if each in entries)), titles


def _titles(archive: ZipArchive, contents: str) -> dict[str, str]:
    """Return the first title of each entry in a table of contents."""
    titles: dict[str, str] = {}
    label: list[str] = []
    for event in archive.events(contents):
        if event.kind is Kind.START and event.name == "navLabel":
            label.clear()
        elif event.kind is Kind.TEXT:
            label.append(event.name)
        elif event.kind is Kind.START and event.name == "content":
            entry = beside(contents, unquote(event.attributes.get("src", "").partition("#")[0]))
            title = " ".join("".join(label).split())
            if title:
                titles.setdefault(entry, title[:200])
    return titles
