"""Terminals that can't obey escape sequences, without colours, and with a size that a shell says."""

import re
import sys
from pathlib import Path

import pytest

from qwenchat.chat.message import Message, Role, text_parts
from qwenchat.chat.session import Session
from qwenchat.runtime.program import Program
from tests.tui.terminal import CTRL_Q, qwenchat_in_terminal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
COMMANDS = (
    ("doctor",),
    ("sessions", "list"),
    ("sessions", "show", "0123"),
    ("models", "list"),
    ("models", "info", "nothing"),
    ("ask", "-m", "TINY", "--no-save", "--max-tokens", "1", "why?"),
)


@pytest.fixture
def stored() -> None:
    store = Program.here().store
    store.create(Session(id="0123", created=1, updated=2, title="Sky"))
    text = "**Why** is `it` blue?\n\n| a | b |\n|---|---|\n| 1 | 2 |"
    store.add(Message(id="m", session="0123", role=Role.USER, parent=None, created=1, parts=text_parts(text)))
    store.close()


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.usefixtures("stored")
def test_a_dumb_terminal_gets_plain_text(tiny: Path, words: tuple[str, ...]) -> None:
    words = tuple(str(tiny) if word == "TINY" else word for word in words)
    with qwenchat_in_terminal(*words, TERM="dumb") as terminal:
        terminal.end()
        assert terminal.raw and b"\x1b" not in terminal.raw


@pytest.mark.parametrize("words", COMMANDS[:4], ids=" ".join)
@pytest.mark.usefixtures("stored")
def test_no_color_means_no_colour(words: tuple[str, ...]) -> None:
    with qwenchat_in_terminal(*words, NO_COLOR="1") as terminal:
        terminal.end()
        assert not re.search(rb"\x1b\[[\d;]*(3[0-8]|4[0-8]|9[0-7])[;m]", terminal.raw)


def test_the_screen_says_that_a_dumb_terminal_can_not_show_it() -> None:
    with qwenchat_in_terminal(TERM="dumb") as terminal:
        assert terminal.end() == 2
        assert "TERM is dumb" in terminal.text and "qwenchat ask" in terminal.text


@pytest.mark.parametrize(("columns", "lines"), [("0", "0"), ("1", "1"), ("500", "200"), ("abc", "-1")])
def test_the_size_is_the_one_of_the_terminal(tiny: Path, columns: str, lines: str) -> None:
    with qwenchat_in_terminal("--model", tiny, COLUMNS=columns, LINES=lines) as terminal:
        terminal.until(lambda text: "Ask anything" in text and "F1 help" in text.splitlines()[-1])
        terminal.send(CTRL_Q)
        assert terminal.end() == 0
