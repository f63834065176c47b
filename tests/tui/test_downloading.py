"""Downloads as the chat tells of them, from a hub on loopback."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from textual.widgets import Button

from qwenchat.chat.message import Status
from qwenchat.runtime.downloads import Download, DownloadState
from qwenchat.tui.app import Start
from qwenchat.tui.dialogs.downloads import DownloadList, DownloadRow, DownloadsScreen
from qwenchat.tui.dialogs.model import WelcomeScreen
from tests.fakes.ggufs import write_model
from tests.fakes.pulling import NAME, REPO
from tests.fakes.standin_hub import StandIn, Trouble
from tests.tui.chatting import Chatting, chatting
from tests.tui.screens import click, is_open, until

MODEL = "7b:q4_k_m"


@pytest.fixture(autouse=True)
def standin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    with StandIn() as hub:
        hub.put(REPO, NAME, write_model(tmp_path / "source.gguf").read_bytes())
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        yield hub


def stall_half(standin: StandIn) -> None:
    content = standin.repos[REPO][NAME]
    assert isinstance(content, bytes)
    standin.troubles.append(Trouble(cut=len(content) // 2, stall=True))


def header(it: Chatting) -> str:
    return str(it.chat.header.render())


async def test_a_download_ends_while_an_answer_streams(standin: StandIn) -> None:
    stall_half(standin)
    async with chatting("word " * 2000, delay_s=0.005) as it:
        it.chat.context.downloads.start(MODEL)
        await until(lambda: header(it).startswith(f"↓ 50% {MODEL}"))
        it.write("Talk")
        await it.pilot.press("enter")
        await until(lambda: it.messages and it.messages[-1].status is Status.STREAMING)
        standin.go_on.set()
        await until(lambda: any(f"{MODEL} has been downloaded" in said for said in it.said))
        assert it.messages[-1].status is Status.STREAMING
        assert "↓" not in header(it)
        await it.pilot.press("escape")
        await it.idle()


def test_a_row_shows_a_download_though_the_dialog_is_closing() -> None:
    download = Download(MODEL, DownloadState.RUNNING)
    row = DownloadRow(download)
    row.show(replace(download, state=DownloadState.DONE))
    assert row.download.state is DownloadState.DONE


async def test_a_download_that_fails_says_why_and_what_to_do() -> None:
    async with chatting() as it:
        it.chat.context.downloads.start("7b:q9_k")
        await until(lambda: any(said.startswith("7b:q9_k: ") for said in it.said))
        failed = it.chat.context.downloads.get("7b:q9_k")
        assert failed and failed.error and any(failed.error.hint in said for said in it.said)
        assert "↓" not in header(it)


async def test_downloads_open_as_a_list(standin: StandIn) -> None:
    stall_half(standin)
    async with chatting() as it:
        it.chat.context.downloads.start(MODEL)
        it.write("/downloads")
        await it.pilot.press("enter")
        await until(lambda: is_open(it.app, DownloadsScreen) and it.app.screen.query(DownloadRow))
        await until(lambda: "50%" in header(it))
        await click(it.app, "#turn")
        await until(lambda: [each.state for each in it.chat.context.downloads.all()] == [DownloadState.PAUSED])
        await until(lambda: "↓" not in header(it))
        standin.go_on.set()
        turn = it.app.screen.query_one("#turn", Button)
        await until(lambda: str(turn.label) == "Resume" and not turn.has_class("-active"))
        await click(it.app, "#turn")
        await until(lambda: [each.state for each in it.chat.context.downloads.all()] == [DownloadState.DONE])


async def late(listed: DownloadList, download: Download) -> None:
    """Report a change, and wait until it has been handled."""
    listed.post_message(DownloadList.Changed(download))
    handled = asyncio.Event()
    listed.call_later(handled.set)
    await handled.wait()


async def test_news_that_comes_late_makes_no_download_run_again(standin: StandIn) -> None:
    stall_half(standin)
    async with chatting() as it:
        downloads = it.chat.context.downloads
        downloads.start(MODEL)
        it.write("/downloads")
        await it.pilot.press("enter")
        await until(lambda: is_open(it.app, DownloadsScreen) and it.app.screen.query(DownloadRow))
        running = downloads.get(MODEL)
        assert running and running.state is DownloadState.RUNNING
        listed = it.app.screen.query_one(DownloadList)
        downloads.pause(MODEL)
        await late(listed, running)
        assert str(it.app.screen.query_one("#turn", Button).label) == "Resume"
        downloads.cancel(MODEL)
        await until(lambda: not it.app.screen.query(DownloadRow))
        await late(listed, running)
        assert not it.app.screen.query(DownloadRow)


async def test_a_question_that_waits_for_a_model_is_sent_when_one_is_downloaded(standin: StandIn) -> None:
    async with chatting("Answer.", start=Start()) as it:
        await until(lambda: is_open(it.app, WelcomeScreen))
        await it.pilot.press("escape")
        await until(lambda: it.app.screen is it.chat)
        it.write("Question")
        await it.pilot.press("enter")
        await until(lambda: is_open(it.app, WelcomeScreen))
        await it.pilot.press("escape")
        await until(lambda: it.app.screen is it.chat and it.chat.context.open.view.waiting.holds)
        it.chat.context.downloads.start(MODEL)
        await until(lambda: it.texts == ["Question", "Answer."])
        await it.idle()
        assert it.messages[-1].model == MODEL
