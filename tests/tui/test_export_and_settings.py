"""Exporting and the settings, as a person uses them."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from textual.widgets import Button, Input, Select, Static

from qwenchat import config
from qwenchat.chat.session import Session
from qwenchat.sessions import exporters
from qwenchat.tui import setting_words
from qwenchat.tui.dialogs.dialog import Complaint
from qwenchat.tui.dialogs.export import ExportScreen
from qwenchat.tui.dialogs.settings import SettingRow, SettingsScreen
from qwenchat.tui.dialogs.small import ConfirmScreen
from tests.fakes.stores import filled
from tests.tui.dialogs import DialogApp, StillProgram, program_in
from tests.tui.screens import click, is_open, until

WIDE = (100, 60)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StillProgram]:
    monkeypatch.chdir(tmp_path)
    program = program_in(tmp_path / "home", {"QWENCHAT_MODEL_THREADS": "3"})
    filled(program.store)
    yield program
    program.close()


def preview(app: DialogApp) -> str:
    return str(app.screen.query_one("#preview", Static).content)


def place(app: DialogApp) -> Input:
    return app.screen.query_one(Input)


def complaint(app: DialogApp) -> str:
    return app.screen.query_one(Complaint).text


def complains(app: DialogApp, says: str) -> bool:
    return says in complaint(app)


async def test_export_with_what_is_suggested(program: StillProgram, tmp_path: Path) -> None:
    app = DialogApp(ExportScreen(program, ["s"]))
    async with app.run_test(size=WIDE):
        await until(lambda: "# A title 标题" in preview(app))
        assert place(app).value == str(tmp_path / "A title 标题.md")
        assert "It has classes." not in preview(app)
        app.screen.query_one("#branches", Select).value = True
        await until(lambda: "It has classes." in preview(app))
        app.screen.query_one("#write", Button).press()
        await until(lambda: app.closed)
        assert "It has classes." in (tmp_path / "A title 标题.md").read_text("utf-8")


@pytest.mark.parametrize("name", exporters.names())
async def test_every_format(program: StillProgram, tmp_path: Path, name: str) -> None:
    app = DialogApp(ExportScreen(program, ["s"]))
    async with app.run_test(size=WIDE) as pilot:
        await until(lambda: place(app).value)
        app.screen.query_one("#format", Select).value = name
        await until(lambda: place(app).value.endswith(exporters.named(name).suffix))
        place(app).focus()
        await pilot.press("enter")
        await until(lambda: app.closed)
        assert len([path for path in tmp_path.iterdir() if path.name.endswith(exporters.named(name).suffix)]) == 1


async def test_a_file_that_is_there_is_asked_about(program: StillProgram, tmp_path: Path) -> None:
    there = tmp_path / "there.md"
    there.write_text("mine")
    app = DialogApp(ExportScreen(program, ["s"]))
    async with app.run_test(size=WIDE) as pilot:
        await until(lambda: place(app).value)
        place(app).value = str(there)
        place(app).focus()
        await pilot.press("enter")
        await until(lambda: is_open(app, ConfirmScreen))
        await pilot.press("escape")
        await until(lambda: is_open(app, ExportScreen) and "already exists" in complaint(app))
        assert there.read_text() == "mine"
        await pilot.press("enter")
        await until(lambda: is_open(app, ConfirmScreen))
        await click(app, "#yes")
        await until(lambda: app.closed)
        assert "标题" in there.read_text("utf-8")


async def test_errors_are_told_in_place(program: StillProgram, tmp_path: Path) -> None:
    app = DialogApp(ExportScreen(program, ["s"]))
    async with app.run_test(size=WIDE) as pilot:
        await until(lambda: place(app).value)
        place(app).focus()
        for value, says in (
            ("", "No destination"),
            ("/nowhere/at/all.md", "can't be written"),
            ("~nobody-here/x.md", "home"),
        ):
            place(app).value = value
            await pilot.press("enter")
            await until(partial(complains, app, says))
        assert not app.closed


@pytest.mark.parametrize("reason", [PermissionError(13, "Permission denied"), OSError(36, "File name too long")])
async def test_a_place_that_cannot_be_looked_at_is_told(
    program: StillProgram, monkeypatch: pytest.MonkeyPatch, reason: OSError
) -> None:
    app = DialogApp(ExportScreen(program, ["s"]))
    async with app.run_test(size=WIDE) as pilot:
        await until(lambda: place(app).value)
        real = Path.stat

        def stat(path: Path, **how: bool) -> os.stat_result:
            if path.name == "shut.md":
                raise reason
            return real(path, **how)

        monkeypatch.setattr(Path, "stat", stat)
        place(app).value = "/tmp/shut.md"
        place(app).focus()
        await pilot.press("enter")
        await until(lambda: str(reason.strerror) in complaint(app))
        assert not app.closed


async def test_the_folder_that_it_was_started_in_is_gone(
    program: StillProgram, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    app = DialogApp(ExportScreen(program, ["s"]))
    async with app.run_test(size=WIDE):
        await until(lambda: place(app).value == str(Path.home() / "A title 标题.md"))


async def test_several_go_into_a_folder(program: StillProgram, tmp_path: Path) -> None:
    program.store.create(Session(id="t", created=1, updated=2, title="Other"))
    app = DialogApp(ExportScreen(program, ["s", "t"]))
    async with app.run_test(size=WIDE) as pilot:
        await until(lambda: place(app).value.endswith("qwenchat-md.zip"))
        place(app).value = f"{tmp_path}/out/"
        place(app).focus()
        await pilot.press("enter")
        await until(lambda: app.closed)
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["A title 标题.md", "Other.md"]


async def test_a_session_that_is_gone(program: StillProgram) -> None:
    app = DialogApp(ExportScreen(program, ["gone"]))
    async with app.run_test(size=WIDE):
        await until(lambda: "gone" in complaint(app))


def row(app: DialogApp, key: str) -> SettingRow:
    return next(row for row in app.screen.query(SettingRow) if row.key == key)


async def test_every_setting_has_a_row_with_its_meaning(program: StillProgram) -> None:
    app = DialogApp(SettingsScreen(program))
    async with app.run_test(size=(100, 300)) as pilot:
        await until(lambda: app.focused)
        await until(lambda: all(config.description(key)[:40] in app.words for key in config.names()))
        assert "Overridden by the environment: QWENCHAT_MODEL_THREADS=3" in app.words
        await pilot.press("escape")
        await until(lambda: app.closed)
        assert app.result is False
        assert not program.paths.settings.exists()


async def test_settings_are_changed_by_their_type(program: StillProgram) -> None:
    app = DialogApp(SettingsScreen(program))
    async with app.run_test(size=(100, 300)) as pilot:
        await until(lambda: app.focused)
        row(app, "model.mmap").query_one(Select).value = "false"
        row(app, "model.kv_type").query_one(Select).value = "q8_0"
        field = row(app, "model.context").query_one(Input)
        field.focus()
        field.value = "many"
        await pilot.press("enter")
        await until(lambda: "must be a whole number" in row(app, "model.context").query_one(Complaint).text)
        field.value = "4096"
        await pilot.press("enter")
        await until(lambda: not row(app, "model.context").query_one(Complaint).display)
        folders = row(app, "hub.folders").query_one(Input)
        folders.focus()
        folders.value = "/a, /b"
        await pilot.press("enter")
        await until(
            lambda: "/a can't be searched now: it does not exist" in row(app, "hub.folders").query_one(Complaint).text
        )
        await pilot.press("escape")
        await until(lambda: app.result is True)
    saved = config.load(program.paths.settings, {})
    assert (saved.model.mmap, saved.model.kv_type, saved.model.context) == (False, "q8_0", 4096)
    assert saved.hub.folders == ("/a", "/b")


async def test_settings_speak_in_words_and_show_what_holds_by_default(program: StillProgram) -> None:
    program.paths.settings.parent.mkdir(parents=True)
    program.paths.settings.write_text('theme = "gone"\n')
    app = DialogApp(SettingsScreen(program))
    async with app.run_test(size=(100, 300)):
        await until(lambda: app.focused)
        assert all(setting_words.title(key) != key for key in config.names())
        await until(lambda: all(setting_words.title(key) in app.words for key in config.names()))
        context, theme = row(app, "model.context").query_one(Input), row(app, "theme").query_one(Select)
        assert (context.value, context.placeholder) == ("", "default: automatic (as large as fits)")
        assert row(app, "model.threads").query_one(Input).placeholder == "default: one per core"
        options = {value: str(words) for words, value in row(app, "reduced_motion").query_one(Select)._options}
        assert options == {"false": "default: off", "true": "on"}
        themes = {value: str(words) for words, value in theme._options}
        assert theme.value == "gone" and themes["gone"] == "gone (not found)"
        assert themes[""] == "default: ink" and "paper" in themes


async def test_escape_takes_back_what_is_typed_before_it_closes(program: StillProgram) -> None:
    app = DialogApp(SettingsScreen(program))
    async with app.run_test(size=(100, 300)) as pilot:
        await until(lambda: app.focused)
        field = row(app, "system").query_one(Input)
        field.focus()
        await pilot.press(*"Be brief", "enter")
        await until(lambda: row(app, "system").saved == "Be brief")
        await pilot.press("end", "x", "escape")
        await until(lambda: field.value == "Be brief")
        assert not app.closed
        await pilot.press("escape")
        await until(lambda: app.result is True)
    assert config.load(program.paths.settings, {}).system == "Be brief"


async def test_escape_while_the_rows_still_come(program: StillProgram) -> None:
    app = DialogApp()
    async with app.run_test(size=WIDE):
        for _time in range(10):
            screen = SettingsScreen(program)
            opening = app.push_screen(screen)
            await until(lambda: len(app.screen_stack) > 1)
            app.simulate_key("escape")
            await until(lambda: len(app.screen_stack) == 1)
            await opening


async def test_a_damaged_settings_file_is_told(program: StillProgram) -> None:
    program.paths.settings.parent.mkdir(parents=True)
    program.paths.settings.write_text("[model")
    app = DialogApp(SettingsScreen(program))
    async with app.run_test() as pilot:
        await until(lambda: "not valid TOML" in app.screen.query_one("#about-file", Complaint).text)
        await pilot.press("escape")
        await until(lambda: app.result is False)


def test_choices_of_settings() -> None:
    assert config.choices("model.kv_type") == ("auto", "f16", "q8_0")
    assert config.choices("model.mmap") == ("true", "false")
    assert config.choices("language") == ("", "en", "zh_CN")
    assert config.choices("model.context") == config.choices("sampling.top_p") == ()
    assert config.section("model.context") == "Model loading." and config.section("language") == ""
