"""Pictures of the page beside the answer and of the documents of a chat. `pytest --snapshot-update` takes new ones."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from textual.pilot import Pilot

from qwenchat.i18n import use_language
from qwenchat.runtime.program import Program
from qwenchat.tui.app import QwenchatApp, Start
from qwenchat.tui.dialogs.documents import DocumentsScreen
from tests.fakes.scripted import ScriptedEngine
from tests.tui.screens import until
from tests.tui.test_document_page import store_chat

PICTURES = [
    ("page", "en", "ink", (140, 36)),
    ("page", "zh_CN", "paper", (50, 20)),
    ("docs", "en", "paper", (50, 24)),
    ("docs", "zh_CN", "ink", (100, 30)),
]
"""State, language, theme, size."""


@pytest.fixture
def program(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    program = Program.here()
    yield program
    program.close()
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: "-".join(picture[:3]))
def test_picture(
    snap_compare: Callable[..., bool], program: Program, picture: tuple[str, str, str, tuple[int, int]]
) -> None:
    state, language, theme, size = picture
    use_language(language)
    store_chat(program)
    app = QwenchatApp(program, Start(session="s1"), lambda _reference, _options: ScriptedEngine())

    async def show(pilot: Pilot[None]) -> None:
        await until(lambda: theme in app.available_themes)
        chat = app.chat
        app.theme = theme
        chat.prompt.area.cursor_blink = False
        await until(lambda: chat.session.id == "s1" and len(chat.transcript.column) == 2)
        await chat.context.chats.model.load(chat.session)
        await until(lambda: chat.gauge.usage and chat.sidebar.list.option_count)
        if state == "page":
            chat.transcript.column.layouts[1].toggle_all()
            await chat.run_action("screen.show_source")
            await until(lambda: chat.has_class("page"))
        else:
            await chat.run_action("screen.docs")
            await until(lambda: isinstance(app.screen, DocumentsScreen) and app.screen._is_read)
        await pilot.pause(0.5)

    assert snap_compare(app, terminal_size=size, run_before=show)
