"""Pictures of the main dialogs, so that a change of their looks is seen. `--snapshot-update` takes new ones."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Input, OptionList

from qwenchat.models.progress import Progress
from qwenchat.tui.downloads import Download, Downloads, State
from qwenchat.tui.prompts import Prompts
from qwenchat.tui.screens.export import ExportScreen
from qwenchat.tui.screens.model import ModelScreen
from qwenchat.tui.screens.session import SessionScreen
from qwenchat.tui.screens.settings import SettingRow, SettingsScreen
from qwenchat.tui.screens.welcome import WelcomeScreen
from tests.ggufs import write_model
from tests.stores import filled, full_session
from tests.tui.dialogs import DialogApp, StillProgram, program_in
from tests.tui.screens import until

Ready = Callable[[DialogApp], object]


class UnderWay(Downloads):
    """Two downloads that stand still."""

    def all(self) -> list[Download]:
        return [
            Download("7b:q4_k_m", progress=Progress((), 2_000_000_000, 4_680_000_000, 12_300_000, 218)),
            Download("them/theirs:q4_0", State.PAUSED, Progress((), 1_200_000, 4_000_000, 0, None)),
        ]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StillProgram]:
    monkeypatch.setattr(Path, "cwd", lambda: Path("/home/me"))
    program = program_in(tmp_path, {"QWENCHAT_MODEL_THREADS": "3"})
    filled(program.store)
    prompts = Prompts(program.paths.config / "prompts")
    prompts.save("译者", "把话翻译成英文。")
    prompts.save("Pirate", "Speak like a pirate, whatever is asked, and never say why.")
    yield program
    program.close()


def dialogs(program: StillProgram, name: str) -> tuple[Screen[Any], Ready]:
    if name == "model":
        program.paths.models.mkdir(parents=True)
        write_model(program.paths.models / "qwen2-7b-instruct-q4_0.gguf", seed=1)
        (program.paths.models / "damaged.gguf").write_bytes(b"GGUF nothing")
        return ModelScreen(program, "1.5b:q8_0", UnderWay(program)), lambda app: "1.5B" in app.words
    if name == "session":
        return SessionScreen(program, full_session()), lambda app: app.screen.query_one(OptionList).option_count
    if name == "settings":
        return SettingsScreen(program), lambda app: app.screen.query(SettingRow)
    if name == "export":
        return ExportScreen(program, ["s"]), lambda app: "A title" in app.words
    return WelcomeScreen(program, Downloads(program)), lambda app: "★" in app.words


@pytest.mark.parametrize("width", [46, 100], ids=["narrow", "wide"])
@pytest.mark.parametrize("theme", ["ink", "paper"])
@pytest.mark.parametrize("name", ["welcome", "model", "session", "settings", "export"])
def test_picture(
    snap_compare: Callable[..., bool],
    program: StillProgram,
    name: str,
    theme: str,
    width: int,
) -> None:
    dialog, ready = dialogs(program, name)
    app = DialogApp(dialog, theme)

    async def show(pilot: Pilot[None]) -> None:
        for field in app.screen.query(Input):
            field.cursor_blink = False
        await until(lambda: ready(app))
        for field in app.screen.query(Input):
            field.cursor_blink = False
        await pilot.pause()

    assert snap_compare(app, terminal_size=(width, 44), run_before=show)
