"""Reads what a terminal sends, whatever it is: text of any encoding, pastes without marks, reports that no one expects.

It interprets no key; Textual's parser does.
"""

import codecs
import errno
import os
import re
import select
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TextIO

from textual import events
from textual._xterm_parser import BRACKETED_PASTE_END, BRACKETED_PASTE_START, XTermParser
from textual.driver import Driver
from textual.message import Message

_READ_BYTES = 4096
_TICK_S = 0.1
"""Seconds after which an unfinished sequence, such as a single Esc, is taken for what it is."""
_TYPED_AT_ONCE = 40
"""Characters that keys may have sent between two reads; more come from a paste."""
_PASTE_GAP_S = 0.05
"""Seconds without input after which a paste without marks has ended."""
_LONG_PASTE, _LONG_PASTE_GAP_S = 1000, 0.25
"""A paste of so many characters has longer gaps where the machine or the line is slow; nobody types on so soon."""
_PLAIN = re.compile(r"[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]+")
_LINES = re.compile(r"[^\t\n\r][\t\n\r]+[^\t\n\r]")
_OLD_MOUSE_REPORT = re.compile(rb"\x1b\[M[\x20-\xff]{3}")
_UNFINISHED = re.compile(rb"\x1b\[(M[\x20-\xff]{0,2})?\Z")
_CONTROL_SEQUENCE = re.compile(r"(\x1b\[[\x30-\x3f]*[\x20-\x2f]*[\x40-\x7e])")
_NOT_DECODED = re.compile("[\udc80-\udcff]+")
_LATIN_1_LETTERS = range(0xA0, 0xFE)


class UnreadableInput(Message):
    """The terminal sent bytes that are not text in its encoding."""

    def __init__(self, guess: str) -> None:
        super().__init__()
        self.guess = guess
        """The encoding that they seem to be in, empty where that is unknown."""


class TerminalDecoder:
    """Makes text of what a terminal sends; what is not text becomes U+FFFD.

    Mouse reports of old terminals, in which any byte may follow, are dropped as Textual would drop them: decoded, their
    bytes could take the next key with them.
    """

    def __init__(self, encoding: str) -> None:
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogateescape")
        self._held = b""

    def text(self, data: bytes) -> tuple[str, bytes]:
        """Return the text of the next bytes, and those bytes if some were not text, otherwise nothing.

        Half a character and half a mouse report wait for more bytes, and no longer when called without any.
        """
        waiting = self._decoder.getstate()[0]
        left = _OLD_MOUSE_REPORT.sub(b"", self._held + data)
        unfinished = _UNFINISHED.search(left) if data else None
        self._held = unfinished[0] if unfinished else b""
        left = left.removesuffix(self._held)
        text, wrong = _NOT_DECODED.subn("\N{REPLACEMENT CHARACTER}", self._decoder.decode(left, final=not data))
        return text, waiting + left if wrong else b""


def guess_encoding(data: bytes) -> str:
    """Return the name of the encoding that bytes seem to be in, which are not UTF-8; empty if it can't be guessed."""
    with suppress(UnicodeDecodeError):
        if not codecs.getincrementaldecoder("gb2312")().decode(data).isascii():
            return "GBK"
    return "Latin-1" if all(byte in _LATIN_1_LETTERS for byte in data if byte >= 0x80) else ""


class PasteFinder:
    """Puts the marks of a paste around text that came faster than anyone types, where the terminal sets none.

    Otherwise its line ends would be Enter, which sends, and its tabs would be Tab. `now` is a time in seconds.
    """

    def __init__(self) -> None:
        self._pasted = ""
        self._until = 0.0
        self._is_marked = False
        """Whether a paste that the terminal marks has begun and not ended."""
        self._tail = ""
        """The end of what was read last, in which a mark may begin."""

    @property
    def waits(self) -> bool:
        """Whether more of a paste may come."""
        return bool(self._pasted)

    def text(self, text: str, now: float) -> str:
        """Return what can be passed on of the text that was read at once; nothing is read where it is empty."""
        was_marked = self._is_marked
        seen = self._tail + text
        begins, ends = seen.rfind(BRACKETED_PASTE_START), seen.rfind(BRACKETED_PASTE_END)
        if begins != ends:
            self._is_marked = begins > ends
        self._tail = text[1 - len(BRACKETED_PASTE_START) :]
        is_plain = not (was_marked or self._is_marked) and _PLAIN.fullmatch(text)
        if is_plain and (self._pasted or len(text) > _TYPED_AT_ONCE or _LINES.search(text)):
            self._pasted += text
            self._until = now + (_PASTE_GAP_S if len(self._pasted) < _LONG_PASTE else _LONG_PASTE_GAP_S)
            return ""
        if self._pasted and (text or now >= self._until):
            text, self._pasted = BRACKETED_PASTE_START + self._pasted + BRACKETED_PASTE_END + text, ""
        return text


class ReadsAnything(Driver):
    """Replaces the thread for input of a driver for POSIX terminals.

    Textual's own thread ends with a byte that is not UTF-8 and with a report that its parser can't take.
    """

    fileno: int
    exit_event: threading.Event
    _file: TextIO | None

    def _run_input_thread(self) -> None:
        """Read until the driver stops. An error goes on to `threading.excepthook`; Textual would print a traceback."""
        self.run_input_thread()

    def run_input_thread(self) -> None:
        """Pass on what the terminal sends until the driver stops or the terminal is gone."""
        decoder = TerminalDecoder(getattr(sys.__stderr__, "encoding", None) or "utf-8")  # as the driver writes
        self._parser, pastes = XTermParser(self._debug), PasteFinder()
        while not self.exit_event.is_set():
            data = b""
            wait = _PASTE_GAP_S if pastes.waits else _TICK_S
            if select.select([self.fileno], [], [], wait)[0] and not (data := _read(self.fileno)):
                return
            text, wrong = decoder.text(data)
            if wrong:
                self.send_message(UnreadableInput(guess_encoding(wrong)))
            for message in self._parsed(pastes.text(text, time.monotonic())):
                if self.is_inline and isinstance(message, events.CursorPosition):
                    self.cursor_origin = (message.x, message.y)
                else:
                    self.process_message(message)

    def _parsed(self, text: str) -> Iterator[Message]:
        for piece in filter(None, _CONTROL_SEQUENCE.split(text)):
            try:
                yield from self._parser.feed(piece)
            except (ValueError, ArithmeticError, LookupError):  # a report with numbers that no terminal should send
                self._parser = XTermParser(self._debug)
        yield from self._parser.tick()


def _read(terminal: int) -> bytes:
    """Return what a terminal sent, nothing where it is gone."""
    try:
        return os.read(terminal, _READ_BYTES)
    except OSError as error:
        if error.errno == errno.EIO:
            return b""
        raise


def driver_class(*, inline: bool) -> type[Driver]:
    """Return this platform's driver; on POSIX, one that any input goes through."""
    if sys.platform == "win32":
        from textual.drivers.windows_driver import WindowsDriver  # noqa: PLC0415 - for one platform

        return WindowsDriver
    from textual.drivers.linux_driver import LinuxDriver  # noqa: PLC0415 - not on Windows
    from textual.drivers.linux_inline_driver import LinuxInlineDriver  # noqa: PLC0415

    if inline:
        return type("InlineTerminal", (ReadsAnything, LinuxInlineDriver), {})
    return type("WholeTerminal", (ReadsAnything, LinuxDriver), {})
