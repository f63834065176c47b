"""A home that can't be written: chats are listed, searched, shown and exported, and what can't be saved is said."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from qwenchat.chat.message import Message, Role, text_parts
from qwenchat.chat.session import Session
from qwenchat.runtime.program import Program
from tests.fakes.commands import qwenchat, without_privileges
from tests.tui.terminal import CTRL_Q, ENTER, qwenchat_in_terminal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes of files are POSIX")
QUESTION = "为什么天空是蓝色的？"


@pytest.fixture(params=["closed", "with its log", "with its log and index"])
def read_only(request: pytest.FixtureRequest, home: Path, tmp_path: Path, tiny: Path) -> Iterator[Path]:
    """A home that can't be written, whose database was closed, or copied while a program used it."""
    program = Program.here()
    program.store.create(Session(id="0123", created=1, updated=2, title="Sky", model=str(tiny)))
    message = Message(id="m", session="0123", role=Role.USER, parent=None, created=1, parts=text_parts(QUESTION))
    program.store.add(message)
    copy = tmp_path / "copy"
    if request.param == "closed":
        program.close()
    shutil.copytree(home, copy)
    if request.param == "with its log":
        (copy / "data/sessions.db-shm").unlink()
    program.close()
    folders = [copy, *(path for path in copy.rglob("*") if path.is_dir())]
    for path in copy.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    copy.chmod(0o555)
    yield copy
    for folder in folders:
        folder.chmod(0o755)


def test_what_is_there_is_read(read_only: Path, tiny: Path) -> None:
    def run(*words: str | Path) -> tuple[int, str]:
        done = qwenchat(*words, by=without_privileges(), QWENCHAT_HOME=str(read_only))
        return done.returncode, done.stdout + done.stderr

    assert run("sessions", "list")[0] == 0
    code, found = run("sessions", "search", "天空")
    assert code == 0 and QUESTION in found
    code, exported = run("sessions", "export", "--all")
    assert code == 0 and QUESTION in exported
    for words in (("ask", "-m", tiny, "why?"), ("ask", "-m", tiny, "-c", "why?"), ("sessions", "rename", "0123", "x")):
        code, said = run(*words)
        assert code == 7 and "Nothing can be saved" in said and len(said.splitlines()) == 2
    code, said = run("ask", "-m", tiny, "--no-save", "--max-tokens", "1", "why?")
    assert code == 0, said


@pytest.mark.parametrize("read_only", ["with its log"], indirect=True)
def test_the_screen_says_once_that_nothing_can_be_saved(read_only: Path) -> None:
    notices_stay = "from textual.notifications import Notification; Notification.time_left = 3600"  # the first, too
    home = str(read_only)
    with qwenchat_in_terminal("-c", before=notices_stay, by=without_privileges(), QWENCHAT_HOME=home) as terminal:
        terminal.until(lambda text: QUESTION[:6] in text and "Nothing can be saved" in text)  # beside the notice
        terminal.send("unsaved words" + ENTER)
        terminal.until(lambda text: text.count("Nothing can be saved") == 2)  # the question is refused, and stays
        terminal.shows("unsaved words")
        terminal.send(CTRL_Q)
        assert terminal.end() == 0
