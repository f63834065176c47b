"""A folder becomes documents; what is left out is said, and one bad file does not stop the rest."""

import asyncio
from pathlib import Path

import pytest

from qwenchat.documents import folder as of_folders
from qwenchat.documents.document import Document
from qwenchat.documents.folder import read_folder
from qwenchat.errors import FileError
from qwenchat.text import files


async def read(path: Path, name: str) -> Document:
    return Document(name=name, media_type="text/plain", text=files.read(path).text)


def make(folder: Path, **texts: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / name.replace("_in_", "/").replace("_dot_", ".")).parent.mkdir(exist_ok=True)
        (folder / name.replace("_in_", "/").replace("_dot_", ".")).write_bytes(text)
    return folder


async def test_every_file_with_text_is_a_document_and_the_rest_is_said(tmp_path: Path) -> None:
    notes = make(tmp_path / "notes", a_dot_md=b"one", sub_in_b_dot_txt=b"two", bad_dot_bin=b"\0\1\2", empty=b" \n")
    (notes / ".gitignore").write_text("*.log\n")
    (notes / ".git").mkdir()
    (notes / "x.log").write_text("no")
    (notes / "out.txt").symlink_to("/etc/passwd")
    found = await read_folder(notes, read)
    assert [(each.name, each.text) for each in found.documents] == [("notes/a.md", "one"), ("notes/sub/b.txt", "two")]
    assert found.skipped == (f"{notes / 'bad.bin'} is not a text file.", "notes/empty is empty.")
    assert found.left_out == ("2 hidden entries", "1 entry that .gitignore names", "1 link")


async def test_limits_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = make(tmp_path / "notes", **{f"f{number}": b"x" * 600 for number in range(5)})
    monkeypatch.setattr(of_folders, "MOST_FILES", 3)
    monkeypatch.setattr(of_folders, "MOST_BYTES", 1300)
    found = await read_folder(notes, read)
    assert [each.name for each in found.documents] == ["notes/f0", "notes/f1"]
    assert len(found.skipped) == 1 and "notes/f2 is beyond the limit" in found.skipped[0]
    assert found.left_out == ("2 files beyond the limit of 3",)


async def test_names_are_hostile(tmp_path: Path) -> None:
    notes = make(tmp_path / "no\x1b[31mtes")
    (notes / "a\nb\x1b]52;c;x\x07.txt").write_text("one")
    found = await read_folder(notes, read)
    assert [each.name for each in found.documents] == ["no[31mtes/a b]52;c;x.txt"]


@pytest.mark.parametrize("texts", [{}, {"a": b"\0"}])
async def test_a_folder_without_text_is_refused(tmp_path: Path, texts: dict[str, bytes]) -> None:
    with pytest.raises(FileError, match="can be read as text") as refused:
        await read_folder(make(tmp_path / "notes", **texts), read)
    assert refused.value.hint


async def test_a_folder_that_is_gone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="can't be read"):
        await read_folder(tmp_path / "nowhere", read)


async def test_cancelling_ends_it(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def never(_path: Path, _name: str) -> Document:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    task = asyncio.create_task(read_folder(make(tmp_path / "notes", a=b"x"), never))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
