"""Every dialog in the smallest and the largest terminal, by keyboard alone, and in Chinese."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from textual.screen import Screen
from textual.widgets import Button, Input

from qwenchat.runtime.downloads import BackgroundDownloads
from qwenchat.tui.dialogs.export import ExportScreen
from qwenchat.tui.dialogs.model import WelcomeScreen
from qwenchat.tui.dialogs.session import SessionScreen
from qwenchat.tui.dialogs.settings import SettingRow, SettingsScreen
from tests.fakes.stores import filled, full_session
from tests.tui.dialogs import DialogApp, StillProgram, program_in
from tests.tui.screens import until

Make = Callable[[StillProgram], Screen[Any]]
DIALOGS: dict[str, Make] = {
    "welcome": lambda program: WelcomeScreen(program, BackgroundDownloads(program)),
    "session": lambda program: SessionScreen(program, full_session()),
    "settings": SettingsScreen,
    "export": lambda program: ExportScreen(program, ["s"]),
}


@pytest.fixture
def program(tmp_path: Path) -> Iterator[StillProgram]:
    program = program_in(tmp_path)
    filled(program.store)
    yield program
    program.close()


def is_visible(app: DialogApp) -> bool:
    focused = app.focused
    return focused is not None and app.screen.region.overlaps(focused.region) and focused.region.area > 0


@pytest.mark.parametrize("size", [(20, 5), (400, 100)], ids=["smallest", "largest"])
@pytest.mark.parametrize("name", DIALOGS)
async def test_tab_reaches_everything_and_shows_it(program: StillProgram, name: str, size: tuple[int, int]) -> None:
    app = DialogApp(DIALOGS[name](program))
    async with app.run_test(size=size) as pilot:
        await until(lambda: app.screen.query(Input))
        await until(lambda: name != "settings" or app.screen.query(SettingRow))
        await pilot.pause()
        reached = set()
        for _step in range(len(app.screen.focus_chain)):
            await pilot.press("tab")
            await until(lambda: is_visible(app))
            reached.add(app.focused)
            assert all(cell_len(line) <= size[0] for line in app.words.splitlines())
        shown = {widget for widget in app.screen.query("Button, Input") if widget.display}
        assert {w for w in shown if isinstance(w, Button | Input) and w.focusable} <= reached
        await pilot.press("escape")
        await until(lambda: app.closed)


async def test_a_dialog_speaks_the_language_of_the_moment(program: StillProgram) -> None:
    app = DialogApp(DIALOGS["welcome"](program), language="zh_CN")
    model = program.catalogue.get("7b")
    assert model
    async with app.run_test(size=(100, 40)):
        await until(lambda: model.advice["zh_CN"][:10] in app.words)
        assert all(cell_len(line) <= 100 for line in app.words.splitlines())
