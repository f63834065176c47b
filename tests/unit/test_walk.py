"""A folder is walked as git sees it, without following anything out of it."""

import os
import shutil
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from qwenchat.documents.walk import Skip, WalkedPath, walk


def make(folder: Path, *names: str, **ignored: str) -> None:
    """Make files below a folder; `ignored` are texts of its `.gitignore` files by the folder's name, `_` for itself."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    for place, text in ignored.items():
        (folder / place.strip("_") / ".gitignore").write_text(text)


def files(folder: Path) -> list[str]:
    return [entry.name for entry in walk(folder) if not entry.skipped and not entry.is_folder]


def skipped(folder: Path) -> dict[str, Skip]:
    return {entry.name: entry.skipped for entry in walk(folder) if entry.skipped}


def test_near_files_come_before_deep_ones_and_names_are_sorted(tmp_path: Path) -> None:
    make(tmp_path, "b/one.md", "a/deep/two.md", "z.md", "名字 有空格.txt")
    assert files(tmp_path) == ["z.md", "名字 有空格.txt", "b/one.md", "a/deep/two.md"]
    assert WalkedPath("a", is_folder=True) in list(walk(tmp_path))


def test_it_agrees_with_git_about_what_is_ignored(tmp_path: Path) -> None:
    make(
        tmp_path,
        *(
            "keep.py",
            "a.log",
            "src/a.log",
            "src/important.log",
            "build/x",
            "src/build/y",
            "docs/x.tmp",
            "docs/deep/x.tmp",
        ),
        *("docs/keep.tmp", "node_modules/m/i.js", "src/only_here.txt", "only_here.txt", "a b.txt", "#odd", "!odd"),
        _="*.log\n!important.log\n/build/\nnode_modules\n*.tmp\n# a comment\n\\#odd\na\\ b.txt\n",
        docs="!keep.tmp\n",
        src="only_here.txt\r\n",
    )
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    listed = subprocess.run(
        ["git", "-C", tmp_path, "ls-files", "-z", "--others", "--exclude-standard"], check=True, capture_output=True
    )
    by_git = {name for name in listed.stdout.decode().split("\0") if name and not name.endswith(".gitignore")}
    assert set(files(tmp_path)) == by_git
    assert {f"src/{name}" for name in files(tmp_path / "src")} == {each for each in by_git if each.startswith("src/")}
    assert skipped(tmp_path)["node_modules"] is Skip.IGNORED


def test_ignore_files_above_a_folder_that_is_in_no_repository_do_not_count(tmp_path: Path) -> None:
    make(tmp_path, "inner/a.log", _="*.log")
    assert files(tmp_path / "inner") == ["a.log"]
    (tmp_path / ".git").mkdir()
    assert files(tmp_path / "inner") == []


def test_hidden_files_links_and_devices_are_skipped(tmp_path: Path) -> None:
    make(tmp_path, ".env", ".git/config", "in/real.txt")
    if sys.platform == "win32":
        assert files(tmp_path) == ["in/real.txt"]
        return
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "out").symlink_to("/etc")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "in" / "link.txt").symlink_to("/etc/passwd")
    assert files(tmp_path) == ["in/real.txt"]
    assert skipped(tmp_path) == {
        ".env": Skip.HIDDEN,
        ".git": Skip.HIDDEN,
        "fifo": Skip.SPECIAL,
        "out": Skip.LINK,
        "loop": Skip.LINK,
        "in/link.txt": Skip.LINK,
    }


def test_a_folder_that_can_not_be_listed_is_said_and_passed_over(tmp_path: Path) -> None:
    make(tmp_path, "a/x", "b/y")
    walking = walk(tmp_path)
    assert next(walking) == WalkedPath("a", is_folder=True)
    shutil.rmtree(tmp_path / "a")
    rest = list(walking)
    assert WalkedPath("a", is_folder=True, skipped=Skip.UNREADABLE) in rest
    assert WalkedPath("b/y", is_folder=False) in rest


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        next(walk(tmp_path / "nowhere"))


def test_a_hostile_ignore_file_costs_no_time_and_its_other_lines_count(tmp_path: Path) -> None:
    make(tmp_path, "a" * 200, "b.log", _="*a" * 40 + "b\n!\n/\n\x00\n[\n" + "*.log\n")
    assert files(tmp_path) == ["a" * 200]


def test_it_is_lazy(tmp_path: Path) -> None:
    make(tmp_path, "a/b/c/d", "e")
    assert [entry.name for entry in islice(walk(tmp_path), 2)] == ["a", "e"]
