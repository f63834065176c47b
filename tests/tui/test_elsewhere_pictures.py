"""Pictures of what the screen shows of models on other machines. `pytest --snapshot-update` takes new ones."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Input

from qwenchat import config
from qwenchat.chat.message import Attachment, Message, Role, text_parts
from qwenchat.chat.sampling import Dialect
from qwenchat.engine_settings import EngineSettings
from qwenchat.engines.remote.api import ServedModel
from qwenchat.engines.remote.server import RemoteServer
from qwenchat.i18n import use_language
from qwenchat.runtime import chat_service, session_access
from qwenchat.runtime.program import Program
from qwenchat.runtime.remote_engines import EngineListing, no_answer
from qwenchat.tui.app import QwenchatApp, Start
from qwenchat.tui.dialogs.consent import ConsentScreen
from qwenchat.tui.dialogs.engines import EngineScreen
from qwenchat.tui.screens.chat import ChatScreen
from qwenchat.tui.widgets.gauge import ContextUsage
from tests.fakes.scripted import ScriptedEngine
from tests.tui.dialogs import DialogApp, StillProgram, program_in
from tests.tui.screens import until

JANUARY = 1_768_000_000_000
HOST = "10.0.0.5:8080"
FAR = "@lab/Qwen/Qwen2-72B-Instruct"
MODELS = (
    ServedModel(
        id="Qwen/Qwen2-72B-Instruct", n_ctx=32768, n_ctx_max=131072, quantisation="Q4_K_M", size=47_400_000_000
    ),
    ServedModel(id="qwen2.5-coder-32b-instruct", n_ctx=16384),
)
LANGUAGES = ("en", "zh_CN")
SIZES = ((80, 24), (120, 36))
BRANCH = [
    Message(
        id="q",
        session="s",
        parent=None,
        role=Role.USER,
        parts=text_parts("Summarise this."),
        created=1,
        attachments=(Attachment("notes.md", "text/markdown", b"# Notes"),),
    )
]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StillProgram]:
    program = program_in(tmp_path)
    add_engines(program)

    async def listing(server: RemoteServer, within_s: float = 4.0) -> EngineListing:
        if server.name == "box":
            return EngineListing(server=server, error=no_answer(server))
        return EngineListing(server=server, dialect=Dialect.LLAMA_SERVER, models=MODELS, is_known=True)

    monkeypatch.setattr(program.remote_engines, "listing", listing)
    yield program
    program.close()


def add_engines(program: Program) -> None:
    settings = program.paths.settings
    config.put_engine(settings, "lab", EngineSettings(url=f"http://{HOST}/v1", key_env="LAB_KEY"))
    config.put_engine(settings, "box", EngineSettings(url="http://192.168.1.20:11434", kind=Dialect.OLLAMA))


DIALOGS: dict[str, tuple[Callable[[StillProgram], Screen[Any]], str]] = {
    "engine": (lambda program: EngineScreen(program, "lab"), "LAB_KEY"),
    "consent": (
        lambda _program: ConsentScreen(
            HOST, "Qwen/Qwen2-72B-Instruct", BRANCH, system=True, is_encrypted=False, other_model=True
        ),
        HOST,
    ),
}


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", DIALOGS)
def test_dialog(
    snap_compare: Callable[..., bool], program: StillProgram, name: str, language: str, size: tuple[int, int]
) -> None:
    use_language(language)
    make, shown = DIALOGS[name]
    app = DialogApp(make(program), "ink", language)

    async def show(pilot: Pilot[None]) -> None:
        for field in app.screen.query(Input):
            field.cursor_blink = False
        await until(lambda: shown in app.words)
        for field in app.screen.query(Input):
            field.cursor_blink = False
        await pilot.pause()

    assert snap_compare(app, terminal_size=size, run_before=show)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("language", LANGUAGES)
def test_chat(
    snap_compare: Callable[..., bool], monkeypatch: pytest.MonkeyPatch, language: str, size: tuple[int, int]
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    for module in (session_access, chat_service):
        monkeypatch.setattr(module, "unix_ms", lambda: JANUARY)
    use_language(language)
    program = Program.here()
    add_engines(program)
    config.put(program.paths.settings, "reduced_motion", "true")
    program.reread_settings()
    file = f"http://{HOST}/v1#Qwen/Qwen2-72B-Instruct"
    engine = ScriptedEngine(("Because air scatters blue light.",), reference=FAR, file=file)
    app = QwenchatApp(program, Start(model=FAR), lambda _reference, _options: engine)

    async def show(pilot: Pilot[None]) -> None:
        await until(lambda: any(isinstance(screen, ChatScreen) for screen in app.screen_stack))
        await until(lambda: "store" in program.__dict__ and app.chat.is_mounted)
        app.chat.context.chats.sessions.agree(app.chat.session.id, HOST)
        app.chat.prompt.write("Why is the sky blue?")
        await pilot.press("enter")
        await until(lambda: len(app.chat.transcript.messages) == 2 and not app.chat.context.open.view.streaming)
        await until(lambda: not app.chat.context.open.view.queue.running)
        plan = await app.chat.context.chats.model.plan(app.chat.session, app.chat.transcript.messages, "")
        assert plan
        await until(lambda: app.chat.gauge.usage == ContextUsage.of(plan))
        await until(lambda: app.chat.sidebar.list.option_count > 1)
        await pilot.pause()

    try:
        assert snap_compare(app, terminal_size=size, run_before=show)
    finally:
        program.close()
        monkeypatch.undo()
        time.tzset()
