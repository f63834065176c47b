"""The person's own editor: what it leaves, and what is said where it can't be used."""

import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from qwenchat.errors import FileError, WrongUse
from qwenchat.tui import external_tools
from qwenchat.tui.external_tools import edit_text
from tests.tui.chatting import chatting
from tests.tui.screens import until


def here() -> AbstractContextManager[None]:
    return nullcontext()


def test_what_the_editor_leaves_is_the_text(tmp_path: Path) -> None:
    script = tmp_path / "my editor"
    script.write_text('#!/bin/sh\necho "and more" >> "$2"\n')
    script.chmod(0o700)
    assert edit_text("text\n", f"'{script}' -x", here) == "text\nand more"


@pytest.mark.parametrize("command", ["vim '", "/nowhere/vim", "/"])
def test_an_editor_that_cannot_be_started_is_named(command: str) -> None:
    with pytest.raises(WrongUse, match=command):
        edit_text("text", command, here)


@pytest.mark.parametrize("command", ["", " "])
def test_without_a_name_it_is_vi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    vi = tmp_path / "vi"
    vi.write_text('#!/bin/sh\necho written > "$1"\n')
    vi.chmod(0o700)
    assert edit_text("text", command, here) == "written"


def test_no_room_for_a_file_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_where: object) -> Iterator[str]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryDirectory", full)
    with pytest.raises(FileError, match="No space left on device"):
        edit_text("text", "true", here)


async def test_where_the_terminal_cannot_be_given_away_the_question_stays() -> None:
    async with chatting() as it:
        await it.pilot.press(*"half", "ctrl+g")
        await until(lambda: any("whole terminal" in said for said in it.said))
        assert it.chat.prompt.text == "half"


async def test_what_was_edited_is_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISUAL", "sh -c 'echo written > \"$0\"'")
    async with chatting() as it:
        monkeypatch.setattr(it.app, "suspend", here)
        await it.pilot.press(*"half", "ctrl+g")
        await until(lambda: it.chat.prompt.text == "written")


def write_down(log: Path) -> str:
    """An editor that keeps where its file's folder lies, the folder's mode and the text."""
    seen = 'cd "$(dirname "$0")" && dirname "$PWD" && stat -c %a . && cat "$0"'
    return f"sh -c '{{ {seen}; }} > {log}; echo better > \"$0\"'"


@pytest.mark.parametrize("private", [False, True])
async def test_a_private_question_is_in_memory_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, private: bool
) -> None:
    for folder in ("disk", "memory"):
        (tmp_path / folder).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "disk"))
    monkeypatch.setattr(external_tools, "MEMORY_FOLDER", tmp_path / "memory")
    monkeypatch.setenv("VISUAL", write_down(tmp_path / "log"))
    async with chatting() as it:
        monkeypatch.setattr(it.app, "suspend", here)
        if private:
            await it.do("new_private")
            await until(lambda: it.chat.context.chats.sessions.is_private(it.chat.session.id))
        it.write("good")
        await it.do("editor")
        assert it.chat.prompt.text == "better"
    place = tmp_path / ("memory" if private else "disk")
    assert (tmp_path / "log").read_text().splitlines() == [str(place), "700", "good"]
    assert not list(place.iterdir())


async def test_a_private_question_stays_in_the_prompt_where_no_memory_can_hold_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(external_tools, "MEMORY_FOLDER", tmp_path / "nowhere")
    monkeypatch.setenv("VISUAL", write_down(tmp_path / "log"))
    async with chatting() as it:
        monkeypatch.setattr(it.app, "suspend", here)
        await it.do("new_private")
        await until(lambda: it.chat.context.chats.sessions.is_private(it.chat.session.id))
        it.write("good")
        await it.do("editor")
        await until(lambda: any("never written to disk" in said for said in it.said))
        assert it.chat.prompt.text == "good"
    assert not (tmp_path / "log").exists()
