"""Downloads in the background, from a hub on loopback."""

import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qwenchat.errors import NetworkError
from qwenchat.models.download.destination import CacheDestination
from qwenchat.models.download.plan import DownloadPlan, FileSelection
from qwenchat.models.download.progress import Report
from qwenchat.models.download.pull import PullOptions, pull
from qwenchat.models.sources.huggingface import HubSource
from qwenchat.runtime.downloads import BackgroundDownloads, Download, DownloadState, state_text
from tests.fakes.pulling import QUICK, model_bytes
from tests.fakes.standin_hub import StandIn, Trouble

SIZE = 400_000
REPO = "some/models-GGUF"


class Hub:
    """Pulls `some/models-GGUF/NAME.gguf` from the stand-in, as the program would."""

    def __init__(self, standin: StandIn, cache: Path) -> None:
        self.standin, self.cache = standin, cache

    def plan_download(self, text: str) -> DownloadPlan:
        source = HubSource("hf", self.standin.endpoint, None)
        destination = CacheDestination(self.cache, REPO, "hf")
        return DownloadPlan(selection=FileSelection(REPO, text), source=source, destination=destination)

    def pull(self, plan: DownloadPlan, report: Report, stop: threading.Event) -> Path:
        return pull(plan, report, stop, options=PullOptions(retry_policy=QUICK, report_every_s=0.01))

    @property
    def parts(self) -> list[Path]:
        return [path for path in self.cache.rglob("*") if path.name.endswith(".incomplete")]


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn() as hub:
        for number, name in enumerate(("a.gguf", "b.gguf")):
            hub.put(REPO, name, model_bytes(SIZE, number))
        yield hub


@pytest.fixture
def hub(standin: StandIn, tmp_path: Path) -> Hub:
    return Hub(standin, tmp_path / "hub")


class Watched(BackgroundDownloads):
    """Waits for states, told by the listener."""

    def __init__(self, hub: Hub) -> None:
        super().__init__(hub)
        self.told: queue.Queue[Download] = queue.Queue()
        self.listen(self.told.put)

    def until(self, state: DownloadState, reference: str = "a.gguf", arrived: int = 0) -> Download:
        end = time.monotonic() + 10
        while True:
            told = self.told.get(timeout=max(0.01, end - time.monotonic()))
            done = told.progress.done if told.progress else 0
            if (told.reference, told.state) == (reference, state) and done >= arrived:
                return told


@pytest.fixture
def downloads(hub: Hub) -> Iterator[Watched]:
    watched = Watched(hub)
    yield watched
    watched.close()


def test_several_at_once(downloads: Watched, hub: Hub) -> None:
    assert not hub.standin.log
    hub.standin.troubles.extend([Trouble(cut=SIZE // 2, stall=True)] * 2)
    for name in ("a.gguf", "b.gguf"):
        downloads.start(name)
    while [each.fraction for each in downloads.all()] != [0.5, 0.5]:
        downloads.told.get(timeout=10)
    hub.standin.go_on.set()
    while any(each.state is DownloadState.RUNNING for each in downloads.all()):
        downloads.told.get(timeout=10)
    for number, download in enumerate(downloads.all()):
        assert download.path and download.path.read_bytes() == model_bytes(SIZE, number)
        assert download.fraction == 1 and state_text(download) == "on this computer"


def test_a_pause_keeps_the_part_and_resuming_fetches_the_rest(downloads: Watched, hub: Hub) -> None:
    hub.standin.troubles.append(Trouble(cut=SIZE // 2, stall=True))
    downloads.start("a.gguf")
    downloads.until(DownloadState.RUNNING, arrived=SIZE // 2)
    downloads.pause("a.gguf")
    paused = downloads.until(DownloadState.PAUSED)
    assert paused.fraction == 0.5
    assert state_text(paused) == "paused: 200 kB of 400 kB"
    downloads.start("a.gguf")
    assert downloads.until(DownloadState.DONE).path
    assert hub.standin.bytes_sent() == SIZE


@pytest.mark.parametrize("paused_before", [False, True])
def test_giving_up_deletes_the_part(downloads: Watched, hub: Hub, paused_before: bool) -> None:
    hub.standin.troubles.append(Trouble(cut=SIZE // 2, stall=True))
    downloads.start("a.gguf")
    downloads.until(DownloadState.RUNNING, arrived=SIZE // 2)
    assert hub.parts
    if paused_before:
        downloads.close()
        assert hub.parts, "leaving keeps the part"
    downloads.cancel("a.gguf")
    assert not downloads.all()
    downloads.close()
    assert not hub.parts
    downloads.start("a.gguf")
    downloads.until(DownloadState.DONE)
    assert hub.standin.bytes_sent() == SIZE // 2 + SIZE


def test_a_failure_says_why_and_can_be_tried_again(downloads: Watched, hub: Hub) -> None:
    hub.standin.answers.append((404, {"X-Error-Code": "RepoNotFound"}))
    downloads.start("a.gguf")
    failed = downloads.until(DownloadState.FAILED)
    assert failed.error and state_text(failed) == failed.error.message
    downloads.start("a.gguf")
    downloads.until(DownloadState.DONE)


def test_what_is_done_is_not_fetched_again(downloads: Watched, hub: Hub) -> None:
    downloads.start("a.gguf")
    downloads.until(DownloadState.DONE)
    asked = len(hub.standin.log)
    downloads.start("a.gguf")
    downloads.pause("a.gguf")
    assert [download.state for download in downloads.all()] == [DownloadState.DONE]
    assert len(hub.standin.log) == asked


def test_a_listener_may_leave(hub: Hub) -> None:
    downloads, told = BackgroundDownloads(hub), list[Download]()
    leave = downloads.listen(told.append)
    leave()
    downloads.start("a.gguf")
    downloads.close()
    assert not told


def test_a_bug_is_not_taken_for_work(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[object] = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    monkeypatch.setattr(hub, "plan_download", lambda text: 1 / 0)
    downloads = Watched(hub)
    downloads.start("a.gguf")
    assert downloads.until(DownloadState.FAILED).error is None
    downloads.close()
    assert raised


def test_offline_is_an_error_with_a_hint(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(text: str) -> DownloadPlan:
        raise NetworkError("No connection.", "Go online.")

    monkeypatch.setattr(hub, "plan_download", refuse)
    downloads = Watched(hub)
    downloads.start("a.gguf")
    failed = downloads.until(DownloadState.FAILED)
    assert failed.error and failed.error.hint == "Go online."
