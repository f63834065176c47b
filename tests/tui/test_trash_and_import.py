"""The trash and the import of the screen, as users meet them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual import events
from textual.widgets import Input, OptionList, Static

from qwenchat.tui.dialogs.import_chats import ImportScreen, PathsSuggester, paths_named
from qwenchat.tui.dialogs.small import ConfirmScreen
from qwenchat.tui.dialogs.trash import TrashScreen
from tests.tui.chatting import chatting, kept_session
from tests.tui.dialogs import DialogApp, StillProgram, program_in
from tests.tui.screens import click, is_open, until


@pytest.fixture
def program(tmp_path: Path) -> Iterator[StillProgram]:
    program = program_in(tmp_path / "home", {"QWENCHAT_SESSIONS_EMPTY_TRASH_AFTER_DAYS": "30"})
    yield program
    program.close()


def trashed(program: StillProgram, *titles: str) -> list[str]:
    """Keep chats and move them to the trash; the last one was deleted last."""
    ids = [kept_session(program, title).id for title in titles]
    for session_id in ids:
        program.store.trash.put(session_id)
    return ids


def conversation(folder: Path, name: str, *questions: str) -> Path:
    """Write a file of chats in OpenAI's format."""
    file = folder / name
    lines = [
        json.dumps({"messages": [{"role": "user", "content": each}, {"role": "assistant", "content": "Yes."}]})
        for each in questions
    ]
    file.write_text("\n".join(lines), "utf-8")
    return file


def report(app: DialogApp) -> str:
    return str(app.screen.query_one("#report", Static).visual)


async def test_the_trash_lists_restores_and_deletes_for_good(program: StillProgram) -> None:
    first, second, third = trashed(program, "First", "Second [b]\x1b[31m", "Third")
    app = DialogApp(TrashScreen(program))
    async with app.run_test(size=(100, 30)) as pilot:
        await until(lambda: "Third" in app.words and "[b][31m" in app.words)
        assert "deleted 20" in app.words and "expires 20" in app.words
        assert "Chats can be restored for 30 days" in app.words
        await pilot.press("enter")
        await until(lambda: program.store.session(third).trashed is None and "Third" not in app.words)
        await pilot.press("down", "delete")
        await until(lambda: is_open(app, ConfirmScreen) and "Delete “First” permanently?" in app.words)
        await pilot.press("enter")  # no
        await until(lambda: is_open(app, TrashScreen))
        assert program.store.listing.count(trashed=True) == 2
        await pilot.press("delete")
        await until(lambda: is_open(app, ConfirmScreen))
        await pilot.press("tab", "enter")
        await until(lambda: [each.session.id for each in program.store.listing.newest(trashed=True)] == [second])
        await until(lambda: "First" not in app.words)
        await pilot.press("escape")
        await until(lambda: app.result is True)
        assert first not in [each.session.id for each in program.store.listing.newest()]


async def test_the_trash_is_emptied_once_the_user_agrees(program: StillProgram) -> None:
    trashed(program, "One", "Two")
    app = DialogApp(TrashScreen(program))
    async with app.run_test(size=(80, 24)):
        await until(lambda: "Two" in app.words)
        await click(app, "#empty-trash")
        await until(lambda: "Delete 2 chats permanently?" in app.words)
        await click(app, "#yes")
        await until(lambda: "The trash is empty." in app.words)
        assert program.store.listing.count(trashed=True) == 0
        await click(app, "#close")
        await until(lambda: app.closed)
        assert app.result is False


async def test_a_trash_that_is_never_emptied_says_so(tmp_path: Path) -> None:
    program = program_in(tmp_path, {"QWENCHAT_SESSIONS_EMPTY_TRASH_AFTER_DAYS": "0"})
    trashed(program, "One")
    app = DialogApp(TrashScreen(program))
    async with app.run_test(size=(46, 20)):
        await until(lambda: "One" in app.words)
        assert "gone" not in app.words and "until you delete them permanently" in " ".join(app.words.split())
    program.close()


async def test_the_list_shows_what_was_restored() -> None:
    async with chatting() as it:
        await it.ask("Here")
        other = kept_session(it.app.program, "Animals").id
        it.app.program.store.trash.put(other)
        it.write("/trash")
        await it.pilot.press("enter")
        await until(lambda: isinstance(it.app.screen, TrashScreen) and it.app.screen._sessions)
        await it.pilot.press("enter", "escape")
        await until(lambda: other in it.chat.sidebar._sessions)


