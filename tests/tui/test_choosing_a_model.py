"""The welcome and the model picker, as a person uses them; downloads come from a hub on loopback."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from textual.widgets import Input, OptionList

from qwenchat.i18n import use_language
from qwenchat.models import library as library_module
from qwenchat.runtime.downloads import BackgroundDownloads, DownloadState
from qwenchat.tui.dialogs.dialog import Complaint
from qwenchat.tui.dialogs.downloads import DownloadRow, DownloadsScreen
from qwenchat.tui.dialogs.model import ModelScreen, WelcomeScreen
from qwenchat.tui.dialogs.model_list import ModelList
from qwenchat.tui.dialogs.small import ConfirmScreen, TextScreen
from qwenchat.tui.model_choices import model_choices
from tests.fakes.ggufs import write_model
from tests.fakes.pulling import NAME, REPO
from tests.fakes.standin_hub import StandIn, Trouble
from tests.tui.dialogs import DialogApp, StillProgram, program_in
from tests.tui.screens import click, is_open, until

LARGE = "Qwen/Qwen2-72B-Instruct-GGUF"


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[StandIn]:
    with StandIn() as hub:
        hub.put(REPO, NAME, write_model(tmp_path / "source.gguf").read_bytes())
        yield hub


@pytest.fixture
def program(tmp_path: Path, standin: StandIn) -> StillProgram:
    return program_in(tmp_path / "home", {"HF_ENDPOINT": standin.endpoint, "HF_HOME": str(tmp_path / "hf")})


@pytest.fixture
def downloads(program: StillProgram) -> Iterator[BackgroundDownloads]:
    downloads = BackgroundDownloads(program)
    yield downloads
    downloads.close()


def ours(program: StillProgram, name: str, seed: int = 1) -> Path:
    program.paths.models.mkdir(parents=True, exist_ok=True)
    return write_model(program.paths.models / name, name=Path(name).stem, seed=seed)


def reference_of(app: DialogApp) -> str:
    choice = app.screen.query_one(ModelList).highlighted
    return choice.reference if choice else ""


def said(app: DialogApp) -> str:
    return app.screen.query_one(Complaint).text


def complains(app: DialogApp, words: str) -> bool:
    return isinstance(app.screen, ModelScreen) and words in said(app)


async def test_a_welcome_recommends_and_asks_nothing_of_the_network(
    program: StillProgram, downloads: BackgroundDownloads, standin: StandIn
) -> None:
    app = DialogApp(WelcomeScreen(program, downloads))
    async with app.run_test(size=(100, 40)) as pilot:
        await until(lambda: reference_of(app) == "7b:q4_k_m")
        await until(lambda: "★ 7b:q4_k_m" in app.words)
        assert "comfortable" in app.words and "too large" in app.words and "10.7 GB of memory" in app.words
        assert "tokens/s" in app.words and "Download 7b:q4_k_m (4.68 GB)" in app.words
        assert "★ It is the largest that runs well on this computer." in app.words
        await pilot.press("escape")
        await until(lambda: app.closed)
        assert app.result is None and not standin.log


async def test_what_is_here_comes_first_and_is_used(program: StillProgram, downloads: BackgroundDownloads) -> None:
    path = ours(program, "mine [b].gguf")
    (program.paths.models / "broken.gguf").write_bytes(b"GGUF nothing")
    app = DialogApp(ModelScreen(program, str(path), downloads))
    async with app.run_test(size=(100, 40)) as pilot:
        await until(lambda: reference_of(app) == str(path))
        await until(lambda: "On this computer" in app.words)
        words = app.words
        assert words.index("On this computer") < words.index("mine [b] · f32") < words.index("To download")
        assert "can't be used" in words
        await pilot.press(*"broken", "enter")
        await until(lambda: "not supported" in said(app))
        assert not app.closed
        await pilot.press("ctrl+u")
        await until(lambda: "mine" in reference_of(app))
        await pilot.press("enter")
        await until(lambda: app.result == str(path))


async def test_the_filter(program: StillProgram, downloads: BackgroundDownloads) -> None:
    app = DialogApp(ModelScreen(program, "", downloads))
    async with app.run_test(size=(100, 40)) as pilot:
        await until(lambda: reference_of(app))
        await pilot.press(*"1.5b q4")
        await until(lambda: reference_of(app).startswith("1.5b:q4"))
        first = reference_of(app)
        assert "72b" not in app.words
        await pilot.press("down")
        await until(lambda: reference_of(app) not in ("", first))
        await pilot.press("ctrl+u", *"nothing-like-it")
        await until(lambda: "No model by that name." in app.words)


async def test_a_download_from_the_first_screen_to_its_use(
    program: StillProgram, downloads: BackgroundDownloads, standin: StandIn
) -> None:
    content = standin.repos[REPO][NAME]
    assert isinstance(content, bytes)
    size = len(content)
    standin.troubles.append(Trouble(cut=size // 2, stall=True))
    app = DialogApp(WelcomeScreen(program, downloads))
    async with app.run_test(size=(100, 40)) as pilot:
        await until(lambda: reference_of(app))
        await pilot.press(*"7b:q4_k_m", "enter")
        await until(lambda: (d := downloads.get("7b:q4_k_m")) and d.fraction == 0.5)
        await until(lambda: "50%" in app.words and "Downloading…" in app.words)
        await click(app, "#turn")
        await until(lambda: "paused" in app.words and "Resume" in app.words)
        await click(app, "#turn")
        await until(lambda: "On this computer" in app.words)
        await until(lambda: "Use 7b:q4_k_m" in app.words)
        await pilot.press("enter")
        await until(lambda: app.result == "7b:q4_k_m")
    assert standin.bytes_sent() == size


async def test_a_click_looks_and_a_double_click_takes(program: StillProgram, downloads: BackgroundDownloads) -> None:
    app = DialogApp(WelcomeScreen(program, downloads))
    async with app.run_test(size=(100, 40)) as pilot:
        await until(lambda: reference_of(app) == "7b:q4_k_m")
        await click(app, OptionList, offset=(4, 0))
        await click(app, OptionList, offset=(4, 4))
        await until(lambda: reference_of(app) == "1.5b:q4_k_m")
        assert not downloads.all()
        await pilot.double_click(OptionList, offset=(4, 5))
        await until(lambda: [download.reference for download in downloads.all()] == ["0.5b:q8_0"])


async def test_relatives_have_one_line_each_until_a_name_is_typed(
    program: StillProgram, downloads: BackgroundDownloads
) -> None:
    app = DialogApp(ModelScreen(program, "", downloads))
    async with app.run_test(size=(120, 90)) as pilot:
        families = ["qwen2.5", "qwen2.5-1m", "coder", "math", "qwen2-math", "qwq", "r1", "coder-base"]
        wanted = [rf"{re.escape(family)}-[\d.]+b" for family in families]
        wanted += [re.escape(size) for size in ("0.5b", "1.5b", "7b", "57b-a14b", "72b")]
        await until(
            lambda: all(len(re.findall(rf"(?:^|│)\W*{name}:q", app.words, re.MULTILINE)) == 1 for name in wanted)
        )
        words = app.words
        assert words.index("72b:q") < words.index("Relatives of Qwen2") < words.index("qwen2.5-")
        await pilot.press(*"r1")
        await until(lambda: reference_of(app).startswith("r1-"))
        await until(lambda: "qwen2.5-" not in app.words)
        assert {f"r1-{size}:q8_0" for size in ("1.5b", "7b", "14b", "32b")} <= set(app.words.split())
        shown = re.sub(r"[\s│]+", " ", app.words)
        assert "Sizes: 1.5b, 7b, 14b, 32b. Type r1 to see all of them." in shown
        assert "It thinks before it answers, which takes time and tokens. It can't call tools." in shown
        assert "this one is from bartowski" in shown


async def test_a_relative_s_licence_is_accepted_before_its_download(
    program: StillProgram, downloads: BackgroundDownloads
) -> None:
    app = DialogApp(ModelScreen(program, "", downloads))
    async with app.run_test(size=(100, 40)) as pilot:
        await until(lambda: reference_of(app))
        await pilot.press(*"coder-3b:q4_k_m", "enter")
        await until(lambda: is_open(app, ConfirmScreen))
        await until(lambda: "Qwen Research licence" in app.words)
        assert not downloads.all()


@pytest.mark.parametrize(
    ("language", "about", "advice"),
    [("en", "For programming:", "For laptops with 16 GB"), ("zh_CN", "用于编程：", "适合 16 GB 内存的笔记本")],
)
def test_families_are_described_in_the_user_s_language(
    program: StillProgram, language: str, about: str, advice: str
) -> None:
    use_language(language)
    found = model_choices(program)
    (stands,) = [
        choice
        for choice in found.catalogue
        if choice.about_family and choice.reference.startswith("coder-") and "base" not in choice.reference
    ]
    assert any(about in line for line in stands.details())
    (seven,) = [choice for choice in found.catalogue if choice.reference == "coder-7b:q5_k_m"]
    assert any(advice in line for line in seven.details()) and not seven.about_family


async def test_giving_a_download_up_is_asked_first(
    program: StillProgram, downloads: BackgroundDownloads, standin: StandIn
) -> None:
    standin.troubles.append(Trouble(cut=1000, stall=True))
    downloads.start("7b:q4_k_m")
    app = DialogApp(DownloadsScreen(downloads))
    async with app.run_test():
        await until(lambda: app.screen.query(DownloadRow))
        await click(app, "#cancel")
        await until(lambda: is_open(app, ConfirmScreen))
        await click(app, "#yes")
        await until(lambda: not downloads.all())
        await until(lambda: not app.screen.query(DownloadRow))


async def test_a_licence_is_accepted_before_a_download(
    program: StillProgram, downloads: BackgroundDownloads, standin: StandIn
) -> None:
    app = DialogApp(ModelScreen(program, "", downloads))
    async with app.run_test(size=(100, 40)) as pilot:
        await until(lambda: reference_of(app))
        await pilot.press(*"72b:q2_k", "enter")
        await until(lambda: is_open(app, ConfirmScreen))
        await until(lambda: "Tongyi Qianwen licence" in app.words and "https://" in app.words)
        await pilot.press("escape")
        await until(lambda: is_open(app, ModelScreen))
        assert not downloads.all() and not standin.log
        await pilot.press("enter")
        await until(lambda: is_open(app, ConfirmScreen))
        await click(app, "#yes")
        await until(lambda: (d := downloads.get("72b:q2_k")) and d.state is DownloadState.FAILED)
        await until(lambda: said(app))


async def test_what_does_not_fit_is_asked_about(program: StillProgram, downloads: BackgroundDownloads) -> None:
    app = DialogApp(ModelScreen(program, "", downloads))
    async with app.run_test(size=(100, 40)) as pilot:
        await until(lambda: reference_of(app))
        await pilot.press(*"57b-a14b:q8", "enter")
        await until(lambda: is_open(app, ConfirmScreen))
        await until(lambda: "does not fit this computer" in app.words)
        await pilot.press("enter")
        await until(lambda: is_open(app, ModelScreen))
        assert not downloads.all()


async def test_any_repository_by_its_name(program: StillProgram, downloads: BackgroundDownloads) -> None:
    app = DialogApp(ModelScreen(program, "", downloads))
    async with app.run_test(size=(100, 40)) as pilot:
        await until(lambda: reference_of(app))
        await pilot.press(*"no/where:q4_0")
        await until(lambda: "Download no/where:q4_0" in app.words)
        await pilot.press("enter")
        await until(lambda: (d := downloads.get("no/where:q4_0")) and d.state is DownloadState.FAILED)
        await until(lambda: "no/where" in said(app))


async def test_a_file_on_the_disk(program: StillProgram, downloads: BackgroundDownloads, tmp_path: Path) -> None:
    path = write_model(tmp_path / "模型.gguf")
    app = DialogApp(ModelScreen(program, "", downloads))
    async with app.run_test(size=(100, 40)) as pilot:
        await until(lambda: reference_of(app))
        await click(app, "#file")
        await until(lambda: is_open(app, TextScreen))
        for name, says in (("~nobody-here/x.gguf", "~nobody-here"), (str(tmp_path / "none.gguf"), "none.gguf")):
            app.screen.query_one(Input).value = name
            await pilot.press("enter")
            await until(partial(complains, app, says))
            await click(app, "#file")
            await until(lambda: is_open(app, TextScreen))
        field = app.screen.query_one(Input)
        field.value = str(tmp_path / "模")
        field.cursor_position = len(field.value)
        await until(lambda: field._suggestion)
        await pilot.press("right", "enter")
        await until(lambda: app.result == str(path))


async def test_the_guide_is_offered_where_there_is_one(
    program: StillProgram, downloads: BackgroundDownloads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guide = write_model(tmp_path / "guide.gguf")
    monkeypatch.setattr(library_module, "_guide", lambda: guide)
    app = DialogApp(WelcomeScreen(program, downloads))
    async with app.run_test(size=(100, 40)) as pilot:
        await until(lambda: "Built in" in app.words)
        await pilot.press(*"guide")
        await until(lambda: reference_of(app) == "guide")
        await pilot.press("enter")
        await until(lambda: app.result == "guide")


async def test_the_welcome_offers_the_guide_first_and_beside_it_the_recommended_model(
    program: StillProgram, downloads: BackgroundDownloads
) -> None:
    app = DialogApp(WelcomeScreen(program, downloads))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "Download the recommended model (4.68 GB)" in app.words)
        await until(lambda: app.focused is app.screen.query_one("#guide"))
        assert app.words.index("Try it now with the built-in guide") < app.words.index("Download the recommended")
        await click(app, "#recommended")
        await until(lambda: [download.reference for download in downloads.all()] == ["7b:q4_k_m"])
        app.screen.query_one("#guide").focus()
        await pilot.press(*"1.5b")  # typing goes to the filter, wherever the focus is
        await until(lambda: app.screen.query_one(Input).value == "1.5b")
        app.screen.query_one("#guide").focus()
        await pilot.press("enter")
        await until(lambda: app.result == "guide")


@pytest.mark.parametrize("size", [(20, 5), (400, 100)])
async def test_every_size(program: StillProgram, downloads: BackgroundDownloads, size: tuple[int, int]) -> None:
    app = DialogApp(ModelScreen(program, "", downloads))
    async with app.run_test(size=size) as pilot:
        await until(lambda: app.screen.query_one(OptionList).option_count)
        await pilot.press(*"1.5b:q8_0", "tab")
        await until(lambda: "1.5b:q8_0" in app.words)
        assert all(len(line) <= size[0] for line in app.words.splitlines())


def test_a_survey_says_the_same_as_models_fit(program: StillProgram) -> None:
    ours(program, "qwen2-7b-instruct-q4_k_m.gguf")
    found = model_choices(program)
    assert [choice.reference for choice in found.here] == ["7b:q4_k_m", "guide"]
    assert "7b:q4_k_m" not in [choice.reference for choice in found.catalogue]
    assert sum(choice.is_recommended for choice in found.choices) == 1
    references = [choice.reference for choice in found.catalogue]
    assert len(references) == len(set(references)) > 30
