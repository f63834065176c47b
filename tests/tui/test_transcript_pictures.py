"""Pictures of the transcript, so that a change of its looks is seen. `pytest --snapshot-update` takes new ones."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from qwenchat.chat.message import Attachment, Message, Status, Timings, Usage
from qwenchat.chat.tree import VariantPlace
from tests.tui.screens import TranscriptApp, answer, question

SAMPLE = (Path(__file__).parent / "sample.md").read_text("utf-8")
CHINESE = (Path(__file__).parent / "sample_zh.md").read_text("utf-8")


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def branch(text: str, ask: str) -> list[Message]:
    asked = question(0, ask, (Attachment("notes.txt", "text/plain", b"x" * 1234),))
    measured = Timings(decode_tps=42.31, ttft_s=0.42)
    told = replace(answer(1, text), usage=Usage(100, 20, 312), timings=measured)
    return [question(8, "Hi"), asked, told, replace(answer(3, "…"), status=Status.INTERRUPTED)]


@pytest.mark.parametrize("width", [46, 100], ids=["narrow", "wide"])
@pytest.mark.parametrize("theme", ["ink", "paper"])
@pytest.mark.parametrize("language", ["en", "zh_CN"])
def test_picture(snap_compare: Callable[..., bool], language: str, theme: str, width: int) -> None:
    ask = "用中文说一遍：\n```sh\nls\n```" if language == "zh_CN" else "Please explain attention.\n```sh\nls\n```"
    app = TranscriptApp([], theme, language)

    async def show(pilot: object) -> None:
        messages = branch(CHINESE if language == "zh_CN" else SAMPLE, ask)
        app.transcript.load(messages, {"m1": VariantPlace(2, 3)}, boundary="m0", show="m8")
        app.transcript.select("m0")
        app.transcript.finder.find("attention" if language == "en" else "注意力")
        app.transcript.viewport.go_to(0)

    assert snap_compare(app, terminal_size=(width, 60), run_before=show)


@pytest.mark.parametrize(("language", "theme", "width"), [("en", "ink", 100), ("zh_CN", "paper", 60)])
def test_picture_of_a_summary(snap_compare: Callable[..., bool], language: str, theme: str, width: int) -> None:
    app = TranscriptApp([], theme, language)

    async def show(pilot: object) -> None:
        summary = replace(question(0, "They met in Paris and chose flight TP764."), summarises=6)
        messages = [summary, question(1, "And then?"), answer(2, "They flew.")]
        app.transcript.load(messages, {"m0": VariantPlace(2, 2, 9)}, show="m0")
        app.transcript.select("m0")
        if width == 100:
            app.transcript.action_unfold_message()
        app.transcript.viewport.go_to(0)

    assert snap_compare(app, terminal_size=(width, 16), run_before=show)