async def test_files_are_imported_and_counted(program: StillProgram, tmp_path: Path) -> None:
    one = conversation(tmp_path, "one.jsonl", "Does it rain?", "Does it snow?")
    two = conversation(tmp_path, "two chats.jsonl", "Is it warm?")
    app = DialogApp(ImportScreen(program))
    async with app.run_test(size=(100, 30)) as pilot:
        await until(lambda: app.focused is not None)
        app.screen.query_one(Input).post_message(events.Paste(f"{one}\n'{two}'"))
        await until(lambda: app.screen.query_one(Input).value)
        await pilot.press("enter")
        await until(lambda: app.result is True)
        said = "Imported 3 chats (0 already here, 0 empty, 0 skipped)"
        assert [note.message for note in app._notifications] == [said]
    assert program.store.listing.count() == 3


async def test_what_a_command_names_is_imported_at_once(tmp_path: Path) -> None:
    file = conversation(tmp_path, "two chats.jsonl", "Does it rain?", "Is it warm?")
    async with chatting() as it:
        it.write(f"/import {file}")
        await it.pilot.press("enter")
        await until(lambda: it.app.program.store.listing.count() == 2)
        await until(lambda: it.app.screen is it.chat and "Imported 2 chats" in " ".join(it.said[-1:]))
        it.write(f"/import {tmp_path}/lost.json")
        await it.pilot.press("enter")
        await until(lambda: it.app.screen.query("#report.shown"))
        await until(lambda: "lost.json: It can't be read" in str(it.app.screen.query_one("#report", Static).visual))


async def test_what_is_refused_is_named_and_the_rest_comes(program: StillProgram, tmp_path: Path) -> None:
    good = conversation(tmp_path, "good.jsonl", "Does it rain?")
    bad = tmp_path / "bad.json"
    bad.write_text('{"neither": "nor"}')
    app = DialogApp(ImportScreen(program))
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.pause()
        app.screen.query_one(Input).value = f"{bad} {tmp_path}/lost.json {good} {good}"
        await click(app, "#import")
        await until(lambda: "Imported 1 chat (1 already here, 0 empty, 2 skipped)" in report(app))
        assert "✗ bad.json: It contains no chats" in report(app) and "✗ lost.json: It can't be read" in report(app)
        await pilot.press("escape")
        await until(lambda: app.result is True)


async def test_nothing_to_import(program: StillProgram) -> None:
    app = DialogApp(ImportScreen(program))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: app.focused is not None)
        await pilot.press("enter")
        await until(lambda: "✗ No file given." in app.words)
        await pilot.press("escape")
        await until(lambda: app.closed)
        assert app.result is False


async def test_imported_chats_are_in_the_list(tmp_path: Path) -> None:
    file = conversation(tmp_path, "one.jsonl", "Does it rain?")
    async with chatting() as it:
        it.write("/import")
        await it.pilot.press("enter")
        await until(lambda: is_open(it.app, ImportScreen) and it.app.focused)
        it.app.screen.query_one(Input).value = str(file)
        await it.pilot.press("enter")
        await until(lambda: any(each.title == "Does it rain?" for each in it.chat.sidebar._sessions.values()))


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        ("a.json", ["a.json"]),
        ("with space.zip", ["with space.zip"]),
        ("with\\ space.zip a.json", ["with space.zip", "a.json"]),
        ("'with space.zip' a.json", ["with space.zip", "a.json"]),
        ("file:///tmp/with%20space.zip", ["with space.zip"]),
        ("it's.json", ["it's.json"]),
        ("  ", []),
    ],
)
def test_the_paths_that_a_line_names(
    typed: str, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "with space.zip").touch()
    monkeypatch.chdir(tmp_path)
    assert [path.name for path in paths_named(typed)] == names


async def test_the_last_path_is_completed(tmp_path: Path) -> None:
    for name in ("first chats.json", "picture.png"):
        (tmp_path / name).touch()
    suggester = PathsSuggester(".json", ".zip")
    assert await suggester.get_suggestion(f"/a.json {tmp_path}/fi") == f"/a.json {tmp_path}/first\\ chats.json"
    assert await suggester.get_suggestion(f"{tmp_path}/first\\ ch") == f"{tmp_path}/first\\ chats.json"
    assert await suggester.get_suggestion(f"{tmp_path}/pic") is None
    assert await suggester.get_suggestion("") is None


@pytest.mark.parametrize("size", [(20, 5), (46, 20), (80, 24), (200, 60)])
async def test_every_size(size: tuple[int, int], program: StillProgram) -> None:
    trashed(program, *(f"Chat {number} 对话" for number in range(30)))
    app = DialogApp(TrashScreen(program))
    async with app.run_test(size=size) as pilot:
        await until(lambda: app.screen.query_one(OptionList).option_count == 30)
        await pilot.press("end", "enter")
        await until(lambda: program.store.listing.count(trashed=True) == 29)
