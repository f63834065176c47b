"""What this terminal can show and which keys it sends, as far as that can be known."""

import locale
import shutil
from collections.abc import Iterator, Mapping

from qwenchat.doctor.asking import PROBES, Answers, ask_terminal
from qwenchat.doctor.finding import Finding, ok, warning
from qwenchat.i18n import _
from qwenchat.program import Program
from qwenchat.text import clean_line

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
