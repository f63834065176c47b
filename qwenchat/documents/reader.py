"""Reads files as documents, whatever format they have.

What is text already is decoded here. Everything else goes to a child process (`documents.extract`), because such a file
may be made to crash, to exhaust or to take over whoever opens it; its end costs nothing but that file. A file that does
not become text ends in one FileError.
"""

import asyncio
import mimetypes
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from types import TracebackType

from qwenchat.children import start_module
from qwenchat.documents.document import PAGE_BREAK, Document
from qwenchat.documents.extract.formats import (
    FILE_LIMIT,
    HEAD_SIZE,
    MAX_PAGES,
    Format,
    RefusalReason,
    Refused,
    format_of,
)
from qwenchat.documents.extract.protocol import HEADER, FrameKind, request
from qwenchat.errors import FileError, NotText
from qwenchat.i18n import _
from qwenchat.text.files import SIZE_LIMIT, decode, open_regular, stamp, unreadable
from qwenchat.text.safe import clean_line

TIME_LIMIT_S = 240.0
"""Seconds for one file: the child's own limit counts only what it computes."""
_LONGEST_PAGE = 100
"""Lines of a page in a text file that is paged by form feeds, as a printer would."""
_MEDIA_TYPES = {
    Format.PDF: "application/pdf",
    Format.RTF: "application/rtf",
    Format.HTML: "text/html",
    Format.NOTEBOOK: "application/x-ipynb+json",
}


async def read_document(path: Path) -> Document:
    """Read one file. Raises FileError."""
    async with DocumentReader() as reader:
        return await reader.read(path)


_NO_DOCUMENTS = (RefusalReason.PICTURE, RefusalReason.EMPTY, RefusalReason.NOT_TEXT, RefusalReason.ARCHIVE)


class DocumentReader:
    """Reads any number of files with one child, which starts with the first that is not text.

    It is an asynchronous context manager. The child reads one file after another.
    """

    def __init__(self, *, time_limit_s: float = TIME_LIMIT_S) -> None:
        self._time_limit_s = time_limit_s
        self._child: asyncio.subprocess.Process | None = None
        self._one_at_a_time = asyncio.Lock()

    async def __aenter__(self) -> "DocumentReader":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def read(self, path: Path, name: str = "") -> Document:
        """Read a file, which is known as `name`, or by its own name. Raises FileError."""
        shown = clean_line(str(path))
        try:
            found = await asyncio.to_thread(_looked_at, path, shown)
            if found.format is Format.TEXT:
                text = found.text
            else:
                async with self._one_at_a_time:
                    text = await self._extracted(found.format, path)
        except Refused as refused:
            raise _explained(refused.reason, shown) from refused
        return Document(name=clean_line(name or path.name), media_type=_media_type(found.format, path.name), text=text)

    async def close(self) -> None:
        """End the child."""
        child, self._child = self._child, None
        if child is not None:
            with suppress(ProcessLookupError):
                child.kill()
            await child.wait()

    async def _extracted(self, file_format: Format, path: Path) -> str:
        """Return the text that the child finds in a file. Raises Refused."""
        is_answered = False
        try:
            async with asyncio.timeout(self._time_limit_s):
                text, reason = await self._exchange(request(file_format, path))
            is_answered = True
        except TimeoutError:
            raise Refused(RefusalReason.TOO_SLOW) from None
        finally:
            if not is_answered:
                await self.close()
        if reason:
            raise Refused(RefusalReason(reason))
        return text

    async def _exchange(self, line: bytes) -> tuple[str, str]:
        """Return the text of a file, and why it is refused, which is empty if it is not."""
        if self._child is None:
            self._child = await start_module("qwenchat.documents.extract", errors=asyncio.subprocess.DEVNULL)
        child = self._child
        if not (child.stdin and child.stdout):
            raise AssertionError("the child was started with pipes")
        texts = bytearray()
        try:
            child.stdin.write(line)
            while True:
                kind, size = HEADER.unpack(await child.stdout.readexactly(HEADER.size))
                data = await child.stdout.readexactly(size)
                if kind == FrameKind.END.value:
                    return texts.decode(), data.decode()
                texts += data
        except (asyncio.IncompleteReadError, ConnectionError):
            code = await child.wait()
            if code > 0:
                raise RuntimeError(f"the reader of documents ended with {code}") from None
            is_slow = sys.platform != "win32" and code == -signal.SIGXCPU
            raise Refused(RefusalReason.TOO_SLOW if is_slow else RefusalReason.CRASHED) from None


@dataclass(frozen=True, slots=True)
class _Looked:
    format: Format
    text: str = ""
    """Of a file that is text."""


