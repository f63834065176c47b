"""A model that calls a tool, in a real terminal: the user is asked, agrees by a key, and sees the result."""

import sys
from pathlib import Path

import pytest

from qwenchat.chat.message import ToolResult
from qwenchat.runtime.program import Program
from tests.fakes import ggufs
from tests.tui.terminal import CTRL_Q, ENTER, qwenchat_in_terminal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
SAID = (b"I ", b"look:\n", b"<tool_call>\n", b'{"name": "list_files", ', b'"arguments": ', b"{}}", b"\n</tool_call>")
SHIFT_F5, F6 = "\x1b[15;2~", "\x1b[17~"


@pytest.mark.usefixtures("home")
def test_a_call_is_allowed_by_a_key_and_its_result_is_read(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ggufs.write_chain(models / "looks.gguf", SAID, chat_template=ggufs.CHATML + "{# <tool_call> #}")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "todo.txt").write_text("Water the flowers.")
    monkeypatch.setenv("QWENCHAT_TOOLS_ENABLED", "true")
    monkeypatch.setenv("QWENCHAT_TOOLS_FOLDERS", str(tmp_path / "notes"))
    with qwenchat_in_terminal("--model", model.path) as terminal:
        terminal.shows("Ask anything.")
        terminal.until(lambda _text: terminal.lines[0].endswith("tools"))
        terminal.send("Which files are there?" + ENTER)
        terminal.shows("May this call run?")
        terminal.shows("F12 refuse")
        terminal.send(SHIFT_F5)
        terminal.until(lambda text: "done" in text and "tokens/s" in text and "answering" not in text)
        terminal.send(F6 + ENTER)
        terminal.shows("│")
        terminal.shows("todo.txt")
        terminal.send(CTRL_Q)
        assert terminal.end() == 0
    program = Program.here()
    session = program.store.listing.latest()
    assert session
    parts = program.store.branch(session.leaf)[-1].parts
    program.close()
    results = [part for part in parts if isinstance(part, ToolResult)]
    assert results and not any(result.is_error for result in results)
