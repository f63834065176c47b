"""Every dialog in the smallest and the largest terminal, by keyboard alone, and in Chinese."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from rich.cells import cell_len
from textual.screen import Screen
from textual.widgets import Button, Input

from qwenchat import tui
from qwenchat.chat.message import Attachment
from qwenchat.chat.session import Session
from qwenchat.chat.statistics import statistics_of
from qwenchat.i18n import use_language
from qwenchat.runtime.downloads import BackgroundDownloads
from qwenchat.runtime.session_documents import SessionDocuments
from qwenchat.runtime.session_tools import SessionTools
from qwenchat.tools.policy import Decision, Leave, PendingCall
from qwenchat.tui import slash_commands
from qwenchat.tui.actions import actions
from qwenchat.tui.attached import Attached
from qwenchat.tui.dialogs import open as screens
from qwenchat.tui.dialogs.collections import CollectionsScreen
from qwenchat.tui.dialogs.consent import ConsentScreen
from qwenchat.tui.dialogs.dialog import CloseMark, Dialog
from qwenchat.tui.dialogs.documents import DocumentsScreen
from qwenchat.tui.dialogs.downloads import DownloadsScreen
from qwenchat.tui.dialogs.engines import EngineScreen, EnginesScreen
from qwenchat.tui.dialogs.export import ExportScreen
from qwenchat.tui.dialogs.import_chats import ImportScreen
from qwenchat.tui.dialogs.model import ModelScreen, WelcomeScreen
from qwenchat.tui.dialogs.session import SessionScreen
from qwenchat.tui.dialogs.settings import SettingRow, SettingsScreen
from qwenchat.tui.dialogs.small import ConfirmScreen, TextScreen
from qwenchat.tui.dialogs.statistics import StatisticsScreen
from qwenchat.tui.dialogs.theme import ThemeScreen
from qwenchat.tui.dialogs.tools import ToolsScreen
from qwenchat.tui.dialogs.trash import TrashScreen
from tests.fakes.stores import filled, full_session
from tests.tui.dialogs import NAMES, THEMES, DialogApp, StillProgram, program_in
from tests.tui.screens import is_open, until
from tests.tui.test_dialog_pictures import UnderWay

Make = Callable[[StillProgram], Screen[Any]]


async def refuse(_session: Session, _call: PendingCall) -> Decision:
    return Decision(Leave.REFUSED)


DIALOGS: dict[str, Make] = {
    "welcome": lambda program: WelcomeScreen(program, BackgroundDownloads(program)),
    "session": lambda program: SessionScreen(program, full_session()),
    "settings": SettingsScreen,
    "export": lambda program: ExportScreen(program, ["s"]),
}


ALL: dict[str, Make] = {
    **DIALOGS,
    "model": lambda program: ModelScreen(program, "", UnderWay(program)),
    "downloads": lambda program: DownloadsScreen(UnderWay(program)),
    "theme": lambda _program: ThemeScreen(THEMES.titles),
    "confirm": lambda _program: ConfirmScreen("Replace it? " * 9, "It is there already. " * 40, "Replace"),
    "text": lambda _program: TextScreen("Title", "x"),
    "help": lambda program: screens.help_for(actions(), program.settings.keys, slash_commands.commands()),
    "trash": TrashScreen,
    "import": ImportScreen,
    "statistics": lambda program: StatisticsScreen(statistics_of(program.store.branch("q2")), None),
    "compare": lambda program: screens.compare(
        "Why?", program.store.branch("q2"), (0, 1), stop=list, copy=id, names=NAMES, call_since=monotonic
    ),
    "branches": lambda program: screens.branches(program.store.tree("s").branches(), "q2"),
    "attached": lambda _program: screens.attached(
        Attached(
            name="book.pdf",
            documents=(Attachment("book.pdf", "application/pdf", b"A page of it. \f" * 40),),
            left_out=("2 links",),
        )
    ),
    "engine": EngineScreen,
    "engines": EnginesScreen,
    "consent": lambda program: ConsentScreen(
        "a-long-name.example.com:8080",
        "Qwen/Qwen2-72B-Instruct",
        program.store.branch("q2"),
        system=True,
        is_encrypted=False,
        other_model=True,
    ),
    "tools": lambda program: ToolsScreen(program, SessionTools(program, refuse, lambda _session: True), full_session()),
    "documents": lambda program: DocumentsScreen(
        program, SessionDocuments(program, lambda _session: True), full_session(), (), speed=None, room=0
    ),
    "collections": CollectionsScreen,
}

WITHOUT_BUTTONS = ("attached", "settings", "theme", "help", "downloads", "branches")


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
        await until(lambda: name != "welcome" or isinstance(app.focused, Button))  # once the models are listed
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


def test_all_dialogs_are_looked_at(program: StillProgram) -> None:
    for module in pkgutil.iter_modules(tui.dialogs.__path__):
        importlib.import_module(f"{tui.dialogs.__name__}.{module.name}")
    assert {type(make(program)) for make in ALL.values()} == set(Dialog.__subclasses__())


def outside_lists(app: DialogApp) -> list[Button]:
    """The buttons that act on the dialog as a whole."""
    in_lists = {
        button
        for row in app.screen.query("DownloadRow, Buttons")
        if not row.has_class("foot")
        for button in row.query(Button)
    }
    return [button for button in app.screen.query(Button) if button.display and button not in in_lists]


def is_whole(app: DialogApp, button: Button) -> bool:
    found = app.screen.find_widget(button)
    return (
        bool(found.region)
        and found.clip.contains_region(found.region)
        and app.screen.region.contains_region(found.region)
    )


@pytest.mark.parametrize("size", [(80, 24), (60, 20)], ids=["usual", "small"])
@pytest.mark.parametrize("language", ["en", "zh_CN"])
@pytest.mark.parametrize("name", ALL)
async def test_buttons_are_visible_without_scrolling(
    program: StillProgram, name: str, language: str, size: tuple[int, int]
) -> None:
    use_language(language)
    app = DialogApp(ALL[name](program), language=language)
    async with app.run_test(size=size) as pilot:
        await until(lambda: is_open(app, Dialog))
        await pilot.pause()
        await until(lambda: outside_lists(app) or name in WITHOUT_BUTTONS)
        await until(lambda: all(is_whole(app, button) for button in outside_lists(app)))
        assert app.screen.region.contains_region(app.screen.query_one(CloseMark).region)
