"""Asks the terminal itself: how wide it draws characters, which keys it tells apart, whether it takes a copy.

Questions are escape sequences, answers come as if typed. The last question is one that every terminal answers, so
that a terminal which does not know the others is not waited for; one that answers nothing is waited for briefly.
"""

import os
import re
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

PROBES = {"中": 2, "🐼": 2, "─": 1}
"""Characters, and the columns that this program counts for them."""
_PATIENCE_S = 1.0
_PLACE = re.compile(rb"\x1b\[\d+;(\d+)R")
_KEYBOARD = re.compile(rb"\x1b\[\?\d+u")
_ATTRIBUTES = re.compile(rb"\x1b\[\?([\d;]*)c")
_CLIPBOARD = b"52"
"""The attribute of a terminal that takes copies by OSC 52."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What a terminal said of itself."""

    widths: dict[str, int]
    """Columns by character; empty where it did not say."""
    tells_keys_apart: bool
    """Whether it speaks the protocol in which Shift+Enter is not Enter."""
    clipboard: bool
    """Whether it says that it takes copies."""


def ask_terminal() -> Answers | None:
    """Return what the terminal on stdin and stdout says; None where there is none or it says nothing."""
    if sys.platform == "win32" or not all(stream and stream.isatty() for stream in (sys.stdin, sys.stdout)):
        return None
    keyboard, screen = sys.stdin.fileno(), sys.stdout.fileno()
    if _in_background(keyboard):
        return None
    with _unechoed(keyboard):
        probes = "".join(f"\r{character}\x1b[6n\r\x1b[K" for character in PROBES)
        os.write(screen, f"{probes}\x1b[?u\x1b[c".encode())
        return read_answers(_typed(keyboard))


def _in_background(keyboard: int) -> bool:
    """Whether the system would stop this process for changing the terminal's mode."""
    try:
        return os.tcgetpgrp(keyboard) != os.getpgrp()
    except OSError:  # it is a terminal, though not the one that controls this process
        return False


def read_answers(typed: bytes) -> Answers | None:
    """Return what answers mean; None without any."""
    places = [int(place) - 1 for place in _PLACE.findall(typed)]
    attributes = _ATTRIBUTES.search(typed)
    if not places and attributes is None:
        return None
    widths = dict(zip(PROBES, places, strict=True)) if len(places) == len(PROBES) else {}
    clipboard = attributes is not None and _CLIPBOARD in attributes[1].split(b";")
    return Answers(widths, _KEYBOARD.search(typed) is not None, clipboard)


def _typed(keyboard: int) -> bytes:
    """Return what comes until the last answer, or until patience ends."""
    end, typed = time.monotonic() + _PATIENCE_S, b""
    while not _ATTRIBUTES.search(typed) and (left := end - time.monotonic()) > 0:
        if select.select([keyboard], [], [], left)[0]:
            piece = os.read(keyboard, 1024)
            if not piece:
                break
            typed += piece
    return typed


@contextmanager
def _unechoed(keyboard: int) -> Iterator[None]:
    """Let what is typed come at once and unseen; what comes too late is thrown away."""
    import termios  # noqa: PLC0415 - Windows has none
    import tty  # noqa: PLC0415

    before = termios.tcgetattr(keyboard)
    try:
        tty.setcbreak(keyboard)
        yield
    finally:
        termios.tcsetattr(keyboard, termios.TCSAFLUSH, before)
