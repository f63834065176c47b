"""Engines elsewhere in dialogs: their models in the list, which never waits for a server, and their settings."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Button, Input, OptionList, Select

from qwenchat import config
from qwenchat.chat.sampling import Dialect
from qwenchat.engine_settings import EngineSettings
from qwenchat.engines.remote.api import ServedModel
from qwenchat.engines.remote.server import RemoteServer
from qwenchat.errors import RemoteUnreachable
from qwenchat.runtime.downloads import BackgroundDownloads
from qwenchat.runtime.remote_engines import EngineListing
from qwenchat.tui.dialogs.dialog import Complaint
from qwenchat.tui.dialogs.engines import EngineScreen, EnginesScreen
from qwenchat.tui.dialogs.model import ModelScreen
from tests.fakes.scripted import ScriptedEngine
from tests.tui.dialogs import DialogApp, StillProgram, program_in
from tests.tui.screens import is_open, until

BIG = ServedModel(
    id="Qwen/Qwen2-72B-Instruct", n_ctx=32768, n_ctx_max=131072, quantisation="Q4_K_M", size=47_400_000_000
)
HOSTILE = ServedModel(id="\x1b[31mred[/b]\n", notices=("\x1b]0;title\x07notice",))


class Servers:
    """What servers answer, and when: nothing before `may_answer` is set."""

    def __init__(self, program: StillProgram, monkeypatch: pytest.MonkeyPatch, models: dict[str, Any]) -> None:
        self.models, self.may_answer, self.asked = models, asyncio.Event(), list[str]()
        monkeypatch.setattr(program.remote_engines, "listing", self.listing)

    async def listing(self, server: RemoteServer, within_s: float = 4.0) -> EngineListing:
        self.asked.append(server.name)
        await self.may_answer.wait()
        models = self.models[server.name]
        if models is None:
            return EngineListing(server=server, error=RemoteUnreachable("Nobody is there.", "Start the server."))
        return EngineListing(server=server, dialect=Dialect.VLLM, is_known=True, models=tuple(models))


@pytest.fixture
def program(tmp_path: Path) -> Iterator[StillProgram]:
    program = program_in(tmp_path)
    settings = program.paths.settings
    config.put_engine(settings, "lab", EngineSettings(url="http://10.0.0.5:8080/v1", key_env="LAB_KEY"))
    config.put_engine(settings, "box", EngineSettings(url="http://192.168.1.20:11434", kind=Dialect.OLLAMA))
    yield program
    program.close()


def models_of(program: StillProgram, current: str = "") -> DialogApp:
    return DialogApp(ModelScreen(program, current, BackgroundDownloads(program)))


async def test_models_elsewhere_stand_beside_those_here_and_nobody_waits_for_a_server(
    program: StillProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = Servers(program, monkeypatch, {"lab": [BIG, HOSTILE], "box": None})
    app = models_of(program)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(lambda: "7b:q4_k_m" in app.words and "lab (10.0.0.5:8080): asking…" in app.words)
        at = app.screen.query_one(OptionList).highlighted
        servers.may_answer.set()
        await until(lambda: "box (192.168.1.20:11434): no answer" in app.words)
        line = next(line for line in app.words.splitlines() if "72B" in line)
        assert all(words in line for words in ("32,768", "Q4_K_M", "47.4 GB"))
        assert "lab (10.0.0.5:8080) " in app.words
        assert "red[/b]" in app.words
        assert at is not None
        chosen = app.screen.query_one(Button).label
        assert "7b" in str(chosen)  # what servers answer moves no highlight
        await pilot.press(*"72b-inst")
        await until(lambda: "Runs on 10.0.0.5:8080: what you write goes there." in app.words)
        assert "131,072" in app.words
        await pilot.press("enter")
        await until(lambda: app.closed)
    assert app.result == "@lab/Qwen/Qwen2-72B-Instruct"


async def test_a_server_that_did_not_answer_is_asked_again(
    program: StillProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = Servers(program, monkeypatch, {"lab": [], "box": None})
    servers.may_answer.set()
    app = models_of(program)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(lambda: "no answer" in app.words and "no model" in app.words)
        await pilot.press(*"box")
        await until(lambda: "Try again" in app.words and "Nobody is there. Start the server." in app.words)
        servers.models["box"] = [BIG]
        await pilot.press("enter")
        await until(lambda: "box (192.168.1.20:11434)" in app.words and "72B" in app.words)
        assert servers.asked.count("box") == 2
        assert not app.closed


async def test_a_model_that_no_server_lists_can_be_named(
    program: StillProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    Servers(program, monkeypatch, {"lab": [BIG], "box": []}).may_answer.set()
    app = models_of(program)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(lambda: "72B" in app.words)
        await pilot.press(*"@lab/mine:7b")
        await until(lambda: "Use mine:7b" in app.words)
        await pilot.press("enter")
        await until(lambda: app.closed)
    assert app.result == "@lab/mine:7b"


async def fill(pilot: Pilot[None], **fields: str) -> None:
    for name, value in fields.items():
        field = pilot.app.screen.query_one(f"#{name}")
        assert isinstance(field, Select | Input)
        field.value = value
    await pilot.pause()


async def test_an_engine_is_added_with_the_place_of_its_key(program: StillProgram) -> None:
    app = DialogApp(EngineScreen(program))
    async with app.run_test(size=(100, 36)) as pilot:
        await until(lambda: "Add an engine" in app.words)
        await fill(pilot, name="far", url="https://example.com/v1/", kind="vllm", place="key_env", key="FAR_KEY")
        await fill(pilot, context="16384")
        app.screen.query_one("#save", Button).press()
        await until(lambda: app.closed)
    assert app.result is True
    url = "https://example.com/v1"
    wanted = EngineSettings(url=url, kind=Dialect.VLLM, key_env="FAR_KEY", context=16384)
    assert program.settings.engines["far"] == wanted
    assert "far" in [server.name for server in program.remote_engines.servers]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "Bad Name", "url": "http://h"}, "can't be the name of an engine"),
        ({"name": "lab", "url": "http://h"}, "There is an engine named lab already."),
        ({"name": "new", "url": "nonsense"}, "not the URL of a server"),
        ({"name": "new", "url": "http://u:secret@h"}, "user name or a password"),
        ({"name": "new", "url": "http://h", "place": "key_env", "key": "sk-123"}, "never the key itself"),
        ({"name": "new", "url": "http://h", "place": "key_file"}, "The place of the key is missing."),
        ({"name": "new", "url": "http://h", "context": "many"}, "many"),
    ],
)
async def test_what_is_wrong_is_said_and_nothing_is_saved(
    program: StillProgram, fields: dict[str, str], words: str
) -> None:
    before = program.paths.settings.read_text("utf-8")
    app = DialogApp(EngineScreen(program))
    async with app.run_test(size=(100, 36)) as pilot:
        await until(lambda: "Add an engine" in app.words)
        await fill(pilot, **fields)
        app.screen.query_one("#save", Button).press()
        await until(lambda: words in app.screen.query_one("#about-engine", Complaint).text)
        await pilot.press("escape")
        await until(lambda: app.closed)
    assert app.result is False
    assert program.paths.settings.read_text("utf-8") == before


async def test_a_key_that_would_cross_the_internet_unencrypted_is_asked_about(program: StillProgram) -> None:
    app = DialogApp(EngineScreen(program))
    async with app.run_test(size=(100, 36)) as pilot:
        await until(lambda: "Add an engine" in app.words)
        await fill(pilot, name="far", url="http://example.com/v1", place="key_env", key="FAR_KEY")
        app.screen.query_one("#save", Button).press()
        await until(lambda: "unencrypted" in app.words)
        await pilot.press("escape")
        await until(lambda: is_open(app, EngineScreen))
        assert "far" not in program.settings.engines
        app.screen.query_one("#save", Button).press()
        await until(lambda: "unencrypted" in app.words)
        app.screen.query_one("#yes", Button).press()
        await until(lambda: app.closed)
    assert "far" in program.settings.engines


async def test_a_test_says_what_it_found_out_before_anything_is_saved(
    program: StillProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = Servers(program, monkeypatch, {"new": [BIG], "lab": None})
    servers.may_answer.set()
    monkeypatch.setattr(StillProgram, "remote_engine", lambda _self, _server, _model: ScriptedEngine(n_ctx=32768))
    app = DialogApp(EngineScreen(program))
    async with app.run_test(size=(100, 40)) as pilot:
        await until(lambda: "Add an engine" in app.words)
        await fill(pilot, name="new", url="http://10.0.0.9:8000")
        app.screen.query_one("#test", Button).press()
        await until(lambda: "10.0.0.9:8000 answers as vLLM, with 1 model." in app.words)
        await until(lambda: "has a context window of 32,768 tokens." in app.words)
        assert "new" not in program.settings.engines
        assert not app.closed


async def test_a_test_that_fails_says_why(program: StillProgram, monkeypatch: pytest.MonkeyPatch) -> None:
    Servers(program, monkeypatch, {"lab": None}).may_answer.set()
    app = DialogApp(EngineScreen(program, "lab", test=True))
    async with app.run_test(size=(100, 40)):
        await until(lambda: "Nobody is there. Start the server." in app.words)


async def test_an_engine_is_changed_and_removed(program: StillProgram) -> None:
    app = DialogApp(EnginesScreen(program))
    async with app.run_test(size=(100, 36)) as pilot:
        await until(lambda: "10.0.0.5:8080" in app.words and "with a key" in app.words and "Ollama" in app.words)
        await pilot.press("enter")
        await until(lambda: "Engine lab" in app.words)
        assert app.screen.query_one("#key", Input).value == "LAB_KEY"
        await fill(pilot, url="http://10.0.0.6:8080", place="")
        app.screen.query_one("#save", Button).press()
        await until(lambda: "10.0.0.6:8080" in app.words and is_open(app, EnginesScreen))
        assert program.settings.engines["lab"] == EngineSettings(url="http://10.0.0.6:8080")
        await pilot.press("down", "enter")
        await until(lambda: "Engine box" in app.words)
        app.screen.query_one("#remove", Button).press()
        await until(lambda: "Remove the engine box?" in app.words)
        app.screen.query_one("#yes", Button).press()
        await until(lambda: is_open(app, EnginesScreen) and "box" not in app.words)
        await pilot.press("escape")
        await until(lambda: app.closed)
    assert app.result is True
    assert list(program.settings.engines) == ["lab"]


async def test_engines_are_reached_from_the_list_of_models(
    program: StillProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    Servers(program, monkeypatch, {"lab": [BIG], "box": []}).may_answer.set()
    changed: list[str] = []
    app = DialogApp(ModelScreen(program, "", BackgroundDownloads(program), lambda: changed.append("now")))
    async with app.run_test(size=(120, 40)) as pilot:
        await until(lambda: "72B" in app.words)
        app.screen.query_one("#engines", Button).press()
        await until(lambda: is_open(app, EnginesScreen))
        await pilot.press("down", "enter")
        await until(lambda: "Engine box" in app.words)
        app.screen.query_one("#remove", Button).press()
        await until(lambda: "Remove the engine box?" in app.words)
        app.screen.query_one("#yes", Button).press()
        await until(lambda: is_open(app, EnginesScreen))
        await pilot.press("escape")
        await until(lambda: is_open(app, ModelScreen) and "box (" not in app.words)
    assert changed == ["now"]
