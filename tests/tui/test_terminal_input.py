"""Whatever a terminal sends is survived, and whatever fails in a thread ends the screen in two lines."""

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenchat.tui.textual_private.terminal_input import TerminalDecoder, guess_encoding
from tests.tui.terminal import CTRL_Q, PASTE, PASTED, Terminal, qwenchat_in_terminal
from tests.tui.test_terminal_signals import check_given_back

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
READY = "Ask anything"
WRONG = "The terminal sent"
OLD_MOUSE = b"\x1b[M \xc3\xe9\x1b[M#\xff\x80"
"""A press and a release at columns that only two bytes can hold in UTF-8."""


def leave(terminal: Terminal) -> None:
    terminal.send(CTRL_Q)
    assert terminal.end() == 0


@pytest.mark.parametrize("inline", [False, True], ids=["whole", "inline"])
def test_bytes_that_are_not_text_are_survived_and_told_once(tiny: Path, *, inline: bool) -> None:
    with qwenchat_in_terminal("--model", tiny, *(["--inline"] if inline else [])) as terminal:
        terminal.shows(READY)
        terminal.send(OLD_MOUSE + b"first ")
        assert WRONG not in terminal.shows("first")
        terminal.send(b"\xff")
        terminal.shows(WRONG)
        terminal.send("一".encode()[:2] + b"second" + "二".encode()[:1])
        terminal.shows("second")
        terminal.send(PASTE.encode() + b"pasted \xe4\xbd text \xc4\xe3" + PASTED.encode())
        terminal.shows("pasted \ufffd text")
        terminal.send(b"\x1b[99999999999999u")
        terminal.send("typing goes on 你好")
        terminal.shows("typing goes on 你好")
        assert terminal.text.count(WRONG) <= 1  # it is gone after a while
        leave(terminal)


@pytest.mark.parametrize(("sent", "encoding"), [("你好".encode("gbk"), "GBK"), ("café".encode("latin-1"), "Latin-1")])
def test_a_terminal_in_another_encoding_is_told_which(tiny: Path, sent: bytes, encoding: str) -> None:
    with qwenchat_in_terminal("--model", tiny) as terminal:
        terminal.shows(READY)
        terminal.send(sent)
        terminal.until(lambda text: f"like {encoding}." in " ".join(text.split()))
        leave(terminal)


def test_encodings_are_guessed() -> None:
    assert guess_encoding("怎么样？\r".encode("gbk")) == "GBK"
    assert guess_encoding("\x1b[200~naïve\x1b[201~".encode("latin-1")) == "Latin-1"
    assert guess_encoding(b"\xff") == guess_encoding(b"\x80abc") == ""


@given(st.lists(st.sampled_from(["a", "é", "你", "🦉", "\x1b[A", "mouse", "wrong"])), st.data())
def test_text_is_the_same_however_it_is_split(sent: list[str], data: st.DataObject) -> None:
    decoder = TerminalDecoder("utf-8")
    came, wrong = "", b""
    for one in sent:
        whole = {"mouse": OLD_MOUSE[:6], "wrong": b"\xff"}.get(one) or one.encode()
        cut = data.draw(st.integers(2, max(2, len(whole))))  # Esc alone is a key
        for part in filter(None, (whole[:cut], whole[cut:])):
            text, not_text = decoder.text(part)
            came, wrong = came + text, wrong + not_text
    assert came == "".join({"mouse": "", "wrong": "\ufffd"}.get(one, one) for one in sent)
    assert wrong.count(b"\xff") == sent.count("wrong")


def test_half_a_character_waits_for_its_rest_and_not_for_ever() -> None:
    decoder = TerminalDecoder("utf-8")
    assert decoder.text(b"caf\xe9") == ("caf", b"")
    assert decoder.text(b"") == ("\ufffd", b"\xe9")
    assert decoder.text(b"\x1b[") == ("", b"")
    assert decoder.text(b"") == ("\x1b[", b"")


FAILURES = {
    "input": """
from textual.driver import Driver
kept = Driver.process_message
def process_message(self, message):
    if getattr(message, "key", "") == "f10": raise LookupError("planted")
    kept(self, message)
Driver.process_message = process_message""",
    "output": """
import sys
from textual.drivers._writer_thread import WriterThread
kept = WriterThread.run
class Broken:
    fails = False
    def write(self, text):
        if Broken.fails: Broken.fails = False; raise LookupError("planted")
        sys.__stderr__.write(text)
    flush = sys.__stderr__.flush
def run(self):
    self._file = Broken()
    kept(self)
WriterThread.run = run
from qwenchat.tui.screens.chat import ChatScreen
def action_fail(self): Broken.fails = True; self.refresh()
ChatScreen.key_f10 = action_fail""",
    "thread": """
import threading
from qwenchat.tui.screens.chat import ChatScreen
def fail(): raise LookupError("planted")
ChatScreen.key_f10 = lambda self: threading.Thread(target=fail).start()""",
    "worker": """
from qwenchat.tui.screens.chat import ChatScreen
async def fail(): raise LookupError("planted")
def key_f10(self): self.run_worker(fail())
ChatScreen.key_f10 = key_f10""",
    "answering": """
from qwenchat.runtime.chat_service import ChatService
from qwenchat.tui.screens.chat import ChatScreen
async def fail(self): raise LookupError("planted")
ChatService._work = fail
ChatScreen.key_f10 = lambda self: self.context.chats._enqueue()""",
    "handler": """
from qwenchat.tui.screens.chat import ChatScreen
def fail(self): raise LookupError("planted")
ChatScreen.key_f10 = fail""",
}


@pytest.mark.parametrize("where", FAILURES)
def test_what_fails_anywhere_ends_in_two_lines(tiny: Path, where: str) -> None:
    with qwenchat_in_terminal("--model", tiny, before=FAILURES[where]) as terminal:
        terminal.shows(READY)
        terminal.send("\x1b[21~")  # F10
        assert terminal.end() == 1
        assert "This is a bug in qwenchat: LookupError('planted')" in terminal.text
        assert "Run it again with --debug" in terminal.text
        assert b"Traceback" not in terminal.raw
        check_given_back(terminal)
