"""The ways out of the screen and back, by keys and by signals: the terminal is left as it was found."""

import re
import signal
import sys
from pathlib import Path

import psutil
import pytest

from qwenchat.chat.message import Message, Status
from qwenchat.runtime.program import Program
from tests.fakes import ggufs
from tests.tui.terminal import CTRL_Q, ENTER, Terminal, qwenchat_in_terminal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals and these signals are POSIX")
READY = "Ask anything"
CTRL_Z = "\x1a"
CURSOR, ALTERNATE_SCREEN, MOUSE, FOCUS, PASTE = 25, 1049, {1000, 1003, 1006, 1015}, 1004, 2004
ANY_TERMINAL = {CURSOR, 7}
"""What is switched on in a terminal that nobody changed: a visible cursor, lines that wrap."""


def check_taken(terminal: Terminal, *, inline: bool = False) -> None:
    """The program has the terminal for itself."""
    wanted = {*MOUSE, FOCUS, PASTE} | (set() if inline else {ALTERNATE_SCREEN})
    terminal.until(lambda _text: wanted <= terminal.switched_on)
    assert CURSOR not in terminal.switched_on
    assert not terminal.reads_lines


def check_given_back(terminal: Terminal) -> None:
    """The terminal is as a shell needs it."""
    terminal.until(lambda _text: terminal.reads_lines and {CURSOR} <= terminal.switched_on <= ANY_TERMINAL)
    assert terminal.raw.count(b"\x1b[<u") == len(re.findall(rb"\x1b\[>\d+u", terminal.raw)), "kitty's keys"


def last_message() -> Message:
    program = Program.here()
    session = program.store.listing.latest()
    assert session
    message = program.store.branch(session.leaf)[-1]
    program.close()
    return message


def leave(terminal: Terminal, way: signal.Signals | None) -> None:
    """Leave by a signal, or by the key."""
    if way:
        terminal.process.send_signal(way)
    else:
        terminal.send(CTRL_Q)
    assert terminal.end() == 0


WAYS = pytest.mark.parametrize("way", [None, signal.SIGTERM, signal.SIGHUP], ids=["key", "term", "hup"])


@WAYS
def test_each_way_out_gives_the_terminal_back(tiny: Path, way: signal.Signals | None) -> None:
    with qwenchat_in_terminal("--model", tiny) as terminal:
        terminal.shows(READY)
        check_taken(terminal)
        leave(terminal, way)
        check_given_back(terminal)


def test_ended_by_a_signal_in_mid_answer_it_keeps_the_answer(endless: ggufs.Chain) -> None:
    with qwenchat_in_terminal("--model", endless.path) as terminal:
        terminal.shows(READY)
        terminal.send("Tell me a story" + ENTER)
        terminal.until(lambda text: text.count("once upon a time") > 20)
        engines = psutil.Process(terminal.process.pid).children()
        leave(terminal, signal.SIGTERM)
        check_given_back(terminal)
        assert psutil.wait_procs(engines, 10)[1] == []
    answer = last_message()
    assert answer.status is Status.STOPPED
    assert answer.text.count("once upon a time") > 20


def suspend(terminal: Terminal) -> None:
    """Put the program into the background, as its key does."""
    terminal.send(CTRL_Z)
    program = psutil.Process(terminal.process.pid)
    terminal.until(lambda _text: program.status() == psutil.STATUS_STOPPED)


def test_in_the_background_the_shell_has_the_terminal_and_back_again_typing_goes_on(tiny: Path) -> None:
    with qwenchat_in_terminal("--model", tiny) as terminal:
        terminal.shows(READY)
        terminal.send("half")
        terminal.until(lambda text: "half" in text and "F1 help" in text)
        for _time in range(2):
            suspend(terminal)
            check_given_back(terminal)
            terminal.wipe()
            terminal.process.send_signal(signal.SIGCONT)
            terminal.until(lambda text: READY in text and "half" in text and "F1 help" in text)
            check_taken(terminal)
        terminal.send(" more")
        terminal.shows("half more")
        leave(terminal, None)
        check_given_back(terminal)


def test_an_answer_goes_on_after_a_while_in_the_background(endless: ggufs.Chain) -> None:
    with qwenchat_in_terminal("--model", endless.path) as terminal:
        terminal.shows(READY)
        terminal.send("Tell me a story" + ENTER)
        terminal.shows("once upon a time")
        suspend(terminal)
        check_given_back(terminal)
        terminal.wipe()
        terminal.process.send_signal(signal.SIGCONT)
        terminal.until(lambda text: text.count("once upon a time") > 20)
        leave(terminal, None)
    assert last_message().status is Status.STOPPED


def test_what_ends_it_in_the_background_is_heeded_when_it_comes_back(tiny: Path) -> None:
    with qwenchat_in_terminal("--model", tiny) as terminal:
        terminal.shows(READY)
        terminal.send("half")
        terminal.shows("half")
        suspend(terminal)
        terminal.process.send_signal(signal.SIGTERM)
        terminal.process.send_signal(signal.SIGCONT)
        assert terminal.end() == 0
        check_given_back(terminal)


@WAYS
def test_inline_from_question_to_answer(models: Path, way: signal.Signals | None) -> None:
    text = "The sky is blue because of **Rayleigh** scattering."
    friendly = ggufs.write_chain(models / "inline.gguf", ggufs.distinct(text)).path
    with qwenchat_in_terminal("--inline", "--model", friendly) as terminal:
        terminal.shows(READY)
        check_taken(terminal, inline=True)
        terminal.send("Why is the sky blue?" + ENTER)
        terminal.shows("blue because of Rayleigh scattering.")
        terminal.until(lambda text: "tokens/s" in text)
        leave(terminal, way)
        assert "blue because of Rayleigh scattering." in terminal.text  # it stays in the scrollback
        assert "╭" not in terminal.text  # the screen itself does not
        assert b"1049h" not in terminal.raw
        check_given_back(terminal)
    assert last_message().text == text
