"""`qwenchat docs`: what is added, listed, updated and removed, and how it fails."""

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from qwenchat.documents.index import collection_owner
from qwenchat.runtime.program import Program
from tests.fakes.commands import ROOT, environment, qwenchat, without_privileges


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    folder = tmp_path / "papers"
    folder.mkdir()
    (folder / "one.md").write_text("# One\n\nThe ferry to Kessrin.\n")
    (folder / "二.txt").write_text("港务长每天清点船只。")
    (folder / "program.bin").write_bytes(bytes(1000))
    return folder


def stored() -> dict[str, list[str]]:
    """Return the names of the documents of each collection."""
    program = Program.here()
    collections = {
        each.name: program.documents.owned(collection_owner(each.name)) for each in program.collections.all()
    }
    program.close()
    return {name: [document.name for document in owned] for name, owned in collections.items()}


def test_nothing_is_made_before_something_is_added(home: Path) -> None:
    done = qwenchat("docs", "list")
    assert (done.returncode, done.stdout) == (0, "") and "qwenchat docs add" in done.stderr
    assert qwenchat("docs", "update").returncode == 0
    assert qwenchat("docs", "list", "papers").returncode == 3
    assert not (home / "data" / "documents.db").exists()


def test_add_list_update_and_remove(papers: Path) -> None:
    done = qwenchat("docs", "add", papers, "--collection", "work")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "work: 2 documents read; 1 left out (hidden, ignored by git, no text)\n"
    (work,) = json.loads(qwenchat("docs", "list", "--json").stdout)["collections"]
    assert (
        work == {"name": "work", "paths": [str(papers)], "documents": 2, "tokens": work["tokens"]}
        and work["tokens"] > 9
    )
    assert qwenchat("docs", "list").stdout == f"work\t2\t~{work['tokens']}\t{papers}\n"
    documents = json.loads(qwenchat("docs", "list", "work", "--json").stdout)["documents"]
    assert [each["name"] for each in documents] == ["one.md", "二.txt"]
    (papers / "one.md").write_text("Something else.")
    (papers / "二.txt").unlink()
    (updated,) = json.loads(qwenchat("docs", "update", "--json").stdout)["collections"]
    assert (updated["name"], updated["read"], updated["unchanged"], updated["removed"]) == ("work", 1, 1, 1)
    assert json.loads(qwenchat("docs", "remove", "work", "--json").stdout) == {"removed": ["work"]}
    assert stored() == {} and (papers / "one.md").exists()


def test_a_path_is_removed_from_the_collections_that_have_it(papers: Path) -> None:
    program = Program.here()
    for name, paths in {"a": ["one.md"], "b": ["one.md", "二.txt"]}.items():
        program.collections.put(name, [papers / path for path in paths])
        asyncio.run(program.collections.update(name))
    program.close()
    done = qwenchat("docs", "remove", papers / "one.md", "--json")
    assert json.loads(done.stdout) == {"removed": ["a", "b"]}
    assert stored() == {"b": ["二.txt"]}
    assert qwenchat("docs", "remove", papers / "one.md").returncode == 3
    assert "b" in qwenchat("docs", "remove", "nothing").stderr


def test_files_that_can_not_be_read(papers: Path) -> None:
    (papers / "broken.docx").write_bytes(b"PK\x03\x04 and nothing else")
    inside = qwenchat("docs", "add", papers)
    assert inside.returncode == 0 and f"{papers}/broken.docx is broken" in inside.stderr
    assert inside.stderr.count("broken.docx") == 1
    named = qwenchat("docs", "add", papers / "broken.docx", papers / "one.md", "--json")
    assert named.returncode == 8
    assert list(json.loads(named.stdout)["collections"][0]["problems"]) == [str(papers / "broken.docx")]
    assert "broken.docx" in qwenchat("docs", "list", "documents").stderr
    missing = qwenchat("docs", "add", papers / "nowhere")
    assert missing.returncode == 8 and "nowhere" in missing.stderr
    assert qwenchat("docs", "add", "--collection", "two\nlines", papers).returncode == 2


def test_a_home_that_can_not_be_written(papers: Path, home: Path) -> None:
    qwenchat("docs", "add", papers)
    (home / "data").chmod(0o555)
    for file in (home / "data").iterdir():
        if file.is_file():
            file.chmod(0o444)
    try:
        by = without_privileges()
        assert qwenchat("docs", "list", by=by).stdout.startswith("documents\t2")
        for words in (("add", str(papers)), ("remove", "documents")):
            done = qwenchat("docs", *words, by=by)
            assert done.returncode in (7, 8) and len(done.stderr.splitlines()) == 2, done.stderr
    finally:
        (home / "data").chmod(0o755)


@pytest.mark.parametrize("damage", [b"", b"not a database" * 100])
def test_a_damaged_index_is_made_again(papers: Path, home: Path, damage: bytes) -> None:
    qwenchat("docs", "add", papers, "--collection", "work")
    (home / "data" / "documents.db").write_bytes(damage)
    done = qwenchat("docs", "update")
    assert done.returncode == 0 and "work: 2 documents read" in done.stderr
    assert stored() == {"work": ["one.md", "二.txt"]}


def test_progress_and_ctrl_c_on_a_terminal(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for n in range(3000):
        (folder / f"{n:04}.txt").write_text(f"Ship {n}. " * 300)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "qwenchat", "docs", "add", str(folder)]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=theirs, env=environment(TERM="xterm"), cwd=ROOT
    ) as child:
        os.close(theirs)
        shown = b""
        while b"Reading 4" not in shown:
            shown += os.read(ours, 1000)
        child.send_signal(signal.SIGINT)
        try:
            while piece := os.read(ours, 1000):
                shown += piece
        except OSError:  # how Linux reports the end of a terminal
            pass
    os.close(ours)
    assert child.returncode == 130 and b"Stopped." in shown
    assert 0 < len(stored()["documents"]) < 3000
