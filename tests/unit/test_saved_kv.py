"""Saved KV caches stay within their limit, even if programs die while writing them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from qwenchat.engines.local.protocol import LoadPlan
from qwenchat.engines.local.saved_kv import ExactPrefix, SavedKV

PLAN = LoadPlan(path=b"m", identity="i", n_ctx=512, threads=1)


def keep(saved: SavedKV, session: str, size: int) -> Path:
    path = saved.path(session, PLAN, "b")
    temporary = saved.temporary(session, path)
    assert temporary
    temporary.write_bytes(bytes(size))
    saved.persist(session, temporary, path, ExactPrefix())
    return path


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    saved = SavedKV(tmp_path, 250)
    first, second = keep(saved, "1", 100), keep(saved, "2", 100)
    os.utime(second, (1, 1))
    assert saved.check(first)
    keep(saved, "3", 100)
    assert saved.check(first)
    assert not saved.check(second)
    assert sum(file.stat().st_size for file in tmp_path.glob("*.kv")) <= 250


def test_what_a_dead_program_left_is_removed_and_a_living_ones_stays(tmp_path: Path) -> None:
    saved = SavedKV(tmp_path, 1000)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left, living = tmp_path / f"aa.{gone.pid}.part", tmp_path / f"aa.{os.getpid()}.part"
    for file in (left, living):
        file.write_bytes(bytes(900))
    keep(saved, "1", 100)
    assert not left.exists()
    assert living.exists()


def test_a_state_that_another_program_removes_meanwhile_fails_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = SavedKV(tmp_path, 1000)
    path = keep(saved, "1", 100)
    monkeypatch.setattr(Path, "glob", lambda self, pattern: [path, tmp_path / "gone.kv"] if pattern == "*.kv" else [])
    keep(saved, "2", 100)
    assert saved.check(path)


def test_a_chat_that_another_program_deletes_while_it_is_saved_leaves_nothing(tmp_path: Path) -> None:
    asked: list[str] = []

    def exists(session: str) -> bool:
        asked.append(session)
        return len(asked) == 1

    keep(SavedKV(tmp_path, 1000, exists), "1", 100)
    assert asked == ["1", "1"] and not [*tmp_path.iterdir()]
