"""Menus on the right click and on a key, and the parts of the header and the gauge that can be clicked."""

import pytest
from textual.geometry import Offset
from textual.screen import ModalScreen
from textual.widgets import OptionList

from qwenchat.runtime.program import Program
from qwenchat.tui.actions import Where
from qwenchat.tui.dialogs.menu import MenuScreen
from qwenchat.tui.dialogs.model import ModelScreen
from qwenchat.tui.dialogs.open import MenuItem
from qwenchat.tui.dialogs.small import TextScreen
from qwenchat.tui.dialogs.statistics import StatisticsScreen
from tests.tui.chatting import Chatting, chatting, kept_session
from tests.tui.dialogs import DialogApp
from tests.tui.screens import click, is_open, until


def items(it: Chatting) -> dict[str, str]:
    """The words of the open menu, by the ids of the actions."""
    return {str(option.id): str(option.prompt) for option in it.app.screen.query_one(OptionList).options}


async def opened(it: Chatting, kind: type[ModalScreen[str | None]] = MenuScreen) -> None:
    await until(lambda: is_open(it.app, kind) and it.app.screen.is_active)
    await it.pilot.pause()


async def test_a_right_click_on_a_message_offers_what_fits_it_with_the_keys() -> None:
    async with chatting("Plain words.", "```py\nx\n```") as it:
        await it.ask("One")
        await click(it.app, it.transcript, offset=(4, 0), button=3)
        await opened(it)
        assert it.transcript.selected and it.transcript.selected.text == "One"
        assert items(it)["edit"].split() == ["Edit", "and", "resend", "e"]
        assert "carry_on" not in items(it) and "copy_code" not in items(it) and "select_step" not in items(it)
        await it.pilot.press("escape")
        await it.ask("Two")
        it.transcript.select(it.messages[-1].id)
        await click(it.app, it.transcript, offset=(4, it.transcript.column.start(3)), button=3)
        await opened(it)
        assert {"carry_on", "copy_code"} <= items(it).keys()
        await it.pilot.press("q")  # its key works here too
        await until(lambda: "> " in it.chat.prompt.text)
        assert it.chat.focusing.place is Where.PROMPT


async def test_a_right_click_in_the_list_is_about_that_chat_and_does_not_open_it() -> None:
    program = Program.here()
    other = kept_session(program, "Animals").id
    program.close()
    async with chatting() as it:
        await it.ask("Here")
        here, listed = it.chat.session.id, it.chat.sidebar.list
        await until(lambda: other in it.chat.sidebar._sessions)
        line = next(y for y in range(listed.size.height) if "Animals" in listed.render_line(y).text)
        await click(it.app, listed, offset=(5, line), button=3)
        await opened(it)
        assert items(it)["rename"].split() == ["Rename", "chat", "t"]
        assert it.chat.session.id == here
        await it.pilot.press(*["down"] * list(items(it)).index("trash"), "enter")
        await until(lambda: it.app.program.store.session(other).trashed)
        assert it.chat.session.id == here
        await until(lambda: it.chat.focusing.place is Where.PROMPT)


@pytest.mark.parametrize("key", ["shift+f10", "f22", "menu"])
async def test_a_key_opens_the_menu_of_what_has_the_focus(key: str) -> None:
    async with chatting() as it:
        await it.ask("One")
        await it.pilot.press(key)
        await opened(it)
        assert {"rename", "suggest_title", "models", "export"} <= items(it).keys()
        assert items(it)["models"].endswith("Ctrl+O") and "t" not in items(it)["rename"].split()
        await it.pilot.press("escape", "f6", key)
        await opened(it)
        assert "regenerate" in items(it)
        await it.pilot.press("escape")
        assert it.chat.focusing.place is Where.MESSAGE


async def test_parts_of_the_header_and_the_gauge_can_be_clicked() -> None:
    async with chatting() as it:
        await it.ask("A question")
        header = it.chat.header
        words = header.render().plain
        await click(it.app, header, offset=(2 + words.index("A question"), 0))
        await opened(it, TextScreen)
        await it.pilot.press("escape")
        await click(it.app, header, offset=(2 + words.index("✦"), 0))
        await opened(it, ModelScreen)
        await it.pilot.press("escape")
        await click(it.app, header, offset=(3, 0), button=3)
        await opened(it)
        assert "rename" in items(it)
        await it.pilot.press("escape")
        await click(it.app, it.chat.gauge, offset=(5, 0))
        await until(lambda: is_open(it.app, StatisticsScreen))


@pytest.mark.parametrize("size", [(20, 5), (80, 24), (400, 100)])
async def test_a_menu_stays_on_the_screen(size: tuple[int, int]) -> None:
    menu = [MenuItem(f"id{number}", f"Action {number}", "ctrl+k") for number in range(12)]
    app = DialogApp(MenuScreen(menu, Offset(size[0] - 1, size[1] - 1)))
    async with app.run_test(size=size) as pilot:
        await until(lambda: "Action 0" in app.words)
        region = app.screen.query_one(OptionList).region
        assert app.screen.region.contains_region(region)
        await pilot.press("up", "enter")
        await until(lambda: app.result == "id11")


async def test_a_click_beside_a_menu_closes_it() -> None:
    app = DialogApp(MenuScreen([MenuItem("one", "One", "")], Offset(5, 5)))
    async with app.run_test() as pilot:
        await pilot.pause()
        await pilot.click(offset=(60, 2))
        await until(lambda: app.closed)
        assert app.result is None
