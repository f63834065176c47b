"""Pictures of the whole chat screen, so that a change of its looks is seen. `pytest --snapshot-update` takes new ones.

Not every combination: each state in both languages, both kinds of theme and both widths, among all pictures.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace
from textual.pilot import Pilot
from textual.widgets import OptionList

from qwenchat import config
from qwenchat.chat.events import Called, Delta, EngineEvent, Finished, Prefilling
from qwenchat.chat.message import (
    FinishReason,
    Message,
    Role,
    Status,
    Text,
    Timings,
    ToolCall,
    ToolResult,
    Usage,
    text_parts,
)
from qwenchat.chat.ports import Request
from qwenchat.chat.session import Session
from qwenchat.errors import EngineDied, Recovery, RecoveryKind
from qwenchat.i18n import use_language
from qwenchat.runtime import chat_service, session_access
from qwenchat.runtime.program import Program
from qwenchat.tui.app import QwenchatApp, Start
from tests.fakes.scripted import ScriptedEngine
from tests.tui.screens import until

JANUARY = 1_768_000_000_000
MONTH = 30 * 86_400_000
SAMPLE = {
    "en": (Path(__file__).parent / "sample.md").read_text("utf-8"),
    "zh_CN": (Path(__file__).parent / "sample_zh.md").read_text("utf-8"),
}
ASKED = {"en": "Please explain attention.", "zh_CN": "请用中文讲讲注意力机制。"}
TITLES = {
    "en": ("Attention, explained", "A trip to Yunnan", "Rust lifetimes [b]and[/b] borrows", "量子计算入门"),
    "zh_CN": ("注意力机制", "云南旅行计划", "Rust lifetimes", "一封很长很长的求职信，写给一家很远很远的公司"),
}
PICTURES = [
    ("empty", "en", "paper", "narrow"),
    ("empty", "zh_CN", "ink", "wide"),
    ("talk", "en", "ink", "wide"),
    ("talk", "zh_CN", "paper", "wide"),
    ("talk", "zh_CN", "ink", "narrow"),
    ("reading", "zh_CN", "paper", "narrow"),
    ("streaming", "en", "paper", "wide"),
    ("streaming", "zh_CN", "ink", "narrow"),
    ("notice", "en", "ink", "narrow"),
    ("notice", "zh_CN", "paper", "wide"),
    ("sidebar", "en", "paper", "narrow"),
    ("asked", "en", "ink", "usual"),
    ("asked", "en", "paper", "large"),
    ("asked", "zh_CN", "paper", "usual"),
    ("asked", "zh_CN", "ink", "large"),
    ("tools", "en", "ink", "usual"),
    ("tools", "en", "paper", "large"),
    ("tools", "zh_CN", "paper", "usual"),
    ("tools", "zh_CN", "ink", "large"),
]
"""State, language, theme, size."""
SIZES = {"narrow": (50, 20), "wide": (140, 40), "usual": (80, 24), "large": (120, 36)}
SUM = ToolCall("c1", "calculator", '{"expression": "37*41"}')
CLOCK = ToolCall("c2", "date_time", '{"place": "Tokyo"}')
LOOK = ToolCall("c3", "read_file", '{"path": "notes/备忘.md", "offset": 0}')


@dataclass
class Still(ScriptedEngine):
    """Stands still in the middle of an answer, or while it reads, or dies."""

    state: str = ""

    async def events(self, request: Request, text: str, cancelled: asyncio.Event) -> AsyncGenerator[EngineEvent, None]:
        yield Prefilling(1200, 3400, 412.0, 5.3)
        if self.state == "asked":
            yield Called(LOOK)
            yield Finished(FinishReason.TOOL_CALLS, Usage(), Timings())
            return
        if self.state == "reading":
            await asyncio.Event().wait()
        half = text[:400]
        yield Delta(half, tuple(map(ord, half)))
        if self.state == "notice":
            raise EngineDied(
                "The engine process ended (signal 9).",
                "Not enough memory is the usual reason.",
                recoveries=(Recovery(RecoveryKind.START_AGAIN), Recovery(RecoveryKind.SMALLER_CONTEXT, 2048)),
            )
        await asyncio.Event().wait()


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    for module in (session_access, chat_service):
        monkeypatch.setattr(module, "unix_ms", lambda: JANUARY + 60_000)
    program = Program.here()
    yield program
    program.close()
    monkeypatch.undo()
    time.tzset()


def fill(program: Program, language: str, *, calls: bool) -> None:
    """Keep four sessions; the newest has a conversation, with calls of tools or without."""
    for number, title in enumerate(TITLES[language]):
        when = JANUARY - number * MONTH
        tags = ("work", "读书") if number == 1 else ()
        session = Session(
            id=f"s{number}", created=when, updated=when, title=title, model="7b:q4_k_m", pinned=number == 2, tags=tags
        )
        program.store.create(session)
        if number == 0:
            program.store.add(*talk(language, calls=calls))


def talk(language: str, *, calls: bool) -> list[Message]:
    asked = Message(
        id="q", session="s0", parent=None, role=Role.USER, parts=text_parts(ASKED[language]), created=JANUARY
    )
    told = Message(
        id="a",
        session="s0",
        parent="q",
        role=Role.ASSISTANT,
        parts=text_parts(SAMPLE[language]),
        created=JANUARY + 9000,
        model="7b:q4_k_m",
    )
    told = replace(told, usage=Usage(100, 20, 312), timings=Timings(decode_tps=42.31, ttft_s=0.42))
    if calls:
        results = (
            ToolResult("c1", "calculator", "1517", took_ms=240),
            ToolResult("c2", "date_time", "No", is_error=True),
        )
        told = replace(told, parts=(SUM, CLOCK, *results, Text("37 × 41 = **1517**"), SUM, results[0]))
    other = replace(told, id="b", parts=text_parts("…"), created=JANUARY + 1, status=Status.STOPPED)
    return [asked, other, told]


@pytest.mark.parametrize("picture", PICTURES, ids="-".join)
def test_picture(snap_compare: Callable[..., bool], program: Program, picture: tuple[str, str, str, str]) -> None:
    state, language, theme, size = picture
    use_language(language)
    if state in ("asked", "tools"):
        for key, value in (("enabled", "true"), ("fetch", "true"), ("folders", "/home/anna/notes")):
            config.put(program.paths.settings, f"tools.{key}", value)
        program.reread_settings()
    fill(program, language, calls=state == "asked")
    engine = Still((SAMPLE[language],), state=state)
    start = Start(model="7b:q4_k_m") if state == "empty" else Start(session="s0")
    app = QwenchatApp(program, start, lambda _reference, _options: engine)

    async def show(pilot: Pilot[None]) -> None:
        await until(lambda: theme in app.available_themes)
        chat = app.chat
        app.theme = theme
        chat.prompt.area.cursor_blink = False
        await until(lambda: chat.sidebar.list.option_count > 4)
        if state != "empty":
            await until(lambda: chat.session.id == "s0" and len(chat.transcript.column) == 2)
            await chat.context.chats.model.load(chat.session)
            await until(lambda: chat.gauge.usage)
        if state == "asked":
            chat.prompt.write(ASKED[language])
            await pilot.press("enter")
            await until(lambda: chat.context.open.view.asked and chat.transcript.messages[-1].parts)
        if state == "tools":
            await chat.run_action("screen.tools")
            await until(
                lambda: app.screen is not chat and any(each.option_count for each in app.screen.query(OptionList))
            )
        if state in ("reading", "streaming", "notice"):
            chat.prompt.write(ASKED[language])
            await pilot.press("enter")
            await until(
                lambda: chat.gauge.fraction if state == "reading" else len(chat.transcript.messages[-1].text) > 99
            )
        if state == "notice":
            view = chat.transcript
            await until(lambda: chat.notice.size.height)
            await until(lambda: view.column.look.width == view.viewport.columns and not view.viewport.lines_below)
        if state == "talk":
            before = chat.gauge.usage
            chat.prompt.write("Two lines,\n还有一行")
            chat.transcript.select("q")
            await until(lambda: chat.gauge.usage != before)
        if state == "sidebar":
            await chat.run_action("screen.sidebar")
        await pilot.pause(0.5)

    assert snap_compare(app, terminal_size=SIZES[size], run_before=show)
