"""The whole program in a real terminal, with a model of a real llama-server."""

import sys

import pytest

from qwenchat import config
from qwenchat.chat.message import Message, Status
from qwenchat.engine_settings import EngineSettings
from qwenchat.runtime.program import Program
from tests.fakes import ggufs
from tests.fakes.llama_server import llama_server
from tests.tui.terminal import CTRL_Q, ENTER, ESCAPE, qwenchat_in_terminal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
FAR = """
from qwenchat.engines.remote.server import RemoteServer
RemoteServer.is_here = False  # as if loopback were another machine
"""


def last_answer() -> Message:
    program = Program.here()
    try:
        session = program.store.listing.latest()
        assert session
        return program.store.branch(session.leaf)[-1]
    finally:
        program.close()


def test_a_chat_with_a_server_that_is_killed_in_mid_answer_and_comes_back(endless: ggufs.Chain) -> None:
    with llama_server(endless.path, alias="story", context=32768) as server:
        port = server.port
        config.put_engine(Program.here().paths.settings, "lab", EngineSettings(url=server.url))
        with qwenchat_in_terminal("--model", "@lab/story", before=FAR) as terminal:
            terminal.shows(f"Your words go to 127.0.0.1:{port}.")
            assert f"✦ story @ 127.0.0.1:{port}" in terminal.lines[0]
            terminal.send("Tell me a story" + ENTER)
            terminal.shows(f"Send this chat to 127.0.0.1:{port}?")
            terminal.shows("Esc cancel")
            terminal.send(ESCAPE)
            terminal.until(lambda text: "Ask anything." in text and "Tell me a story" in text)
            terminal.send(ENTER)
            terminal.shows("Esc cancel")
            terminal.send("\t")
            terminal.shows("Enter Send")
            terminal.send(ENTER)
            terminal.until(lambda text: text.count("once upon a time") > 5)
            server.kill()
            terminal.shows("Continue the answer")
            came = last_answer()
            assert came.status is Status.FAILED
            assert came.text
            with llama_server(endless.path, alias="story", context=32768, port=port):
                terminal.send("\t")
                terminal.shows("Esc back")
                terminal.send(ENTER)
                terminal.until(lambda text: "Continue the answer" not in text and "tokens/s" in text)
                terminal.send(ESCAPE)
                terminal.shows("■ Stopped")
                terminal.send(CTRL_Q)
                assert terminal.end() == 0
    answer = last_answer()
    assert (answer.id, answer.status, answer.host) == (came.id, Status.STOPPED, f"127.0.0.1:{port}")
    assert len(answer.text) > len(came.text)
    assert answer.text == ("once upon a time " * 10000)[: len(answer.text)]
