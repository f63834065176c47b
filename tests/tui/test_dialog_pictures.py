"""Pictures of the main dialogs, so that a change of their looks is seen. `--snapshot-update` takes new ones."""

from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Input, OptionList

from qwenchat.chat.message import Message, Role, Status, Timings, Usage, text_parts
from qwenchat.chat.statistics import statistics_of
from qwenchat.i18n import use_language
from qwenchat.models.download.progress import DownloadProgress
from qwenchat.runtime.downloads import BackgroundDownloads, Download, DownloadState
from qwenchat.tui import slash_commands
from qwenchat.tui.actions import actions
from qwenchat.tui.dialogs import open as screens
from qwenchat.tui.dialogs.compare import CompareScreen
from qwenchat.tui.dialogs.downloads import DownloadRow, DownloadsScreen
from qwenchat.tui.dialogs.export import ExportScreen
from qwenchat.tui.dialogs.model import ModelScreen, WelcomeScreen
from qwenchat.tui.dialogs.session import SessionScreen
from qwenchat.tui.dialogs.settings import SettingRow, SettingsScreen
from qwenchat.tui.dialogs.small import ConfirmScreen
from qwenchat.tui.dialogs.statistics import StatisticsScreen
from qwenchat.tui.prompt_library import PromptLibrary
from tests.fakes.ggufs import write_model
from tests.fakes.stores import filled, full_session
from tests.tui.dialogs import NAMES, THEMES, DialogApp, StillProgram, program_in
from tests.tui.screens import is_open, until

Make = Callable[[StillProgram], Screen[Any]]
Ready = Callable[[DialogApp], object]
PICTURES = [
    *(
        (name, "en", theme, size)
        for name in ("welcome", "model", "session", "settings", "export")
        for theme in ("ink", "paper")
        for size in ("narrow", "wide")
    ),
    ("welcome", "zh_CN", "ink", "wide"),
    ("model", "zh_CN", "paper", "wide"),
    ("session", "zh_CN", "ink", "narrow"),
    ("settings", "zh_CN", "paper", "narrow"),
    ("export", "zh_CN", "ink", "wide"),
    ("help", "en", "paper", "wide"),
    ("help", "zh_CN", "ink", "narrow"),
    ("theme", "en", "ink", "narrow"),
    ("theme", "zh_CN", "paper", "wide"),
    ("licence", "en", "paper", "narrow"),
    ("licence", "zh_CN", "ink", "wide"),
    ("downloads", "en", "ink", "wide"),
    ("downloads", "zh_CN", "paper", "narrow"),
    ("compare", "en", "paper", "wide"),
    ("compare", "zh_CN", "ink", "narrow"),
    ("statistics", "en", "ink", "narrow"),
    ("statistics", "zh_CN", "paper", "wide"),
]
"""Dialog, language, theme, size."""
SIZES = {"narrow": (46, 44), "wide": (100, 44)}


class UnderWay(BackgroundDownloads):
    """Two downloads that stand still."""

    def all(self) -> list[Download]:
        return [
            Download(
                "7b:q4_k_m",
                progress=DownloadProgress(
                    (), 2_000_000_000, 4_680_000_000, bytes_per_second=12_300_000, seconds_left=218
                ),
            ),
            Download(
                "them/theirs:q4_0",
                DownloadState.PAUSED,
                DownloadProgress((), 1_200_000, 4_000_000, bytes_per_second=0, seconds_left=None),
            ),
        ]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StillProgram]:
    monkeypatch.setattr(Path, "cwd", lambda: Path("/home/me"))
    program = program_in(tmp_path, {"QWENCHAT_MODEL_THREADS": "3"})
    filled(program.store)
    prompts = PromptLibrary(program.paths.config / "prompts")
    prompts.save("译者", "把话翻译成英文。")
    prompts.save("Pirate", "Speak like a pirate, whatever is asked, and never say why.")
    yield program
    program.close()


def with_models(program: StillProgram) -> StillProgram:
    program.paths.models.mkdir(parents=True)
    write_model(program.paths.models / "qwen2-7b-instruct-q4_0.gguf", seed=1)
    (program.paths.models / "damaged.gguf").write_bytes(b"GGUF nothing")
    return program


def answered(model: str, text: str, status: Status = Status.COMPLETE, speed: float = 0.0) -> Message:
    return Message(
        id=f"{model} {text} {speed}",
        session="s",
        parent=None,
        role=Role.ASSISTANT,
        parts=text_parts(text),
        created=0,
        status=status,
        model=model,
        usage=Usage(20, 0, 12),
        timings=Timings(decode_tps=speed),
    )


DIALOGS: dict[str, tuple[Make, Ready]] = {
    "welcome": (lambda program: WelcomeScreen(program, BackgroundDownloads(program)), lambda app: "★" in app.words),
    "model": (
        lambda program: ModelScreen(with_models(program), "1.5b:q8_0", UnderWay(program)),
        lambda app: "1.5B" in app.words,
    ),
    "session": (
        lambda program: SessionScreen(program, full_session()),
        lambda app: app.screen.query_one(OptionList).option_count,
    ),
    "settings": (SettingsScreen, lambda app: app.screen.query(SettingRow)),
    "export": (lambda program: ExportScreen(program, ["s"]), lambda app: "A title" in app.words),
    "help": (
        lambda _program: screens.help_for(actions(), {}, slash_commands.commands()),
        lambda app: "F1" in app.words,
    ),
    "theme": (
        lambda _program: screens.themes(THEMES.titles),
        lambda app: app.screen.query_one(OptionList).option_count,
    ),
    "licence": (
        lambda program: ModelScreen(program, "", BackgroundDownloads(program)),
        lambda app: "7B" in app.words,
    ),
    "downloads": (
        lambda program: DownloadsScreen(UnderWay(program)),
        lambda app: len(app.screen.query(DownloadRow)) == 2,
    ),
    "compare": (
        lambda _program: CompareScreen(
            "Why is the sky blue?",
            [
                answered("7b", "Because air *scatters* blue light."),
                answered("guide", "因为空气散射蓝光。", Status.STREAMING),
            ],
            (0, 1),
            stop=lambda: None,
            copy=lambda _text: None,
            names=NAMES,
            call_since=monotonic,
        ),
        lambda app: "guide" in app.words,
    ),
    "statistics": (
        lambda _program: StatisticsScreen(
            statistics_of([answered("7b", "Two words, 两个词", speed=speed) for speed in (10.0, 21.5, 32.0, 40.0)]),
            None,
        ),
        lambda app: "▃" in app.words,
    ),
}


@pytest.mark.parametrize("picture", PICTURES, ids="-".join)
def test_picture(snap_compare: Callable[..., bool], program: StillProgram, picture: tuple[str, str, str, str]) -> None:
    name, language, theme, size = picture
    use_language(language)
    make, ready = DIALOGS[name]
    app = DialogApp(make(program), theme, language)

    async def show(pilot: Pilot[None]) -> None:
        for field in app.screen.query(Input):
            field.cursor_blink = False
        await until(lambda: ready(app))
        if name == "licence":
            await pilot.press(*"72b:q2_k", "enter")
            await until(lambda: is_open(app, ConfirmScreen) and "https://" in app.words)
        for field in app.screen.query(Input):
            field.cursor_blink = False
        await pilot.pause()

    assert snap_compare(app, terminal_size=SIZES[size], run_before=show)
