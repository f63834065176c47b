"""A download over real HTTP survives every interruption, and no wrong file ever gets the final name."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock
from huggingface_hub import hf_hub_download, scan_cache_dir, try_to_load_from_cache

from qwenchat.errors import Interrupted, NetworkError
from qwenchat.models.download.destination import FolderDestination
from qwenchat.models.download.part import delete_unfinished
from qwenchat.models.download.progress import (
    DownloadProgress,
    FileCompleted,
    PartFileOpened,
    PullEvent,
    Retrying,
    StartedOver,
)
from qwenchat.models.sources.huggingface import HubSource
from tests.fakes.pulling import NAME, REPO, SHORT_TIMEOUTS, Puller, model_bytes
from tests.fakes.standin_hub import COMMIT, StandIn, Trouble

SIZE = 3_000_000
CONTENT = model_bytes(SIZE)


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn() as hub:
        hub.put(REPO, NAME, CONTENT)
        yield hub


@pytest.fixture
def puller(standin: StandIn, tmp_path: Path) -> Puller:
    return Puller.of(standin, tmp_path / "hub")


def test_a_file_lies_where_other_programs_look(standin: StandIn, puller: Puller) -> None:
    path = puller()
    assert path.read_bytes() == CONTENT
    repo = puller.cache / "models--Qwen--Qwen2-7B-Instruct-GGUF"
    assert path == repo / "snapshots" / COMMIT / NAME
    assert path.resolve() == (repo / "blobs" / standin.digest(REPO, NAME)).resolve()
    assert try_to_load_from_cache(REPO, NAME, cache_dir=puller.cache) == str(path)
    scan = scan_cache_dir(puller.cache)
    assert not scan.warnings and not scan.incomplete_files
    assert [repo.repo_id for repo in scan.repos] == [REPO]
    last = [event for event in puller.events if isinstance(event, DownloadProgress)][-1]
    assert (last.done, last.total, last.parts[0].name) == (SIZE, SIZE, NAME)
    assert puller.seen(FileCompleted) == [FileCompleted(NAME, path, verified=True)]


def test_what_is_there_is_not_fetched_again(standin: StandIn, puller: Puller) -> None:
    first = puller()
    sent = standin.bytes_sent()
    assert puller() == first
    assert standin.bytes_sent() == sent


@pytest.mark.parametrize(
    "troubles",
    [
        pytest.param([Trouble(cut=1_000_000)], id="closed early"),
        pytest.param([Trouble(cut=1_000_000, reset=True)], id="reset"),
        pytest.param([Trouble(cut=1_000_000, stall=True)], id="silent"),
        pytest.param([Trouble(cut=1_000_000, chunked=True)], id="chunked, closed early"),
        pytest.param([Trouble(cut=4)] + [Trouble(cut=1)] * 3, id="one byte at a time"),
        pytest.param([Trouble(cut=0)], id="nothing at all"),
        pytest.param([Trouble(status=503), Trouble(cut=1_000_000), Trouble(status=500)], id="faults of the server"),
        pytest.param([Trouble(status=429, headers={"Retry-After": "0"})], id="too many requests"),
        pytest.param([Trouble(status=503, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"})], id="date"),
        pytest.param([Trouble(cut=1_000_000), Trouble(status=403)], id="signed URL expired"),
        pytest.param([Trouble(cut=1_000_000)] * 2 + [Trouble(status=504)] * 5, id="a long series"),
    ],
)
def test_a_break_is_carried_on(standin: StandIn, puller: Puller, troubles: list[Trouble]) -> None:
    standin.troubles.extend(troubles)
    if any(trouble.stall for trouble in troubles):
        puller.options = replace(puller.options, timeouts=SHORT_TIMEOUTS)
    assert puller().read_bytes() == CONTENT
    assert puller.seen(Retrying)
    assert not puller.seen(StartedOver)
    lost = sum(trouble.cut or 0 for trouble in troubles if trouble.reset)  # a reset takes what was not read yet
    assert SIZE <= standin.bytes_sent() <= SIZE + lost  # else not one byte twice
    assert not standin.troubles


def test_an_expired_url_is_requested_again(standin: StandIn, puller: Puller) -> None:
    standin.troubles.append(Trouble(cut=1_000_000))

    def expire(event: PullEvent) -> None:
        standin.expired = standin.signed if isinstance(event, Retrying) else standin.expired

    puller.each = expire
    assert puller().read_bytes() == CONTENT
    assert standin.signed == 2


def test_a_server_that_ignores_ranges_starts_over(standin: StandIn, puller: Puller) -> None:
    standin.troubles.extend([Trouble(cut=1_000_000), Trouble(ignore_range=True)])
    assert puller().read_bytes() == CONTENT
    assert puller.seen(StartedOver)


def test_a_part_as_long_as_the_file_needs_no_request_for_bytes(standin: StandIn, puller: Puller) -> None:
    part = puller.cache / "models--Qwen--Qwen2-7B-Instruct-GGUF/blobs" / f"{standin.digest(REPO, NAME)}.incomplete"
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT)
    path = puller()
    assert path.read_bytes() == CONTENT and path.parent.name == COMMIT
    assert not standin.requests("cdn")


def test_a_part_longer_than_the_file_is_dropped(standin: StandIn, puller: Puller) -> None:
    part = puller.cache / "models--Qwen--Qwen2-7B-Instruct-GGUF/blobs" / f"{standin.digest(REPO, NAME)}.incomplete"
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT + b"more")
    assert puller().read_bytes() == CONTENT


def test_416_leads_to_a_request_for_all(standin: StandIn, puller: Puller) -> None:
    standin.troubles.extend([Trouble(cut=1_000_000), Trouble(status=416)])
    assert puller().read_bytes() == CONTENT
    assert puller.seen(StartedOver)


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        pytest.param(Trouble(status=401), "401", id="401"),
        pytest.param(Trouble(status=403), "403", id="403"),
        pytest.param(Trouble(status=404), "404", id="404"),
        pytest.param(Trouble(status=416), "416", id="416"),
        pytest.param(Trouble(status=429), "429", id="429"),
        pytest.param(Trouble(status=500), "500", id="500"),
        pytest.param(Trouble(status=503), "503", id="503"),
        pytest.param(Trouble(status=418), "418", id="a status of no sense"),
        pytest.param(Trouble(status=503, headers={"Retry-After": "86400"}), "503", id="a day's wait"),
        pytest.param(Trouble(html=True), "not a model", id="HTML"),
        pytest.param(Trouble(compressed=True), "compressed", id="gzip"),
        pytest.param(Trouble(declared=SIZE + 1000), "different length", id="lying Content-Length, more"),
        pytest.param(Trouble(declared=SIZE - 1000), "different length", id="lying Content-Length, less"),
        pytest.param(Trouble(extra=b"more"), "more of", id="longer than declared"),
        pytest.param(Trouble(cut=0), "broke", id="shorter than declared"),
        pytest.param(Trouble(corrupt=True), "sha256", id="damaged"),
    ],
)
def test_the_download_gives_up_on_a_persistent_fault(
    standin: StandIn, puller: Puller, trouble: Trouble, words: str
) -> None:
    standin.troubles.extend([trouble] * 40)
    with pytest.raises(NetworkError, match=words) as caught:
        puller()
    assert caught.value.exit_code == 4
    assert caught.value.hint or caught.value.recoveries
    assert not list(puller.cache.rglob("*.gguf"))
    blobs = [path.name for path in puller.cache.rglob("blobs/*")]
    assert all(name.endswith(".incomplete") for name in blobs)


def test_a_login_page_half_way_leaves_the_part_alone(standin: StandIn, puller: Puller) -> None:
    standin.troubles.extend([Trouble(cut=1_000_000), Trouble(html=True)])
    with pytest.raises(NetworkError, match="not a model"):
        puller()
    (part,) = puller.parts
    assert part.read_bytes() == CONTENT[:1_000_000]
    assert puller().read_bytes() == CONTENT
    assert standin.bytes_sent() == SIZE


def test_false_content_range_is_not_appended(standin: StandIn, puller: Puller) -> None:
    standin.troubles.extend([Trouble(cut=1_000_000), Trouble(total=SIZE + 5)])
    assert puller().read_bytes() == CONTENT


def test_a_file_with_a_wrong_hash_is_deleted(standin: StandIn, puller: Puller) -> None:
    standin.lie_about[NAME] = "0" * 64
    with pytest.raises(NetworkError, match="wrong sha256") as caught:
        puller()
    assert "It was deleted" in caught.value.hint
    assert not puller.parts and not list(puller.cache.rglob("*.gguf"))


def test_a_wrong_half_from_an_earlier_run_costs_one_more_round(standin: StandIn, puller: Puller) -> None:
    part = puller.cache / "models--Qwen--Qwen2-7B-Instruct-GGUF/blobs" / f"{standin.digest(REPO, NAME)}.incomplete"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"GGUF" + bytes(1_000_000))
    assert puller().read_bytes() == CONTENT
    assert puller.seen(StartedOver)


def test_a_blob_that_lost_its_end_is_carried_on(standin: StandIn, puller: Puller) -> None:
    blob = puller().resolve()
    blob.write_bytes(CONTENT[:1_000_000])
    before = standin.bytes_sent()
    assert puller().read_bytes() == CONTENT
    assert standin.bytes_sent() - before == SIZE - 1_000_000


def test_a_file_replaced_on_the_hub_during_the_download(standin: StandIn, puller: Puller) -> None:
    standin.troubles.append(Trouble(cut=1_000_000))

    def replace(event: PullEvent) -> None:
        if isinstance(event, Retrying):
            standin.put(REPO, NAME, model_bytes(SIZE, seed=9))

    puller.each = replace
    with pytest.raises(NetworkError, match="replaced"):
        puller()
    puller.each = lambda event: None
    assert puller().read_bytes() == model_bytes(SIZE, seed=9)


def test_stopping_preserves_the_part_file_and_a_mirror_resumes_it(standin: StandIn, puller: Puller) -> None:
    standin.troubles.append(Trouble(cut=1_000_000, stall=True))

    def stop(event: PullEvent) -> None:
        if isinstance(event, DownloadProgress) and event.done == 1_000_000:
            puller.stop.set()

    puller.each = stop
    with pytest.raises(Interrupted):
        puller()
    assert [part.stat().st_size for part in puller.parts] == [1_000_000]
    with StandIn() as mirror:
        mirror.put(REPO, NAME, CONTENT)
        other = Puller(puller.cache, HubSource("mirror", mirror.endpoint))
        assert other().read_bytes() == CONTENT
        assert mirror.bytes_sent() == SIZE - 1_000_000


def test_a_hub_that_tells_no_hash_is_believed_but_not_resumed_blindly(standin: StandIn, puller: Puller) -> None:
    standin.hashes = False
    standin.troubles.extend([Trouble(cut=1_000_000), Trouble(etag='"v2"')])
    assert puller().read_bytes() == CONTENT
    assert puller.seen(StartedOver)  # If-Range said that it is another version
    (done,) = (event for event in puller.events if isinstance(event, FileCompleted))
    assert not done.verified


def test_a_small_file_in_one_piece_without_redirect(standin: StandIn, puller: Puller) -> None:
    standin.redirects = False
    standin.put(REPO, NAME, b"GGUF")
    assert puller().read_bytes() == b"GGUF"


def test_a_listener_that_fails_ends_the_download(standin: StandIn, puller: Puller) -> None:
    def closed(event: PullEvent) -> None:
        raise BrokenPipeError

    puller.each = closed
    standin.troubles.append(Trouble(cut=1_000_000, stall=True))
    with pytest.raises(BrokenPipeError):
        puller()


def test_huggingface_hub_waits_for_us_and_finds_the_file(standin: StandIn, puller: Puller) -> None:
    standin.troubles.append(Trouble(cut=1_000_000, stall=True))
    ours = threading.Thread(target=puller)
    theirs: list[str] = []

    def fetch() -> None:
        theirs.append(hf_hub_download(REPO, NAME, endpoint=standin.endpoint, cache_dir=puller.cache, token=False))

    other = threading.Thread(target=fetch)

    def begin(event: PullEvent) -> None:
        if isinstance(event, DownloadProgress) and event.done and not other.ident:
            other.start()
            standin.go_on.set()

    puller.each = begin
    ours.start()
    ours.join(20)
    other.join(20)
    assert Path(theirs[0]).read_bytes() == CONTENT
    assert standin.bytes_sent() == SIZE


@pytest.mark.parametrize("in_a_folder", [False, True])
def test_giving_up_deletes_the_part_unless_another_program_fills_it(
    in_a_folder: bool, standin: StandIn, puller: Puller, tmp_path: Path
) -> None:
    standin.troubles.append(Trouble(cut=1_000_000, stall=True))
    puller.each = lambda event: (
        puller.stop.set() if isinstance(event, DownloadProgress) and event.done == 1_000_000 else None
    )
    destination = FolderDestination(tmp_path / "mine") if in_a_folder else None
    with pytest.raises(Interrupted):
        puller(destination=destination)
    [opened] = puller.seen(PartFileOpened)
    assert isinstance(opened, PartFileOpened) and opened.path.stat().st_size == 1_000_000
    with FileLock(opened.paths.lock):
        delete_unfinished(opened.paths)
        assert opened.path.exists()
    delete_unfinished(opened.paths)
    assert not opened.path.exists()
    assert not in_a_folder or not list((tmp_path / "mine").iterdir())
    delete_unfinished(opened.paths)
