"""The child that reads documents may die, hang or be cancelled, and never outlives its parent."""

import asyncio
import io
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from qwenchat.documents import reader as reader_module
from qwenchat.documents.extract import formats, protocol
from qwenchat.documents.extract.__main__ import answer
from qwenchat.documents.extract.formats import Format, RefusalReason
from qwenchat.documents.reader import DocumentReader
from qwenchat.errors import FileError
from tests.fakes.files import pdf

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

PARENT = """
import asyncio, sys
from pathlib import Path
from typing import TYPE_CHECKING
import psutil
from qwenchat.documents.reader import DocumentReader

async def main():
    async with DocumentReader() as reader:
        await reader.read(Path(sys.argv[1]))
        print(*[child.pid for child in psutil.Process().children()], flush=True)
        await reader.read(Path(sys.argv[2]))

asyncio.run(main())
"""


@pytest.fixture
async def reader(tmp_path: Path) -> AsyncIterator[DocumentReader]:
    """A reader whose child has read `a.pdf`."""
    (tmp_path / "a.pdf").write_bytes(pdf([["Hello"]]))
    async with DocumentReader() as running:
        assert (await running.read(tmp_path / "a.pdf")).text == "Hello"
        yield running


def child() -> psutil.Process:
    """Return the child of this process, which has one."""
    (found,) = psutil.Process().children()
    return found


@pytest.mark.parametrize(
    ("sent", "said"), [(signal.SIGKILL, "is broken or too large"), (signal.SIGXCPU, "takes too long to read")]
)
async def test_the_death_of_the_child_costs_one_file(
    reader: DocumentReader, tmp_path: Path, sent: signal.Signals, said: str
) -> None:
    running = child()
    running.suspend()
    reading = asyncio.create_task(reader.read(tmp_path / "a.pdf"))
    running.send_signal(sent)
    if sent != signal.SIGKILL:  # which needs nobody's attention
        running.resume()
    with pytest.raises(FileError, match=said):
        await reading
    assert (await reader.read(tmp_path / "a.pdf")).text == "Hello"


@pytest.mark.skipif(not hasattr(psutil, "RLIMIT_AS"), reason="this system has no such limit")
async def test_each_file_has_its_own_time_and_the_child_little_memory(reader: DocumentReader, tmp_path: Path) -> None:
    running = child()
    used = sum(running.cpu_times()[:2])
    assert running.rlimit(psutil.RLIMIT_AS)[0] == 2 << 30
    assert running.rlimit(psutil.RLIMIT_CPU)[0] <= used + protocol.CPU_LIMIT_S + 1
    running.rlimit(psutil.RLIMIT_CPU, (1000, running.rlimit(psutil.RLIMIT_CPU)[1]))
    await reader.read(tmp_path / "a.pdf")
    assert running.rlimit(psutil.RLIMIT_CPU)[0] < 1000


async def test_a_reading_is_cancelled_with_its_child(
    reader: DocumentReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()

    def asking(file_format: Format, path: Path) -> bytes:
        asked.set()
        return protocol.request(file_format, path)

    monkeypatch.setattr(reader_module, "request", asking)
    running = child()
    running.suspend()
    reading = asyncio.create_task(reader.read(tmp_path / "a.pdf"))
    await asked.wait()
    waiting = asyncio.create_task(reader.read(tmp_path / "a.pdf"))
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert not running.is_running()
    assert (await waiting).text == "Hello"


async def test_a_file_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(pdf([["Hello"]]))
    async with DocumentReader(time_limit_s=0) as reader:
        with pytest.raises(FileError, match="takes too long to read"):
            await reader.read(tmp_path / "a.pdf")
        assert not psutil.Process().children()


async def test_a_text_that_changes_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("one")

    def changing(head: bytes, name: str) -> Format:
        (tmp_path / "a.txt").write_text("one and more")
        return formats.format_of(head, name)

    monkeypatch.setattr(reader_module, "format_of", changing)
    async with DocumentReader() as reader:
        with pytest.raises(FileError, match="changed while it was read"):
            await reader.read(tmp_path / "a.txt")


def test_a_page_that_changes_while_the_child_reads_it_is_refused(tmp_path: Path) -> None:
    class Sink(io.BytesIO):
        def write(self, data: "ReadableBuffer", /) -> int:
            (tmp_path / "a.html").write_text("<p>one and more")
            return super().write(data)

    (tmp_path / "a.html").write_text("<p>one")
    assert answer(Sink(), Format.HTML, tmp_path / "a.html") == RefusalReason.CHANGED
    (tmp_path / "a.html").unlink()
    assert answer(Sink(), Format.HTML, tmp_path / "a.html") == RefusalReason.CHANGED


def test_the_child_ends_with_its_parent(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(pdf([["Hello"]]))
    (tmp_path / "long.html").write_bytes(b"<h2>x" * (4 << 20))
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, tmp_path / "a.pdf", tmp_path / "long.html"],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert parent.stdout is not None
    orphan = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert not psutil.wait_procs([orphan], timeout=20)[1]
