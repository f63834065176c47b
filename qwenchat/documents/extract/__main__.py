"""The child process that takes the text out of files: `python -m qwenchat.documents.extract`.

It reads requests from standard input, one line each: a format and a path in hex. For each it writes frames: texts,
and at last whether that was all or why the file is refused. It limits its memory and its time itself, serves any number
of files, and ends at once when its parent does.
"""

import os
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from qwenchat.documents.document import PAGE_BREAK
from qwenchat.documents.extract.archive import Kind, ZipArchive
from qwenchat.documents.extract.formats import Format, RefusalReason, Refused
from qwenchat.documents.extract.protocol import CPU_LIMIT_S, FrameKind, frame, request_of
from qwenchat.errors import FileError
from qwenchat.limits import limit_this_process
from qwenchat.text.files import SIZE_LIMIT, decode, decode_as, open_regular, stamp
from qwenchat.text.safe import encodable

_MEMORY_LIMIT = 2 << 30
_PIECE = 1 << 20
"""Characters of a frame."""


def main() -> None:
    """Serve requests until the parent closes the pipe."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)  # no library may speak in the pipe
    waiting: queue.SimpleQueue[tuple[Format, Path]] = queue.SimpleQueue()

    def receive() -> None:
        for line in requests:
            waiting.put(request_of(line))
        os._exit(0)

    threading.Thread(target=receive, daemon=True).start()
    while True:
        file_format, path = waiting.get()
        limit_this_process(memory=_MEMORY_LIMIT, cpu_s=CPU_LIMIT_S)
        try:
            reason = answer(replies, file_format, path)
            _write(replies, frame(FrameKind.END, reason.encode()))
        except BrokenPipeError:
            return


def answer(replies: BinaryIO, file_format: Format, path: Path) -> str:
    """Write the text of a file, and return why it is refused, or nothing."""
    try:
        with open_regular(path) as file:
            before = stamp(file)
            reason = _text(replies, file_format, file)
            return RefusalReason.CHANGED if stamp(file) != before else reason
    except FileError:  # it could be opened a moment ago
        return RefusalReason.CHANGED


def _text(replies: BinaryIO, file_format: Format, file: BinaryIO) -> str:
    room, has_text = SIZE_LIMIT, False
    try:
        for piece in _gathered(_pieces(file_format, file)):
            data = piece.encode()
            room -= len(data)
            if room < 0:
                return RefusalReason.TOO_LARGE
            has_text = has_text or bool(piece.strip())
            _write(replies, frame(FrameKind.TEXT, data))
    except (ImportError, BrokenPipeError):
        raise
    except Refused as error:
        return error.reason
    except MemoryError:
        return RefusalReason.TOO_LARGE
    except RecursionError:
        return RefusalReason.HOSTILE
    except Exception:  # a broken file makes the libraries raise anything
        return RefusalReason.BROKEN
    return "" if has_text else RefusalReason.EMPTY


def _gathered(pieces: Iterator[str]) -> Iterator[str]:
    """Yield larger pieces without NUL, lone surrogates, and form feeds that part no pages."""
    gathered: list[str] = []
    size = 0
    for piece in pieces:
        if piece == PAGE_BREAK or size > _PIECE:
            yield _plain("".join(gathered))
            gathered, size = [], 0
        if piece == PAGE_BREAK:
            yield piece
        else:
            gathered.append(piece)
            size += len(piece)
    yield _plain("".join(gathered))


def _plain(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace(PAGE_BREAK, "\n").replace("\0", "")
    return encodable(text)


def _pieces(file_format: Format, file: BinaryIO) -> Iterator[str]:
    """Return the text of a file, as it comes. Raises Refused and whatever the libraries raise."""
    if file_format is Format.PDF:
        from qwenchat.documents.extract import pdf  # noqa: PLC0415 - 50 ms that only these files need

        return pdf.pieces(file)
    if file_format is Format.ZIP:
        return _office(ZipArchive(file))
    data = file.read(SIZE_LIMIT)
    if file_format is Format.HTML:
        from qwenchat.text.html import encoding_named, text_of  # noqa: PLC0415

        page = decode_as(data, encoding_named(data))
        if "\0" in page:
            raise Refused(RefusalReason.NOT_TEXT)
        return iter((text_of(page),))
    try:
        text = decode(data, "")
    except FileError as error:
        raise Refused(RefusalReason.NOT_TEXT) from error
    from qwenchat.documents.extract import light  # noqa: PLC0415

    return light.pieces(file_format, text)


def _office(archive: ZipArchive) -> Iterator[str]:
    from qwenchat.documents.extract import docx, epub, odt  # noqa: PLC0415

    if epub.CONTAINER in archive:
        return epub.pieces(archive)
    kind = archive.read("mimetype", 200).decode("ascii", "replace").strip() if "mimetype" in archive else ""
    if kind.startswith("application/vnd.oasis.opendocument."):
        manifest = archive.events_if_present("META-INF/manifest.xml")
        if "encrypted-package" in archive or any(event.name == "encryption-data" for event in manifest):
            raise Refused(RefusalReason.LOCKED)
        document = kind.removeprefix("application/vnd.oasis.opendocument.")
        if not document.startswith("text"):
            raise Refused(
                RefusalReason.SPREADSHEET if document.startswith("spreadsheet") else RefusalReason.PRESENTATION
            )
        return odt.pieces(archive)
    main_part = next(
        (
            event.attributes.get("Target", "").lstrip("/")
            for event in archive.events_if_present("_rels/.rels")
            if event.kind is Kind.START and event.attributes.get("Type", "").endswith("/officeDocument")
        ),
        "",
    )
    folder = main_part.partition("/")[0]
    if folder in ("xl", "ppt"):
        raise Refused(RefusalReason.SPREADSHEET if folder == "xl" else RefusalReason.PRESENTATION)
    if main_part not in archive:
        raise Refused(RefusalReason.ARCHIVE)
    return docx.pieces(archive, main_part)


def _write(replies: BinaryIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[replies.write(rest) :]


if __name__ == "__main__":
    main()