def _looked_at(path: Path, shown: str) -> _Looked:
    """Look at a file, and read it if it is text. Raises FileError and Refused."""
    with open_regular(path) as file:
        try:
            before = stamp(file)
            head = file.read(HEAD_SIZE)
            file_format = format_of(head, path.name)
            if file_format is Format.OLD_OFFICE:
                is_locked = "EncryptedPackage".encode("utf-16-le") in head + file.read(SIZE_LIMIT)
                raise Refused(RefusalReason.LOCKED if is_locked else RefusalReason.OLD_OFFICE)
            if file_format is Format.PICTURE:
                raise Refused(RefusalReason.PICTURE)
            limit = FILE_LIMIT if file_format in (Format.PDF, Format.ZIP) else SIZE_LIMIT
            if before[0] > limit:
                raise FileError(
                    _("{file} is larger than {limit} MiB.").format(file=shown, limit=limit >> 20),
                    _("Use only the part that matters."),
                )
            if file_format is not Format.TEXT:
                return _Looked(file_format)
            data = head + file.read(SIZE_LIMIT + 1 - len(head))
            if stamp(file) != before:
                raise Refused(RefusalReason.CHANGED)
        except OSError as error:
            raise unreadable(shown, error) from error
    return _Looked(file_format, _with_its_pages(decode(data, shown), path.name))


def _with_its_pages(text: str, name: str) -> str:
    """Return a text in which a form feed is a page break if it parts pages, and else the end of a line.

    In source code a form feed parts sections, and in a text that was made for a printer it ends a page.
    """
    if PAGE_BREAK not in text:
        return text
    pages = text.split(PAGE_BREAK)
    is_prose = PurePath(name).suffix.lower() in ("", ".txt", ".text")
    is_paged = is_prose and len(pages) > 2 and all(page.count("\n") <= _LONGEST_PAGE for page in pages)
    return text if is_paged else text.replace(PAGE_BREAK, "\n")


def _media_type(file_format: Format, name: str) -> str:
    guessed = mimetypes.guess_type(name)[0] or ""
    if file_format is Format.TEXT:
        return guessed if guessed.startswith("text/") or guessed == "application/json" else "text/plain"
    return _MEDIA_TYPES.get(file_format) or guessed or "application/octet-stream"


def _explained(reason: RefusalReason, file: str) -> FileError:
    """Return what a user reads about a file that does not become text."""
    less = _("Use only the part that matters.")
    another = _("Open it in the program that made it and save it again, or use another copy.")
    recognise = _("Run it through a program that recognises text (OCR), and use what that writes.")
    message, hint = {
        RefusalReason.LOCKED: (
            _("{file} is protected by a password."),
            _("Save a copy without the password, and use that."),
        ),
        RefusalReason.SCAN: (_("{file} has no text: it needs OCR."), recognise),
        RefusalReason.PICTURE: (_("{file} is a picture: it needs OCR."), recognise),
        RefusalReason.EMPTY: (_("{file} has no text."), _("Check whether it is the right file.")),
        RefusalReason.BROKEN: (_("{file} is broken or incomplete."), another),
        RefusalReason.CRASHED: (_("{file} can't be read: it is broken or too large."), another),
        RefusalReason.HOSTILE: (_("{file} is built as no ordinary document is, so it is not read."), another),
        RefusalReason.TOO_LARGE: (_("{file} holds too much to read."), less),
        RefusalReason.TOO_MANY_PAGES: (_("{file} has more than {limit} pages."), less),
        RefusalReason.TOO_SLOW: (_("{file} takes too long to read."), less),
        RefusalReason.CHANGED: (_("{file} changed while it was read."), _("Try again when nothing writes to it.")),
        RefusalReason.NOT_TEXT: (
            _("{file} is not a text file."),
            _("Convert it to text first, or copy the text out of it."),
        ),
        RefusalReason.OLD_OFFICE: (
            _("{file} has a format of Office before 2007."),
            _("Save it as .docx, .odt or PDF, and use that."),
        ),
        RefusalReason.SPREADSHEET: (
            _("{file} is a spreadsheet."),
            _("Save the sheet that matters as CSV, and use that."),
        ),
        RefusalReason.PRESENTATION: (_("{file} is a presentation or a drawing."), _("Save it as PDF, and use that.")),
        RefusalReason.ARCHIVE: (_("{file} is an archive."), _("Unpack it, and use the files in it.")),
    }[reason]
    error = NotText if reason in _NO_DOCUMENTS else FileError
    return error(message.format(file=file, limit=f"{MAX_PAGES:,}"), hint)
