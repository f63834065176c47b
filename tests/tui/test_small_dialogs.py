"""Confirming, asking for a line, help and themes, as a person uses them."""

import pytest
from textual.widgets import Input

from qwenchat.tui.dialogs.small import ConfirmScreen, HelpScreen, TextScreen
from qwenchat.tui.dialogs.theme import ThemeScreen
from tests.tui.dialogs import THEMES, DialogApp
from tests.tui.screens import click, until

HOSTILE = "[bold]\x1b]52;c;x\x07[/nothing] 标题"


@pytest.mark.parametrize(("keys", "answer"), [(["enter"], False), (["tab", "enter"], True), (["escape"], False)])
async def test_confirming(keys: list[str], answer: bool) -> None:
    app = DialogApp(ConfirmScreen(f"Delete {HOSTILE}?", "It can't be undone.", "Delete"))
    async with app.run_test() as pilot:
        await until(lambda: "Delete [bold]]52;c;x[/nothing] 标题?" in app.words and "undone" in app.words)
        await pilot.press(*keys)
        await until(lambda: app.result is answer)


@pytest.mark.parametrize("at", ["#yes", "#no", "CloseMark"])
async def test_confirming_with_the_mouse(at: str) -> None:
    app = DialogApp(ConfirmScreen("Delete it?"))
    async with app.run_test() as pilot:
        await pilot.pause()
        await click(app, at)
        await until(lambda: app.result is (at == "#yes"))


async def test_a_click_beside_a_dialog_closes_it() -> None:
    app = DialogApp(TextScreen("Title"))
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.pause()
        await pilot.click(offset=(1, 1))
        await until(lambda: app.closed)
        assert app.result is None


async def test_a_line_of_text() -> None:
    app = DialogApp(TextScreen("Title", f"old {HOSTILE}"))
    async with app.run_test() as pilot:
        field = app.screen.query_one(Input)
        await until(lambda: field.has_focus)
        assert field.value == "old [bold]]52;c;x[/nothing] 标题"
        await pilot.press("end", "!", "enter")
        await until(lambda: app.result == "old [bold]]52;c;x[/nothing] 标题!")


async def test_a_line_of_text_left_alone() -> None:
    app = DialogApp(TextScreen("Title", "old"))
    async with app.run_test() as pilot:
        await pilot.press("x", "escape")
        await until(lambda: app.result is None)


async def test_help_lists_and_filters_the_actions() -> None:
    actions = [("Chat", "ctrl+n", "New session"), ("Chat", "esc", "Stop [b]"), ("Models", "ctrl+l", "Choose a model")]
    app = DialogApp(HelpScreen(actions))
    async with app.run_test() as pilot:
        await until(lambda: "ctrl+n  New session" in app.words and "esc     Stop [b]" in app.words)
        await pilot.press(*"model")
        await until(lambda: "ctrl+n" not in app.words)
        assert "Models" in app.words and "ctrl+l  Choose a model" in app.words
        await pilot.press("escape")
        await until(lambda: app.closed)


async def test_themes_are_shown_while_moving() -> None:
    app = DialogApp(ThemeScreen(THEMES.titles))
    async with app.run_test() as pilot:
        await until(lambda: "Ink · dark" in app.words)
        names = list(THEMES.titles)
        after = names[(names.index("ink") + 1) % len(names)]
        await pilot.press("down")
        await until(lambda: app.theme == after)
        await pilot.press("escape")
        await until(lambda: app.closed)
        assert (app.theme, app.result) == ("ink", None)


async def test_a_theme_is_kept() -> None:
    app = DialogApp(ThemeScreen())
    async with app.run_test() as pilot:
        await until(lambda: app.focused is not None)
        await pilot.press("home", "enter")
        await until(lambda: app.closed)
        assert app.result == app.theme != "ink"


@pytest.mark.parametrize("size", [(20, 5), (400, 100)])
async def test_every_size(size: tuple[int, int]) -> None:
    app = DialogApp(ConfirmScreen("Delete this session with all of its messages?", "It can't be undone.", "Delete"))
    async with app.run_test(size=size) as pilot:
        await until(lambda: "Delete this" in app.words)
        await pilot.press("tab")
        await until(lambda: "Delete" in app.words.splitlines()[-1] or size[0] > 20)
        await pilot.press("enter")
        await until(lambda: app.result is True)
