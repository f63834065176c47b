"""What this terminal can show and which keys it sends, as far as that can be known.

Asks the terminal itself: how wide it draws characters, which keys it tells apart, whether it takes a copy.

Questions are escape sequences, answers come as if typed. The last question is one that every terminal answers, so
that a terminal which does not know the others is not waited for; one that answers nothing is waited for briefly.
"""

import locale
import os
import re
import select
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from qwenchat.doctor.finding import Finding, ok, warning
from qwenchat.i18n import _
from qwenchat.runtime.program import Program
from qwenchat.text.safe import clean_line

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


_COLOURS = {"truecolor": "16,777,216", "256": "256", "standard": "16", "windows": "16"}
"""By Rich's names, which the screen goes by."""
_TAKES_COPIES = ("KITTY_WINDOW_ID", "ALACRITTY_WINDOW_ID", "WEZTERM_PANE", "GHOSTTY_RESOURCES_DIR", "WT_SESSION")
"""Variables by which terminals show themselves that take a copy by OSC 52."""


def terminal(program: Program) -> Iterator[Finding]:
    """Ask the terminal and the environment."""
    environ, answers = program.environ, ask_terminal()
    yield _kind(environ)
    yield _encoding()
    yield _widths(answers)
    yield _clipboard(environ, answers)
    yield _shift_enter(answers)


def _kind(environ: Mapping[str, str]) -> Finding:
    from rich.console import Console  # noqa: PLC0415 - 20 ms for this line alone

    system = Console(force_terminal=True, _environ=environ).color_system
    name = environ.get("TERM", "")
    if program := environ.get("TERM_PROGRAM"):
        name += f" ({program} {environ.get('TERM_PROGRAM_VERSION', '')}".rstrip() + ")"
    size = shutil.get_terminal_size()
    words = _("{name}, {columns}x{rows}, colours: {colours}").format(
        name=clean_line(name) or _("unknown"),
        columns=size.columns,
        rows=size.lines,
        colours=_("none, by NO_COLOR") if environ.get("NO_COLOR") else _COLOURS.get(system or "", _("none")),
    )
    if system is None and environ.get("TERM") == "dumb":
        return warning("terminal", _("terminal"), words, "export TERM=xterm-256color")
    return ok("terminal", _("terminal"), words)


def _encoding() -> Finding:
    encoding = locale.getencoding()
    if encoding.lower().replace("-", "") == "utf8":
        return ok("encoding", _("encoding"), encoding)
    words = _("{encoding}: Chinese and emoji need UTF-8").format(encoding=encoding)
    return warning("encoding", _("encoding"), words, "export LANG=C.UTF-8")


def _widths(answers: Answers | None) -> Finding:
    title = _("widths")
    if answers is None or not answers.widths:
        return ok("widths", title, _("unknown: only a terminal can say"))
    words = ", ".join(f"{character} {width}" for character, width in answers.widths.items())
    wrong = [character for character, columns in PROBES.items() if answers.widths[character] != columns]
    if not wrong:
        return ok("widths", title, words)
    words += "; " + _("expected: {widths}").format(widths=", ".join(f"{c} {n}" for c, n in PROBES.items()))
    then = _("Let the terminal draw ambiguous characters narrow and speak UTF-8, or use another terminal.")
    return warning("widths", title, words, then)


def _clipboard(environ: Mapping[str, str], answers: Answers | None) -> Finding:
    check, title = "clipboard", _("clipboard")
    if answers is None:
        return ok(check, title, _("unknown: only a terminal can say"))
    if environ.get("TMUX"):
        return warning(check, title, _("tmux passes copies on only when it is told to"), "tmux set -s set-clipboard on")
    if answers.clipboard or any(name in environ for name in _TAKES_COPIES):
        return ok(check, title, _("this terminal takes copies (OSC 52)"))
    if environ.get("TERM_PROGRAM") == "Apple_Terminal":
        words = _("this terminal takes no copies (OSC 52)")
        return warning(check, title, words, _("Select with the mouse while Fn is held, then press Cmd+C."))
    return ok(check, title, _("unknown; where copying does nothing, select with the mouse while Shift is held"))


def _shift_enter(answers: Answers | None) -> Finding:
    check, title = "shift-enter", "Shift+Enter"
    if answers is None:
        return ok(check, title, _("unknown: only a terminal can say"))
    if answers.tells_keys_apart:
        return ok(check, title, _("begins a new line"))
    words = _("this terminal sends it as Enter")
    return warning(check, title, words, _("Press Ctrl+J or Alt+Enter for a new line."))
