"""The question in the person's own editor; of a private chat nothing reaches a disk."""

import tempfile
from contextlib import nullcontext
from pathlib import Path

import pytest

from qwenchat.tui import editor
from qwenchat.tui.app import QwenchatApp
from tests.tui.chatting import chatting
from tests.tui.screens import until

EDITOR = """#!/bin/sh
dirname "$(dirname "$1")" > {log}
stat -c %a "$(dirname "$1")" >> {log}
cat "$1" >> {log}
echo better > "$1"
"""


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the editor saw: where its file's folder lies, the folder's mode, the text."""
    log, script = tmp_path / "log", tmp_path / "editor"
    script.write_text(EDITOR.format(log=log))
    script.chmod(0o700)
    for folder in ("disk", "memory"):
        (tmp_path / folder).mkdir()
    monkeypatch.setenv("EDITOR", str(script))
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "disk"))
    monkeypatch.setattr(editor, "MEMORY", tmp_path / "memory")
    monkeypatch.setattr(QwenchatApp, "suspend", lambda _app: nullcontext())
    return log


@pytest.mark.parametrize("private", [False, True])
async def test_the_editor_gets_the_question_and_gives_it_back(log: Path, tmp_path: Path, private: bool) -> None:
    async with chatting() as it:
        if private:
            await it.do("new_private")
            await until(lambda: it.chat.chats.sessions.is_private(it.chat.session.id))
        it.write("good")
        await it.do("editor")
        assert it.chat.prompt.text == "better"
    place = tmp_path / ("memory" if private else "disk")
    assert log.read_text().splitlines() == [str(place), "700", "good"]
    assert not list(place.iterdir())


async def test_a_private_question_stays_in_the_prompt_where_no_memory_can_hold_a_file(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(editor, "MEMORY", Path("/nowhere"))
    async with chatting() as it:
        await it.do("new_private")
        await until(lambda: it.chat.chats.sessions.is_private(it.chat.session.id))
        it.write("good")
        await it.do("editor")
        await until(lambda: any("written to no disk" in said for said in it.said))
        assert it.chat.prompt.text == "good"
    assert not log.exists()


async def test_an_editor_that_is_not_there_leaves_the_question(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDITOR", "/nowhere/editor")
    async with chatting() as it:
        it.write("good")
        await it.do("editor")
        await until(lambda: any("/nowhere/editor can't be started" in said for said in it.said))
        assert it.chat.prompt.text == "good"
