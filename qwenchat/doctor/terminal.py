"""Checks what this terminal can show and which keys it sends, as far as it reveals that.

The terminal itself is asked how wide it draws characters, which keys it distinguishes and whether it accepts copies
(OSC 52). Queries are escape sequences; answers arrive as if typed. Every terminal answers the last query, so that
unanswered earlier ones cost no time; a terminal that answers nothing costs one second.
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
from qwenchat.i18n import _, clauses, enumerated, locale_encoding
from qwenchat.runtime.program import Program
from qwenchat.text.safe import clean_line

PROBES = {"中": 2, "🐼": 2, "─": 1}
"""Characters, and the columns that this program counts for them."""
_TIMEOUT_S = 1.0
_CURSOR_COLUMN = re.compile(rb"\x1b\[\d+;(\d+)R")
_KEYBOARD = re.compile(rb"\x1b\[\?\d+u")
_ATTRIBUTES = re.compile(rb"\x1b\[\?([\d;]*)c")
_CLIPBOARD = b"52"
"""The attribute of a terminal that accepts copies by OSC 52."""


@dataclass(frozen=True, slots=True)
class TerminalAnswers:
    """What a terminal reported about itself."""

    widths: dict[str, int]
    """Columns by character; empty if it did not answer."""
    distinguishes_keys: bool
    """Whether it supports the keyboard protocol in which Shift+Enter differs from Enter."""
    clipboard: bool
    """Whether it reports that it accepts copies."""


def ask_terminal() -> TerminalAnswers | None:
    """Return the answers of the terminal on stdin and stdout; None without a terminal or without an answer."""
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
    """Return whether the system would stop this process for changing the terminal's mode."""
    try:
        return os.tcgetpgrp(keyboard) != os.getpgrp()
    except OSError:  # it is a terminal, though not the one that controls this process
        return False


def read_answers(typed: bytes) -> TerminalAnswers | None:
    """Return the answers in the input; None if there are none."""
    columns = [int(column) - 1 for column in _CURSOR_COLUMN.findall(typed)]
    attributes = _ATTRIBUTES.search(typed)
    if not columns and attributes is None:
        return None
    widths = dict(zip(PROBES, columns, strict=True)) if len(columns) == len(PROBES) else {}
    clipboard = attributes is not None and _CLIPBOARD in attributes[1].split(b";")
    return TerminalAnswers(widths, _KEYBOARD.search(typed) is not None, clipboard)


def _typed(keyboard: int) -> bytes:
    """Return the input up to the last answer, or up to the timeout."""
    end, typed = time.monotonic() + _TIMEOUT_S, b""
    while not _ATTRIBUTES.search(typed) and (left := end - time.monotonic()) > 0:
        if select.select([keyboard], [], [], left)[0]:
            piece = os.read(keyboard, 1024)
            if not piece:
                break
            typed += piece
    return typed


@contextmanager
def _unechoed(keyboard: int) -> Iterator[None]:
    """Read input unbuffered and without echo; answers that come too late are discarded."""
    import termios  # noqa: PLC0415 - Windows has none
    import tty  # noqa: PLC0415

    before = termios.tcgetattr(keyboard)
    try:
        tty.setcbreak(keyboard)
        yield
    finally:
        termios.tcsetattr(keyboard, termios.TCSAFLUSH, before)


_COLOURS = {"truecolor": "16,777,216", "256": "256", "standard": "16", "windows": "16"}
"""Numbers of colours by rich's names, which the screen uses, too."""
_ACCEPTS_COPIES = ("KITTY_WINDOW_ID", "ALACRITTY_WINDOW_ID", "WEZTERM_PANE", "GHOSTTY_RESOURCES_DIR", "WT_SESSION")
"""Variables set by terminals that accept copies by OSC 52."""


def terminal(program: Program) -> Iterator[Finding]:
    """Check the terminal by its own answers and by the environment."""
    environ = program.environ
    answers = None if environ.get("TERM") == "dumb" else ask_terminal()  # which would print the questions
    yield _kind(environ)
    yield _encoding()
    yield _widths(answers)
    yield _clipboard(environ, answers)
    yield _shift_enter(answers)


def _kind(environ: Mapping[str, str]) -> Finding:
    from rich.console import Console  # noqa: PLC0415 - 20 ms that only this line needs

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
    words = _("{encoding}: characters that it lacks, such as emoji, are shown as ?").format(encoding=encoding)
    if locale_encoding() == "utf-8":
        words = _("{encoding}, which has no Chinese; UTF-8 is used").format(encoding=encoding)
    return warning("encoding", _("encoding"), words, "export LANG=C.UTF-8")


def _widths(answers: TerminalAnswers | None) -> Finding:
    title = _("widths")
    if answers is None or not answers.widths:
        return ok("widths", title, _("unknown: this is not a terminal, or it does not respond"))
    words = enumerated(f"{character} {width}" for character, width in answers.widths.items())
    wrong = [character for character, columns in PROBES.items() if answers.widths[character] != columns]
    if not wrong:
        return ok("widths", title, words)
    words = clauses(words, _("expected: {widths}").format(widths=enumerated(f"{c} {n}" for c, n in PROBES.items())))
    then = _("Set the terminal to UTF-8 and to narrow ambiguous characters, or use another terminal.")
    return warning("widths", title, words, then)


def _clipboard(environ: Mapping[str, str], answers: TerminalAnswers | None) -> Finding:
    check, title = "clipboard", _("clipboard")
    if answers is None:
        return ok(check, title, _("unknown: this is not a terminal, or it does not respond"))
    if environ.get("TMUX"):
        return warning(check, title, _("tmux forwards copies only if it is set to"), "tmux set -s set-clipboard on")
    if answers.clipboard or any(name in environ for name in _ACCEPTS_COPIES):
        return ok(check, title, _("this terminal accepts copies (OSC 52)"))
    if environ.get("TERM_PROGRAM") == "Apple_Terminal":
        words = _("this terminal does not accept copies (OSC 52)")
        return warning(check, title, words, _("Hold Fn, select with the mouse, then press Cmd+C."))
    return ok(check, title, _("unknown; if copying has no effect, hold Shift and select with the mouse"))


def _shift_enter(answers: TerminalAnswers | None) -> Finding:
    check, title = "shift-enter", "Shift+Enter"
    if answers is None:
        return ok(check, title, _("unknown: this is not a terminal, or it does not respond"))
    if answers.distinguishes_keys:
        return ok(check, title, _("starts a new line"))
    words = _("this terminal sends it as Enter")
    return warning(check, title, words, _("Press Ctrl+J or Alt+Enter for a new line."))
