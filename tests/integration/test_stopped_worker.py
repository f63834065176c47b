"""A worker that is stopped, as a debugger or a frozen disk stops it: nobody waits for it longer than a limited time."""

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from qwenchat.chat.events import Delta, Prefilling
from qwenchat.chat.sampling import Sampling
from qwenchat.engines.local import link
from qwenchat.engines.local.engine import LocalEngine
from qwenchat.errors import EngineDied
from tests.fakes import ggufs
from tests.fakes.commands import environment, qwenchat
from tests.fakes.engines import answer, engine, questions, read, request

LIMIT_S = 60
"""No wait ends before the machine allows; without a bound, none of them ends at all."""


def stop(made: LocalEngine) -> psutil.Process:
    assert made.worker_pid
    os.kill(made.worker_pid, signal.SIGSTOP)
    return psutil.Process(made.worker_pid)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for seconds only."""
    monkeypatch.setattr(link, "PING_EVERY_S", 0.5)
    monkeypatch.setattr(link, "START_PINGS", 5)
    monkeypatch.setattr(link, "CANCEL_S", 1.0)


@pytest.mark.usefixtures("impatient")
async def test_at_load_and_while_counting(tiny: Path, tmp_path: Path) -> None:
    async with engine(tiny, tmp_path) as made, asyncio.timeout(LIMIT_S):
        loading = asyncio.create_task(made.load())
        while made.worker_pid is None:
            await asyncio.sleep(0)
        stop(made)
        with pytest.raises(EngineDied, match="did not respond"):
            await loading
        await made.load()
        stopped = stop(made)
        with pytest.raises(EngineDied, match="did not respond"):
            await made.count(questions("word " * 50_000))  # more than the pipe holds
        assert not stopped.is_running()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("cancels", [True, False], ids=["cancelled", "waiting"])
@pytest.mark.parametrize("moment", [Prefilling, Delta])
async def test_in_prefill_and_in_decode(moment: type, cancels: bool, endless: ggufs.Chain, tmp_path: Path) -> None:
    async with engine(endless.path, tmp_path, n_ctx=32768) as made, asyncio.timeout(LIMIT_S):
        generation = made.generate(request(questions("word " * 200)))
        async for event in generation:
            if isinstance(event, moment):
                stopped = stop(made)
                break
        if cancels:
            await generation.cancel()
            assert (await read(generation)).finished.reason == "cancelled"
        else:
            with pytest.raises(EngineDied, match="did not respond"):
                await read(generation)
        assert not stopped.is_running()


@pytest.mark.parametrize("cancels", [True, False], ids=["cancelled", "waiting"])
async def test_one_that_computes_is_waited_for_longer(
    cancels: bool, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine a worker gets so little of the processor that it is silent for a while."""
    monkeypatch.setattr(link, "PING_EVERY_S", 0.1)
    monkeypatch.setattr(link, "CANCEL_S", 0.4)
    looks = itertools.count()

    async with engine(tiny, tmp_path) as made, asyncio.timeout(LIMIT_S):
        await made.load()
        worker = stop(made)

        def computed_s(_link: link.WorkerLink) -> float:
            look = next(looks)
            if look == 2 * link.SILENT_PINGS + 4:  # two looks at a ping
                worker.resume()
            return float(look)

        monkeypatch.setattr(link.WorkerLink, "_processor_s", computed_s)
        generation = made.generate(request(questions("Hi"), Sampling(max_tokens=3)))
        if cancels:
            await generation.cancel()
        assert (await read(generation)).finished.reason == ("cancelled" if cancels else "length")
        assert worker.pid == made.worker_pid


@pytest.mark.usefixtures("impatient")
async def test_at_close(tiny: Path, tmp_path: Path) -> None:
    async with engine(tiny, tmp_path) as made, asyncio.timeout(LIMIT_S):
        await answer(made, questions("word " * 100), Sampling(max_tokens=3), cache_key="s")
        stopped = stop(made)
        await made.close()
        assert not stopped.is_running()


@pytest.fixture
def asking(endless: ggufs.Chain, home: Path) -> Iterator["subprocess.Popen[str]"]:
    """An `ask` that decodes and whose worker is stopped."""
    words = ["ask", "-m", str(endless.path), "--ctx", "32768", "--jsonl", "hi"]
    with subprocess.Popen(
        [sys.executable, "-m", "qwenchat", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as program:
        assert program.stdout
        while json.loads(program.stdout.readline())["event"] != "delta":
            pass
        for worker in psutil.Process(program.pid).children():
            worker.suspend()
        yield program
        program.kill()


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT, signal.SIGINT]], ids=["sigterm", "ctrl-c-twice"])
def test_ask_ends_and_saves_the_partial_answer(signals: list[signal.Signals], asking: "subprocess.Popen[str]") -> None:
    workers = psutil.Process(asking.pid).children()
    for each in signals:
        asking.send_signal(each)
    out, err = asking.communicate(timeout=LIMIT_S)
    assert asking.returncode == 130, err
    assert workers and not any(worker.is_running() for worker in workers)
    assert json.loads(out.splitlines()[-1])["finish_reason"] == "cancelled"
    (session,) = json.loads(qwenchat("sessions", "list", "--json").stdout)["sessions"]
    saved = json.loads(qwenchat("sessions", "show", session["id"], "--json").stdout)["messages"][1]
    assert saved["status"] == "stopped" and saved["text"].startswith("once")
