"""Paths are found by a few letters of them, the likeliest first, in any folder, and by pinyin."""

from pathlib import Path

import pytest

from qwenchat.tui import path_search
from qwenchat.tui.path_search import PathSearch, search_for

NAMES = (
    "README.md",
    "src/read_me_later.py",
    "src/widgets/prompt.py",
    "src/promptly/other.py",
    "docs/my notes.txt",
    "docs/报告.docx",
    "docs/部署说明 v2.md",
    "deep/a/b/c/prompt.py",
)


def tree(folder: Path) -> PathSearch:
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    search = PathSearch(folder)
    search.read()
    return search


def best(search: PathSearch, words: str) -> list[str]:
    return [found.path.relative_to(search.folder).as_posix() for found in search.best(words, 50)]


@pytest.mark.parametrize(
    ("words", "first"),
    [
        ("prompt.py", "src/widgets/prompt.py"),
        ("wprompt", "src/widgets/prompt.py"),
        ("deep/prompt", "deep/a/b/c/prompt.py"),
        ("README", "README.md"),
        ("readmelater", "src/read_me_later.py"),
        ("mynotes", "docs/my notes.txt"),
        ("my no", "docs/my notes.txt"),
        ("docs\\my", "docs/my notes.txt"),
        ("报告", "docs/报告.docx"),
        ("bg", "docs/报告.docx"),
        ("bssm", "docs/部署说明 v2.md"),
        ("bssmv2", "docs/部署说明 v2.md"),
        ("docs", "docs"),
    ],
)
def test_the_likeliest_path_is_first(tmp_path: Path, words: str, first: str) -> None:
    assert best(tree(tmp_path), words)[0] == first


def test_letters_count_in_their_order_and_nothing_typed_finds_what_is_near(tmp_path: Path) -> None:
    search = tree(tmp_path)
    assert best(search, "zzz") == best(search, "ypt.pmorp") == []
    assert best(search, "")[:4] == ["src", "deep", "docs", "README.md"]
    assert len(search.best("", 3)) == 3
    found = search.best("prompt.py", 1)[0]
    assert (found.name, found.folder, found.is_folder) == ("prompt.py", "src/widgets/", False)


def test_letters_that_mean_something_in_patterns_are_letters(tmp_path: Path) -> None:
    (tmp_path / "a[1]^-.txt").write_text("")
    search = PathSearch(tmp_path)
    search.read()
    assert best(search, "[1]^-") == best(search, "]^") == ["a[1]^-.txt"]
    assert best(search, "[2]") == []


def test_a_path_that_says_where_it_begins_is_searched_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    (home / "My Documents" / "in").mkdir(parents=True)
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    assert search_for("read", here) == (here, "", "read")
    assert search_for("src/read", here) == (here, "", "src/read")
    assert search_for("~", here) == (home, "~/", "")
    assert search_for("~/rep", here) == (home, "~/", "rep")
    assert search_for("~/My Documents/in/x", here) == (home / "My Documents" / "in", "~/My Documents/in/", "x")
    assert search_for("~/nowhere/x", here) == (home, "~/", "nowhere/x")
    assert search_for(f"{home.as_posix()}/a", here) == (home, f"{home.as_posix()}/", "a")
    assert search_for("../home/x", here)[0].resolve() == home
    assert search_for("~nobody-of-that-name/x", here) == (here, "", "~nobody-of-that-name/x")
    assert search_for("/\0/x", here)[2] == "\0/x"


def test_a_search_ends_at_its_limit_and_when_it_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path)
    monkeypatch.setattr(path_search, "MOST_ENTRIES", 3)
    few = PathSearch(tmp_path)
    few.read()
    assert few.is_complete
    assert len(best(few, "")) == 3
    stopped = PathSearch(tmp_path)
    stopped.stop()
    stopped.read()
    assert best(stopped, "") == []
    gone = PathSearch(tmp_path / "nowhere")
    gone.read()
    assert gone.is_complete and best(gone, "") == []
