"""The whole program, as it is, in a real terminal over real llama.cpp."""

import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from qwenchat.chat.message import Status
from qwenchat.chat.session import Session
from qwenchat.runtime.program import Program
from tests.fakes import ggufs
from tests.fakes.commands import qwenchat
from tests.tui.terminal import CTRL_Q, ENTER, ESCAPE, qwenchat_in_terminal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
READY = "Ask anything"


@pytest.fixture(scope="session")
def friendly(models: Path) -> Path:
    """A model that says one sentence."""
    text = "The sky is blue because of **Rayleigh** scattering."
    return ggufs.write_chain(models / "friendly.gguf", ggufs.distinct(text)).path


def test_ask_and_get_the_answer(friendly: Path) -> None:
    with qwenchat_in_terminal("--model", friendly) as terminal:
        terminal.shows(READY)
        terminal.send("Why is the sky blue?" + ENTER)
        terminal.shows("blue because of Rayleigh scattering.")
        terminal.until(lambda text: "tokens/s" in text)
        terminal.send(CTRL_Q)
        assert terminal.end() == 0
    assert "Why is the sky blue?" in qwenchat("sessions", "list").stdout


def test_killed_in_mid_answer_nothing_is_lost(endless: ggufs.Chain) -> None:
    with qwenchat_in_terminal("--model", endless.path) as terminal:
        terminal.shows(READY)
        terminal.send("Tell me a story" + ENTER)
        terminal.until(lambda text: text.count("once upon a time") > 20)
        terminal.drain(1.0)  # what was shown longer than half a second ago is promised to be kept
        os.kill(terminal.process.pid, signal.SIGKILL)
        terminal.process.wait()
    with qwenchat_in_terminal("--continue") as terminal:
        terminal.until(lambda text: "Interrupted" in text and text.count("once upon a time") > 10)
        terminal.send(CTRL_Q)
        assert terminal.end() == 0
    program = Program.here()
    session = program.store.listing.latest()
    assert session
    answer = program.store.branch(session.leaf)[-1]
    program.close()
    assert answer.status is Status.INTERRUPTED
    assert answer.text.count("once upon a time") > 15


@pytest.mark.parametrize("told", [True, False])
def test_the_terminal_closes_in_mid_answer_and_the_answer_is_kept(endless: ggufs.Chain, *, told: bool) -> None:
    with qwenchat_in_terminal("--model", endless.path) as terminal:
        terminal.shows(READY)
        terminal.send("Tell me a story" + ENTER)
        terminal.until(lambda text: text.count("once upon a time") > 20)
        if told:
            terminal.process.send_signal(signal.SIGHUP)
            assert terminal.end() == 0
        else:
            engines = psutil.Process(terminal.process.pid).children()
            terminal.hang_up()
            assert terminal.process.wait(30) == 0
            assert psutil.wait_procs(engines, 10)[1] == []
    program = Program.here()
    session = program.store.listing.latest()
    assert session
    answer = program.store.branch(session.leaf)[-1]
    program.close()
    assert answer.status is Status.STOPPED
    assert answer.text.count("once upon a time") > 15


def test_two_programs_at_once(friendly: Path) -> None:
    with qwenchat_in_terminal("--model", friendly) as one, qwenchat_in_terminal("--model", friendly) as two:
        one.shows(READY)
        two.shows(READY)
        one.send("First program" + ENTER)
        two.send("Second program" + ENTER)
        one.shows("scattering.")
        two.shows("scattering.")
        for terminal in (one, two):
            terminal.send(CTRL_Q)
            assert terminal.end() == 0
    listed = qwenchat("sessions", "list").stdout
    assert "First program" in listed
    assert "Second program" in listed


def test_a_paste_of_many_lines_is_one_question(friendly: Path) -> None:
    with qwenchat_in_terminal("--model", friendly) as terminal:
        terminal.shows(READY)
        terminal.paste("\n".join(f"pasted line {number}" for number in range(40)))
        terminal.shows("pasted line 39")
        terminal.send(ENTER)
        terminal.shows("scattering.")
        terminal.send(CTRL_Q)
        assert terminal.end() == 0
    program = Program.here()
    session = program.store.listing.latest()
    assert session
    question = program.store.branch(session.leaf)[0]
    program.close()
    assert question.text.count("pasted line") == 40


def test_resized_while_an_answer_streams(endless: ggufs.Chain) -> None:
    with qwenchat_in_terminal("--model", endless.path) as terminal:
        terminal.shows(READY)
        terminal.send("Tell me a story" + ENTER)
        terminal.shows("once upon a time")
        for columns, rows in ((40, 12), (20, 5), (200, 60), (80, 24)):
            terminal.resize(columns, rows)
            terminal.shows("once upon")
        terminal.send(ESCAPE)
        terminal.shows("■ Stopped")
        terminal.send(CTRL_Q)
        assert terminal.end() == 0


def test_without_a_terminal_it_says_what_to_do() -> None:
    done = qwenchat()
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 2
    assert "qwenchat ask" in done.stderr


def test_a_session_in_the_trash_does_not_open() -> None:
    store = Program.here().store
    store.create(Session(id="s", created=1, updated=1, trashed=2))
    store.close()
    with qwenchat_in_terminal("--session", "s") as terminal:
        assert terminal.end() == 3
        terminal.shows("qwenchat sessions restore s")


def test_a_path_typed_at_once_into_the_welcome_arrives_whole() -> None:
    with qwenchat_in_terminal() as terminal:
        terminal.until(lambda text: "recommended model (" in text and "Enter Try it now" in text)  # it has the focus
        terminal.send("/models/qwen2.5-coder.gguf")
        terminal.shows("Use /models/qwen2.5-coder.gguf")
        terminal.send("\t" + "x")  # from the list of models back into the line
        terminal.shows("Use /models/qwen2.5-coder.ggufx")
        terminal.send(ESCAPE)
        terminal.shows("Ask anything")
        terminal.send(CTRL_Q)
        assert terminal.end() == 0
