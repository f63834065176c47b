"""Parallel and killed downloads, on full or unusual disks, and after the machine stopped."""

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import filelock
import pytest

from qwenchat.errors import FileError, Interrupted
from qwenchat.models.download.destination import FolderDestination
from qwenchat.models.download.part import SYNC_EVERY, PartFile
from qwenchat.models.download.progress import DownloadProgress, FileCompleted, PullEvent, WaitingForOther
from qwenchat.models.fit import DISK_RESERVE
from tests.fakes.pulling import NAME, REPO, Puller, model_bytes
from tests.fakes.standin_hub import StandIn, Trouble

SIZE = 3_000_000
CONTENT = model_bytes(SIZE)
ROOT = Path(__file__).parents[2]


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn() as hub:
        hub.put(REPO, NAME, CONTENT)
        yield hub


@pytest.fixture
def puller(standin: StandIn, tmp_path: Path) -> Puller:
    return Puller.of(standin, tmp_path / "hub")


def child(standin: StandIn, cache: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.pull_child", standin.endpoint, str(cache)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def wait_until(true: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def part_size(puller: Puller) -> int:
    return sum(part.stat().st_size for part in puller.parts)


def silence_after(count: int) -> Trouble:
    return Trouble(cut=count, stall=True)


def test_killed_again_and_again(standin: StandIn, puller: Puller) -> None:
    step = SIZE // 5
    standin.troubles.extend([silence_after(step)] * 4)
    for round_ in range(1, 5):
        with child(standin, puller.cache) as process:
            wait_until(lambda: part_size(puller) == step * round_, f"round {round_}")  # noqa: B023
            process.kill()
    with child(standin, puller.cache) as process:
        path = process.communicate()[0].strip()
    assert Path(path).read_bytes() == CONTENT
    assert standin.bytes_sent() == SIZE


def test_two_programs_fetch_once(standin: StandIn, puller: Puller) -> None:
    standin.troubles.append(silence_after(1_000_000))
    with child(standin, puller.cache) as first:
        wait_until(lambda: part_size(puller) == 1_000_000, "the first began")
        second = threading.Thread(target=puller)
        second.start()
        wait_until(lambda: puller.seen(WaitingForOther), "the second waits")
        wait_until(
            lambda: any(p.done == 1_000_000 for p in puller.events if isinstance(p, DownloadProgress)), "and follows"
        )
        standin.go_on.set()
        assert first.wait(20) == 0
        second.join(20)
    assert puller.seen(FileCompleted)
    assert standin.bytes_sent() == SIZE


def test_the_second_takes_over_when_the_first_dies(standin: StandIn, puller: Puller) -> None:
    lock = puller.cache / ".locks/models--Qwen--Qwen2-7B-Instruct-GGUF" / f"{standin.digest(REPO, NAME)}.lock"
    part = puller.cache / "models--Qwen--Qwen2-7B-Instruct-GGUF/blobs" / f"{standin.digest(REPO, NAME)}.incomplete"
    script = (
        "import filelock, sys; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print('held', flush=True);"
        "sys.stdin.read()"
    )
    for folder in (lock.parent, part.parent):
        folder.mkdir(parents=True)
    part.write_bytes(CONTENT[:1_000_000])
    with subprocess.Popen(
        [sys.executable, "-c", script, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout and first.stdout.readline() == "held\n"
        second = threading.Thread(target=puller)
        second.start()
        wait_until(lambda: puller.seen(WaitingForOther), "the second waits")
        first.kill()
        second.join(20)
    assert puller().read_bytes() == CONTENT
    assert standin.bytes_sent() == SIZE - 1_000_000


def test_waiting_for_another_program_can_be_stopped(standin: StandIn, puller: Puller) -> None:
    destination = FolderDestination(puller.cache)
    paths = destination.part_file_paths(puller.source.files(REPO, "")[0])
    puller.each = lambda event: puller.stop.set() if isinstance(event, WaitingForOther) else None
    with filelock.FileLock(paths.lock), pytest.raises(Interrupted):
        puller(destination=destination)


def test_several_downloads_at_once(standin: StandIn, tmp_path: Path) -> None:
    pullers = [Puller.of(standin, tmp_path / str(number % 2)) for number in range(4)]  # two share a cache
    threads = [threading.Thread(target=puller) for puller in pullers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert all(puller.seen(FileCompleted) for puller in pullers)
    assert standin.bytes_sent() == 2 * SIZE


def stop_at(puller: Puller, done: int, event: PullEvent) -> None:
    if isinstance(event, DownloadProgress) and event.done == done:
        puller.stop.set()


def test_pausing_and_resuming(standin: StandIn, puller: Puller) -> None:
    standin.troubles.extend([silence_after(1_000_000), silence_after(1_000_000)])
    for kept in (1_000_000, 2_000_000):
        puller.stop.clear()
        puller.each = partial(stop_at, puller, kept)
        with pytest.raises(Interrupted) as caught:
            puller()
        assert caught.value.exit_code == 130
        assert part_size(puller) == kept
    puller.stop.clear()
    puller.each = lambda event: None
    assert puller().read_bytes() == CONTENT
    assert standin.bytes_sent() == SIZE


def test_no_disk_space(standin: StandIn, puller: Puller) -> None:
    puller.options = replace(puller.options, free_bytes=lambda folder: SIZE + DISK_RESERVE - 1)
    with pytest.raises(FileError, match=r"needs 3 MB and must leave 537 MB free.*has only 540 MB"):
        puller()
    assert not standin.requests("cdn")
    part = puller.cache / "models--Qwen--Qwen2-7B-Instruct-GGUF/blobs" / f"{standin.digest(REPO, NAME)}.incomplete"
    part.write_bytes(CONTENT[:1])
    assert puller().read_bytes() == CONTENT  # what is there already needs no room


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, r"disk is full: 2 MB of"),
        (errno.EFBIG, "can't hold a file as large"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_a_disk_that_refuses(
    standin: StandIn, puller: Puller, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    append = PartFile.append

    def refuse(part: PartFile, chunk: bytes) -> None:
        append(part, chunk[: 1_000_000 - part.size])
        if part.size == 1_000_000:
            raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(PartFile, "append", refuse)
        with pytest.raises(FileError, match=words) as caught:
            puller()
    assert caught.value.exit_code == 8
    assert part_size(puller) == 1_000_000
    assert puller().read_bytes() == CONTENT


def test_a_folder_that_can_not_be_made(standin: StandIn, tmp_path: Path) -> None:
    (tmp_path / "hub").write_text("a file")
    with pytest.raises(FileError, match="can't be written"):
        Puller.of(standin, tmp_path / "hub")()


def test_a_disk_without_links(standin: StandIn, puller: Puller, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object) -> None:
        raise OSError(errno.EPERM, "no")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    path = puller()
    assert not path.is_symlink() and path.stat().st_nlink == 2
    monkeypatch.setattr(os, "link", refuse)
    other = Puller(puller.cache.with_name("other"), puller.source)
    path = other()
    assert path.read_bytes() == CONTENT and path.stat().st_nlink == 1
    sent = standin.bytes_sent()
    assert other() == path
    assert standin.bytes_sent() == sent


def test_after_the_machine_stopped_the_tail_is_fetched_again(standin: StandIn, puller: Puller, tmp_path: Path) -> None:
    size = 2 * SYNC_EVERY + 5_000_000
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.write(b"GGUF")
        file.truncate(size - 1)
        file.seek(size - 1)
        file.write(b"x")
    digest = standin.put(REPO, NAME, big)
    part = puller.cache / "models--Qwen--Qwen2-7B-Instruct-GGUF/blobs" / f"{digest}.incomplete"
    part.parent.mkdir(parents=True)
    with part.open("wb") as file:
        file.write(b"GGUF")
        file.truncate(size - 1_000_000)
        file.seek(size - 1_000_500)
        file.write(b"what never reached the disk")
    puller.options = replace(puller.options, boot_time=lambda: time.time() + 10)
    assert puller().stat().st_size == size
    assert standin.bytes_sent() == 2 * SYNC_EVERY + 1_000_000
