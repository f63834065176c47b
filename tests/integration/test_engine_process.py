"""The worker as a process: cancelled loads, crashes, parents that die, files in use."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from qwenchat.chat.events import Delta
from qwenchat.chat.sampling import Sampling
from qwenchat.children import child_environment
from qwenchat.engines.local.failures import OTHER_MODEL, START_AGAIN, load_error, with_less
from qwenchat.engines.local.process import WorkerProcess
from qwenchat.engines.local.protocol import FRAME, Count, Lora, RequestFailed
from qwenchat.errors import CannotLoad, EngineDied, FileError, Interrupted, Recovery, RecoveryKind
from qwenchat.models.removal import refuse_while_used
from tests.fakes import ggufs
from tests.fakes.commands import ROOT
from tests.fakes.engines import answer, engine, prefilling, questions, read, request

LONG = "word " * 3000


def workers() -> set[int]:
    """The processes below this one, those that nobody has waited for included."""
    return {child.pid for child in psutil.Process().children()}


async def test_a_load_can_be_cancelled_at_every_step(tiny: Path, tmp_path: Path) -> None:
    before = workers()
    async with engine(tiny, tmp_path) as made:

        async def cancel(when: Callable[[], object]) -> None:
            loading = asyncio.create_task(made.load())
            async with asyncio.timeout(30):
                while not when():
                    await asyncio.sleep(0)
            loading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await loading
            assert made.worker_pid is None
            assert workers() == before

        def said_hello() -> bool:
            return isinstance(made._worker, WorkerProcess) and made._worker._hello.done()

        await cancel(made._loading.locked)  # the worker is not there yet
        await cancel(lambda: made.worker_pid)  # it has not said hello
        await cancel(said_hello)  # it loads
        assert (await made.load()).n_ctx == 4096


async def test_a_load_that_is_cancelled_passes_to_who_waits_for_it(tiny: Path, tmp_path: Path) -> None:
    async with engine(tiny, tmp_path) as made:
        loading, waiting = asyncio.create_task(made.load()), asyncio.create_task(made.load())
        while made.worker_pid is None:
            await asyncio.sleep(0)
        loading.cancel()
        assert (await waiting).n_ctx == 4096
        assert loading.cancelled()


async def test_cancelling_a_request_ends_the_load_that_it_waits_for(tiny: Path, tmp_path: Path) -> None:
    async with engine(tiny, tmp_path) as made:
        generation = made.generate(request(questions("Hello")))
        while made.worker_pid is None:
            await asyncio.sleep(0)
        await generation.cancel()
        assert (await read(generation)).finished.reason == "cancelled"
        assert made.worker_pid is None


async def test_close_ends_a_load(tiny: Path, tmp_path: Path) -> None:
    async with engine(tiny, tmp_path) as made:
        loading = asyncio.create_task(made.load())
        while made.worker_pid is None:
            await asyncio.sleep(0)
        await made.close()
        with pytest.raises(Interrupted):
            await loading


def test_a_child_finds_this_very_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    assert child_environment()["PYTHONPATH"] == f"{ROOT}{os.pathsep}elsewhere"


async def test_ctrl_c_in_a_terminal_does_not_reach_the_worker(tiny: Path, tmp_path: Path) -> None:
    async with engine(tiny, tmp_path) as made:
        await made.load()
        assert made.worker_pid
        assert os.getpgid(made.worker_pid) != os.getpgrp()


async def test_a_killed_worker_is_reported_and_replaced(endless: ggufs.Chain, tmp_path: Path) -> None:
    async with engine(endless.path, tmp_path, n_ctx=32768) as made:
        text = ""
        with pytest.raises(EngineDied, match="SIGKILL") as caught:
            async for event in made.generate(request(questions("Go"))):
                if isinstance(event, Delta):
                    text += event.text
                    assert made.worker_pid
                    os.kill(made.worker_pid, signal.SIGKILL)
        assert text.startswith("once")
        assert caught.value.recoveries == (START_AGAIN, Recovery(RecoveryKind.SMALLER_CONTEXT, 16384))
        again = await answer(made, questions("Go"), Sampling(temperature=0.0, max_tokens=3))
        assert again.usage.completion_tokens == 3


async def test_an_aborting_worker_leaves_its_last_words(endless: ggufs.Chain, tmp_path: Path) -> None:
    async with engine(endless.path, tmp_path, n_ctx=32768) as made:
        with pytest.raises(EngineDied, match="SIGABRT") as caught:
            async for event in made.generate(request(questions("Go"))):
                if isinstance(event, Delta):
                    assert made.worker_pid
                    os.kill(made.worker_pid, signal.SIGABRT)
    assert "llama" in caught.value.log


def test_a_failed_load_is_a_readable_error() -> None:
    """To see llama.cpp refuse a context would take more memory than tests should ask for."""

    def error(detail: str) -> CannotLoad:
        log = ["llama_init_from_model: failed to allocate buffer of size 9"]
        refused = RequestFailed(1, "load", detail)
        return load_error(
            refused, name="m", reference="m", n_ctx=8192, log=log, recoveries=(*with_less(8192), OTHER_MODEL)
        )

    smaller = Recovery(RecoveryKind.SMALLER_CONTEXT, 4096)
    assert error("context").message.startswith("A context of 8,192 tokens does not fit into memory")
    assert error("context").recoveries == (smaller, OTHER_MODEL)
    assert error("model").recoveries == (smaller, OTHER_MODEL, Recovery(RecoveryKind.VERIFY, name="m"))
    assert error("adapter").recoveries == (OTHER_MODEL,)


async def test_a_file_that_can_not_be_loaded_offers_another(tmp_path: Path) -> None:
    path = tmp_path / "no.gguf"
    path.write_bytes(b"GGUF" + bytes(100))
    async with engine(path, tmp_path, n_ctx=700) as made:
        generation = made.generate(request(questions("Hello")))
        with pytest.raises(CannotLoad, match=r"can't load no\.gguf") as caught:
            await read(generation)
    verify = Recovery(RecoveryKind.VERIFY, name=str(path))
    assert caught.value.recoveries == (Recovery(RecoveryKind.SMALLER_CONTEXT, 512), OTHER_MODEL, verify)


def test_layers_on_the_gpu_may_be_fewer() -> None:
    fewer, without = Recovery(RecoveryKind.FEWER_LAYERS, 12), Recovery(RecoveryKind.WITHOUT_GPU)
    smaller = Recovery(RecoveryKind.SMALLER_CONTEXT, 2048)
    assert with_less(4096, 25) == (smaller, fewer, without)
    assert with_less(4096, 1) == (smaller, without)
    assert with_less(4096) == (smaller,)


async def test_the_worker_ends_with_its_parent(endless: ggufs.Chain, tmp_path: Path) -> None:
    parent, worker = prefilling(endless.path, tmp_path, "word " * 10000)
    parent.kill()
    parent.wait()
    worker.wait(timeout=30)
    assert not worker.is_running()


@pytest.mark.skipif(sys.platform == "win32", reason="there the system itself refuses")
@pytest.mark.parametrize("mmap", [True, False], ids=["mapped", "read"])
async def test_a_model_that_is_loaded_is_not_deleted(mmap: bool, tiny: Path, tmp_path: Path) -> None:
    async with engine(tiny, tmp_path, mmap=mmap) as made:
        refuse_while_used([tiny])
        await made.load()
        with pytest.raises(FileError, match=f"qwenchat .process {made.worker_pid}. is using"):
            refuse_while_used([tiny])
    refuse_while_used([tiny])


async def test_names_that_are_not_text(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9 \xff")
    folder.mkdir()
    model, lora = folder / os.fsdecode(b"\xfe.gguf"), folder / os.fsdecode(b"\xfd lora.gguf")
    model.write_bytes(tiny.read_bytes())
    ggufs.write_lora(tmp_path / "lora.gguf").rename(lora)
    turns, limit = questions("word " * 300), Sampling(temperature=0.0, max_tokens=5)
    for cached in (False, True):
        async with engine(model, folder, loras=(Lora(os.fsencode(lora)),), identity="m") as made:
            said = await answer(made, turns, limit, cache_key="s")
        assert bool(said.usage.cached_tokens) is cached


@pytest.mark.skipif(not hasattr(psutil, "RLIMIT_CORE"), reason="this system has no such limit")
async def test_a_crash_leaves_no_core_file(tiny: Path, tmp_path: Path) -> None:
    async with engine(tiny, tmp_path) as made:
        await made.load()
        assert psutil.Process(made.worker_pid).rlimit(psutil.RLIMIT_CORE) == (0, 0)


async def test_a_thread_that_fails_ends_the_worker(tiny: Path, tmp_path: Path) -> None:
    async with engine(tiny, tmp_path) as made:
        await made.load()
        assert isinstance(made._worker, WorkerProcess) and made._worker._child.stdin
        made._worker._child.stdin.write(FRAME.pack(1) + b"?")  # no request
        with pytest.raises(EngineDied) as caught:
            async with asyncio.timeout(30):
                await made._worker.ask_once(Count(made._worker.number(), []))
        assert "Traceback" in caught.value.log
        assert len((await made.count(questions("Hello"))).values) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="only there do threads have priorities of their own")
async def test_threads_that_compute_make_way_for_a_screen(tiny: Path, tmp_path: Path) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    for beside_screen in (False, True):
        async with engine(tiny, tmp_path, threads=3, beside_screen=beside_screen) as made:
            await answer(made, questions("Hello"), Sampling(max_tokens=5))
            first = made.worker_pid
            threads = [int(task.name) for task in Path(f"/proc/{first}/task").iterdir()]
            lower = [each for each in threads if os.getpriority(os.PRIO_PROCESS, each) > own]
        assert len(lower) == (2 if beside_screen else 0) and first not in lower
