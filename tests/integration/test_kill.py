"""kill -9 at any moment loses at most the last half second of an answer."""

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from qwenchat.chat.ids import UUIDv7, unix_ms
from qwenchat.chat.message import Role, Status
from qwenchat.chat.session import Session
from qwenchat.chat.turn import Turns
from qwenchat.sessions.store import Store
from tests.fakes.commands import ROOT, environment
from tests.fakes.scripted import ScriptedEngine
from tests.fakes.streaming_child import ANSWER

KILLS = 100
AT_ONCE = 5
LATEST_S = 1.0
MAY_BE_MISSING_S = 0.5


@contextmanager
def children(database: Path, folder: Path) -> Iterator[Callable[[str], int]]:
    """Yield a function that starts a process which streams into a session, and returns its id."""
    command = [sys.executable, "-m", "tests.fakes.streaming_child", str(database), str(folder)]
    with subprocess.Popen(
        command, text=True, bufsize=1, cwd=ROOT, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as nursery:

        def start(session: str) -> int:
            assert nursery.stdin and nursery.stdout
            nursery.stdin.write(session + "\n")
            return int(nursery.stdout.readline())

        yield start


def spoken(file: Path) -> tuple[int, int]:
    """Return how many characters were said up to half a second before the child's last word, and in all."""
    lines = file.read_text().splitlines() if file.exists() else []
    said = [(float(when), int(length)) for when, length in map(str.split, lines)]
    last = said[-1][0] if said else 0.0
    return (
        sum(length for when, length in said if when <= last - MAY_BE_MISSING_S),
        sum(length for _when, length in said),
    )


def wait_until(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def test_kill_at_any_moment(tmp_path: Path) -> None:
    database, folder = tmp_path / "data" / "sessions.db", tmp_path / "told"
    folder.mkdir()
    store, chance = Store(database), random.Random()
    caught = 0
    with children(database, folder) as start:
        for round_ in range(KILLS // AT_ONCE):
            names = [f"s{round_:02}-{n}" for n in range(AT_ONCE)]
            for name in names:
                store.create(Session(id=name, created=0, updated=0))
            born = {name: start(name) for name in names}
            moments = sorted((chance.uniform(0, LATEST_S), name) for name in names)
            begun = time.monotonic()
            for moment, name in moments:
                await asyncio.sleep(begun + moment - time.monotonic())  # a moment, not a wait for anything
                kill(born[name])
            store.close()
            store = Store(database)
            check_whole(database)
            caught += sum([await check(store, folder, name) for name in names])
    assert caught > KILLS / 2
    store.close()


async def check(store: Store, folder: Path, name: str) -> bool:
    """Check what is left of one conversation, continue it, and return whether it was caught in an answer."""
    must, said = spoken(folder / name)
    branch = store.branch(store.session(name).leaf)
    assert said == 0 or len(branch) == 2
    if len(branch) < 2:  # killed before the question or its empty answer was stored
        return False
    question, answer = branch
    assert (question.role, question.text) == (Role.USER, f"question of {name}")
    assert answer.status is Status.INTERRUPTED
    assert must <= len(answer.text) <= said
    assert ANSWER.startswith(answer.text)
    assert answer.token_ids == tuple(map(ord, answer.text))
    engine = ScriptedEngine((" and on",), n_ctx=1 << 20)
    turns = Turns(store=store, engine=engine, new_id=UUIDv7(), clock=unix_ms)
    async for _event in turns.continue_answer(answer):
        pass
    carried = store.branch(answer.id)[-1]
    assert (carried.text, carried.status) == (answer.text + " and on", Status.COMPLETE)
    assert any(hit.session == name for hit in store.search.find(f'"{name}"').hits)
    return True


def check_whole(database: Path) -> None:
    with sqlite3.connect(database) as plain:
        assert plain.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert plain.execute("PRAGMA foreign_key_check").fetchall() == []
        plain.execute("INSERT INTO words (words) VALUES ('integrity-check')")
        plain.execute("INSERT INTO reasoning (reasoning) VALUES ('integrity-check')")
    plain.close()


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not alive(pid))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_two_programs_at_once(tmp_path: Path) -> None:
    """A second program sees the first one's sessions, leaves its answers alone and may not write into them."""
    database, folder = tmp_path / "data" / "sessions.db", tmp_path / "told"
    folder.mkdir()
    first = Store(database)
    first.create(Session(id="s", created=0, updated=0))
    with children(database, folder) as start:
        child = start("s")
        wait_until(lambda: spoken(folder / "s")[1] > 20)
        second = Store(database)
        (answer,) = [message for message in second.tree("s") if message.role is Role.ASSISTANT]
        assert answer.status is Status.STREAMING
        wait_until(lambda: len(second.branch(answer.id)[-1].text) > len(answer.text))
        second.create(Session(id="t", created=0, updated=0))
        assert first.session("t") == second.session("t")
        kill(child)
        assert first.tree("s")[answer.id].status is Status.STREAMING
        assert second.settle() == 1
        assert first.tree("s")[answer.id].status is Status.INTERRUPTED
        with first.streaming("s"):
            assert second.settle() == 0
