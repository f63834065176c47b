"""Collections read only what has changed, whatever happens to the files and to the program."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from qwenchat.documents.collections import CollectionProgress, Collections, Update
from qwenchat.documents.index import DocumentIndex, collection_owner
from qwenchat.documents.walk import Skip
from qwenchat.errors import FileError, NotFound, WrongUse
from tests.fakes.commands import ROOT, environment

OWNER = collection_owner("notes")


@pytest.fixture
def index(tmp_path: Path) -> Iterator[DocumentIndex]:
    opened = DocumentIndex(tmp_path / "data" / "documents.db")
    yield opened
    opened.close()


@pytest.fixture
def collections(tmp_path: Path, index: DocumentIndex) -> Collections:
    return Collections(tmp_path / "data" / "collections.json", lambda: index)


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """A folder with files of several kinds."""
    folder = tmp_path / "notes"
    (folder / "deep").mkdir(parents=True)
    (folder / "boats.md").write_text("# Boats\n\nThe ferry to Kessrin leaves at nine.\n")
    (folder / "deep" / "港口.txt").write_text("港务长每天清点船只。", "gb18030")
    (folder / "same.txt").write_text("Twice the same.")
    (folder / "deep" / "same.txt").write_text("Twice the same.")
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (folder / "program.bin").write_bytes(bytes(range(256)) * 40)
    (folder / "broken.docx").write_bytes(b"PK\x03\x04 and nothing else")
    (folder / ".hidden.txt").write_text("hidden")
    (folder / "build.log").write_text("ignored")
    (folder / ".gitignore").write_text("*.log\n")
    (folder / "away.txt").symlink_to("/etc/hostname")
    return folder


async def updated(collections: Collections, *paths: Path) -> Update:
    if paths:
        collections.put("notes", paths)
    return await collections.update("notes")


def names(index: DocumentIndex) -> list[str]:
    return sorted(document.name for document in index.owned(OWNER))


async def test_a_folder(collections: Collections, index: DocumentIndex, notes: Path) -> None:
    update = await updated(collections, notes)
    assert (update.read, update.not_text, update.removed, update.unchanged) == (4, 2, 0, 0)
    assert dict(update.skipped) == {Skip.HIDDEN: 2, Skip.IGNORED: 1, Skip.LINK: 1}
    assert list(update.problems) == [str(notes / "broken.docx")]
    assert names(index) == ["boats.md", "deep/same.txt", "deep/港口.txt", "same.txt"]
    assert index.search([OWNER], ["港务长"], 1)[0].document == "deep/港口.txt"


async def test_only_changed_files_are_read_again(collections: Collections, index: DocumentIndex, notes: Path) -> None:
    await updated(collections, notes)
    again = await updated(collections)
    assert (again.read, again.unchanged, again.removed, again.not_text) == (0, 7, 0, 0)
    assert list(again.problems) == [str(notes / "broken.docx")]
    (notes / "boats.md").write_text("No ferry any more, only zeppelins.")
    (notes / "same.txt").unlink()
    (notes / "deep" / "港口.txt").rename(notes / "harbour.txt")
    (notes / "broken.docx").unlink()
    changed = await updated(collections)
    assert (changed.read, changed.unchanged, changed.removed, changed.problems) == (2, 3, 3, {})
    assert names(index) == ["boats.md", "deep/same.txt", "harbour.txt"]
    assert index.search([OWNER], ["Kessrin"], 1) == []
    assert index.search([OWNER], ["zeppelins"], 1)[0].document == "boats.md"


async def test_deleted_words_leave_the_file(
    collections: Collections, index: DocumentIndex, notes: Path, tmp_path: Path
) -> None:
    await updated(collections, notes)
    (notes / "boats.md").write_text("Nothing.")
    await updated(collections)
    written = b"".join(file.read_bytes() for file in (tmp_path / "data").glob("documents.db*"))
    assert b"essrin" not in written and "清点".encode() in written
    collections.remove("notes")
    written = b"".join(file.read_bytes() for file in (tmp_path / "data").glob("documents.db*"))
    assert "清点".encode() not in written and "务长".encode() not in written


async def test_a_folder_that_is_away_loses_nothing(collections: Collections, index: DocumentIndex, notes: Path) -> None:
    await updated(collections, notes)
    notes.rename(notes.with_name("unplugged"))
    update = await updated(collections)
    assert (update.read, update.removed) == (0, 0) and "No such file" in update.problems[str(notes)]
    assert len(names(index)) == 4
    notes.with_name("unplugged").rename(notes)
    assert (await updated(collections)).read == 0


async def test_a_folder_that_can_not_be_looked_into(
    collections: Collections, index: DocumentIndex, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await updated(collections, notes)
    listed = os.scandir

    def refuse(path: Path) -> object:
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "scandir", refuse)
    update = await updated(collections)
    assert (update.removed, update.skipped[Skip.UNREADABLE]) == (0, 1) and len(names(index)) == 4


async def test_of_too_many_files_the_nearest_are_read(
    collections: Collections, index: DocumentIndex, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qwenchat.documents.collections.MOST_FILES", 5)
    update = await updated(collections, notes)
    assert "more than 5 files" in update.problems[str(notes)]
    assert names(index) == ["boats.md", "same.txt"]


async def test_single_files_and_several_folders(collections: Collections, index: DocumentIndex, notes: Path) -> None:
    await updated(collections, notes / "boats.md", notes / "deep")
    assert names(index) == ["boats.md", "same.txt", "港口.txt"]
    await updated(collections, notes / "deep" / ".." / "boats.md")
    assert collections.find("notes").paths == (notes / "boats.md", notes / "deep")
    assert [each.name for each in collections.remove_path(notes / "deep")] == ["notes"]
    assert names(index) == ["boats.md"]
    collections.remove_path(notes / "boats.md")
    assert collections.all() == [] and index.owners() == []


async def test_a_collection_with_one_file_that_is_shared(
    collections: Collections, index: DocumentIndex, notes: Path
) -> None:
    await updated(collections, notes / "boats.md")
    collections.put("others", [notes])
    await collections.update("others")
    collections.remove("notes")
    assert index.search([collection_owner("others")], ["Kessrin"], 1)


def test_names(collections: Collections, notes: Path) -> None:
    for name in ("", "two\nlines", "x" * 81, " x"):
        with pytest.raises(WrongUse):
            collections.put(name, [notes])
    with pytest.raises(FileError):
        collections.put("notes", [notes / "nowhere"])
    with pytest.raises(NotFound):
        collections.find("notes")
    with pytest.raises(NotFound):
        collections.remove_path(notes)
    collections.put(str(notes), [notes])
    assert [each.name for each in collections.all()] == [str(notes)]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"version": 9, "collections": {}}', "\udcff"])
def test_a_file_that_is_no_list_of_collections_is_not_changed(
    collections: Collections, notes: Path, tmp_path: Path, text: str
) -> None:
    file = tmp_path / "data" / "collections.json"
    file.write_text(text, errors="surrogateescape")
    for use in (collections.all, lambda: collections.put("notes", [notes])):
        with pytest.raises(FileError):
            use()
    assert file.read_text(errors="surrogateescape") == text


async def test_cancelling_keeps_what_was_read(collections: Collections, index: DocumentIndex, notes: Path) -> None:
    def stop(progress: CollectionProgress) -> None:
        if progress.done == 2:
            task.cancel()

    collections.put("notes", [notes])
    task = asyncio.ensure_future(collections.update("notes", stop))
    with pytest.raises(asyncio.CancelledError):
        await task
    before = len(index.files(OWNER))
    assert before >= 2
    update = await updated(collections)
    assert update.unchanged == before and len(names(index)) == 4


UPDATING = """
import asyncio, sys
from pathlib import Path
from qwenchat.documents.collections import Collections
from qwenchat.documents.index import DocumentIndex
folder = Path(sys.argv[1])
index = DocumentIndex(folder / "documents.db")
collections = Collections(folder / "collections.json", lambda: index)
collections.put("notes", [Path(sys.argv[2])])
update = asyncio.run(collections.update("notes", lambda progress: print(progress.done, flush=True)))
print("read", update.read, flush=True)
"""


def started(data: Path, folder: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", UPDATING, str(data), str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment())


def many(folder: Path, count: int) -> Path:
    folder.mkdir()
    for n in range(count):
        (folder / f"{n:04}.txt").write_text(f"Ship {n} carries {n * 7} barrels. " * 100)
    return folder


def test_killed_in_the_middle(tmp_path: Path) -> None:
    folder, data = many(tmp_path / "ships", 400), tmp_path / "data"
    with started(data, folder) as child:
        assert child.stdout
        for line in child.stdout:
            if int(line) == 350:
                child.send_signal(signal.SIGKILL)
                break
    index = DocumentIndex(data / "documents.db")
    try:
        before = len(index.files(OWNER))
        assert before > 0
        again = asyncio.run(Collections(data / "collections.json", lambda: index).update("notes"))
        assert (again.unchanged, again.read) == (before, 400 - before)
        assert len(names(index)) == 400
        assert index.search([OWNER], ["2793 barrels"], 1)[0].document == "0399.txt"
    finally:
        index.close()


def test_two_programs_at_once(tmp_path: Path) -> None:
    folder, data = many(tmp_path / "ships", 120), tmp_path / "data"
    with started(data, folder) as one, started(data, folder) as other:
        texts = [child.communicate(timeout=120)[0] for child in (one, other)]
        assert (one.returncode, other.returncode) == (0, 0)
    assert all("read" in text for text in texts)
    index = DocumentIndex(data / "documents.db")
    try:
        assert len(names(index)) == 120
        assert len(index.search([OWNER], ["barrels"], 1000)) == sum(each.chunks for each in index.owned(OWNER))
    finally:
        index.close()
    assert json.loads((data / "collections.json").read_text())["collections"] == {"notes": [str(folder)]}
    assert (data / "collections.json").stat().st_mode & 0o777 == 0o600 == (data / "documents.db").stat().st_mode & 0o777


def test_names_of_files_that_are_not_utf8(tmp_path: Path, collections: Collections, index: DocumentIndex) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    odd = os.fsencode(folder) + b"/\xff\x1b[31m.txt"
    Path(os.fsdecode(odd)).write_text("An odd name.")
    collections.put("notes", [Path(os.fsdecode(odd)), folder])
    assert asyncio.run(collections.update("notes")).read == 1
    assert asyncio.run(collections.update("notes")).read == 0
    assert "\x1b" not in names(index)[0]
