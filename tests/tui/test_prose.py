"""Sentences on the screen end their lines where their script allows it, and are copied as they were."""

import pytest
from textual.app import App, ComposeResult
from textual.content import Content
from textual.geometry import Offset
from textual.selection import SELECT_ALL, Selection
from textual.widgets._toast import Toast

from qwenchat.runtime.program import Program
from qwenchat.tui.app import QwenchatApp, Start
from qwenchat.tui.widgets.prose import Prose
from tests.fakes.scripted import ScriptedEngine
from tests.tui.screens import until

CHINESE = "下载一次模型，之后就不再联网。请选择一个；★最适合本机。"


class ProseApp(App[None]):
    def __init__(self, content: str | Content) -> None:
        super().__init__()
        self._content = content

    def compose(self) -> ComposeResult:
        yield Prose(self._content, markup=False)

    @property
    def prose(self) -> Prose:
        return self.query_one(Prose)

    @property
    def rows(self) -> list[str]:
        return [self.prose.render_line(y).text.rstrip() for y in range(self.prose.size.height)]


@pytest.mark.parametrize("width", range(12, 40))
async def test_no_line_begins_with_punctuation(width: int) -> None:
    app = ProseApp(CHINESE)
    async with app.run_test(size=(width, 20)):
        assert "".join(app.rows) == CHINESE
        assert not any(row.startswith(tuple("，。；")) for row in app.rows)


async def test_styles_newlines_and_changes_are_kept() -> None:
    app = ProseApp(Content.assemble("一二三四五，", ("六七八", "bold"), "。\n\nwords and more words"))
    async with app.run_test(size=(11, 20)) as pilot:
        assert app.rows == ["一二三四", "五，六七", "八。", "", "words and", "more words"]
        drawn = [segment for y in (1, 2) for segment in app.prose.render_line(y)]
        assert "".join(s.text for s in drawn if s.style and s.style.bold) == "六七八"
        app.prose.update("short")
        await pilot.pause()
        assert app.rows == ["short"]
        app.prose.styles.text_wrap, app.prose.styles.text_overflow = "nowrap", "ellipsis"
        app.prose.update(CHINESE)
        await pilot.pause()
        assert len(app.rows) == 1


async def test_what_is_selected_is_copied_without_the_breaks() -> None:
    app = ProseApp(CHINESE)
    async with app.run_test(size=(13, 20)):
        assert app.rows[1] == "型，之后就不"
        assert app.prose.get_selection(SELECT_ALL) == (CHINESE, "\n")
        part = app.prose.get_selection(Selection(Offset(1, 0), Offset(1, 1)))
        assert part == ("载一次模型", "\n")


@pytest.mark.parametrize("width", [64, 67, 120])
async def test_no_line_of_a_notification_begins_with_punctuation(width: int) -> None:
    app = QwenchatApp(Program.here(), Start(), lambda _reference, _options: ScriptedEngine(("Hello.",)))
    async with app.run_test(size=(width, 40), notifications=True):
        app.notify(CHINESE * 3, title=CHINESE, markup=False)
        await until(lambda: any(CHINESE[:4] in str(toast.render()) for toast in app.screen.query(Toast)))
        toast = app.screen.query(Toast).last()
        await until(lambda: toast.size.height > 2)
        rows = [toast.render_line(y).text.strip(" ▌▐█") for y in range(toast.size.height)]
        assert "".join(rows) == CHINESE * 4
        assert not any(row.startswith(tuple("，。；")) for row in rows)
    app.program.close()
