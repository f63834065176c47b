"""Reads zip archives and the XML in them, which anybody may have made to exhaust whoever opens them.

Sizes are counted as they come, whatever the archive claims. No name in an archive ever becomes a path, and no XML may
declare entities.
"""

import posixpath
import zipfile
from collections.abc import Iterator, Mapping
from enum import Enum, auto
from typing import BinaryIO, NamedTuple
from xml.parsers import expat

from qwenchat.documents.extract.formats import RefusalReason, Refused

_INFLATED_LIMIT = 128 << 20
"""Bytes of all that is read of an archive."""
_DIRECTORY_LIMIT = 16 << 20
"""Bytes of an archive's list of contents."""
_MAX_ENTRIES = 20_000
_DEEPEST_ELEMENT = 1_000
_CHUNK = 64 << 10


class Kind(Enum):
    """What an event of XML is."""

    START = auto()
    END = auto()
    TEXT = auto()


class Event(NamedTuple):
    """A tag or a text. Names are without their namespaces."""

    kind: Kind
    name: str
    """Of the element; for a text, the text."""
    attributes: Mapping[str, str]


class ZipArchive:
    """A zip archive. Its methods raise what `zipfile` and `zlib` raise for one that is broken, and Refused."""

    def __init__(self, file: BinaryIO) -> None:
        self._zip = zipfile.ZipFile(_SmallReads(file))
        self._room = _INFLATED_LIMIT
        if len(self._zip.infolist()) > _MAX_ENTRIES:
            raise Refused(RefusalReason.HOSTILE)

    def __contains__(self, name: str) -> bool:
        return name in self._zip.NameToInfo

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yield the content of an entry. Raises KeyError for an unknown one."""
        entry = self._zip.getinfo(name)
        if entry.flag_bits & 1:
            raise Refused(RefusalReason.LOCKED)
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # what others inflate to has no limit
            raise Refused(RefusalReason.BROKEN)
        with self._zip.open(entry) as stream:
            while chunk := stream.read(_CHUNK):
                self._room -= len(chunk)
                if self._room < 0:
                    raise Refused(RefusalReason.TOO_LARGE)
                yield chunk

    def read(self, name: str, limit: int = _INFLATED_LIMIT) -> bytes:
        """Return the content of an entry, of which `limit` bytes are read."""
        content = bytearray()
        for chunk in self.chunks(name):
            content += chunk
            if len(content) >= limit:
                break
        return bytes(content[:limit])

    def events(self, name: str) -> Iterator[Event]:
        """Yield the tags and texts of an entry that is XML. Raises ExpatError for one that is broken."""
        yield from _events(self.chunks(name))

    def events_if_present(self, name: str) -> Iterator[Event]:
        """Yield the tags and texts of an entry, nothing for an unknown one."""
        if name in self:
            yield from self.events(name)


def beside(entry: str, reference: str) -> str:
    """Return the name of the entry to which another one refers."""
    if reference.startswith("/"):
        return posixpath.normpath(reference).lstrip("/")
    return posixpath.normpath(posixpath.join(posixpath.dirname(entry), reference))


def _events(chunks: Iterator[bytes]) -> Iterator[Event]:
    found: list[Event] = []
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEEPEST_ELEMENT:
            raise Refused(RefusalReason.HOSTILE)
        found.append(Event(Kind.START, _local(name), {_local(key): value for key, value in attributes.items()}))

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        found.append(Event(Kind.END, _local(name), {}))

    def text(data: str) -> None:
        found.append(Event(Kind.TEXT, data, {}))

    def refuse(*_declaration: object) -> None:
        raise Refused(RefusalReason.HOSTILE)

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.EntityDeclHandler = text, refuse
    for chunk in chunks:
        parser.Parse(chunk, False)
        yield from found
        found.clear()
    parser.Parse(b"", True)
    yield from found


def _local(name: str) -> str:
    return name.rpartition(" ")[2]


class _SmallReads:
    """A file of which nobody reads much at once: the list of an archive's contents is as long as the archive says."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int = -1, /) -> bytes:
        """Read at most `size` bytes."""
        if size > _DIRECTORY_LIMIT:
            raise Refused(RefusalReason.HOSTILE)
        return self._file.read(size if size >= 0 else _DIRECTORY_LIMIT)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a place."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the place."""
        return self._file.tell()

    def seekable(self) -> bool:
        """Return that places can be gone to."""
        return True
