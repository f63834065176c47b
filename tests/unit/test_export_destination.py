"""Exported files: safe names, nothing overwritten, nothing half written, the same zip for the same sessions."""

import errno
import os
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from qwenchat.errors import FileError, Recovery, RecoveryKind, WrongUse
from qwenchat.sessions import exporters
from qwenchat.sessions.archive import Archive
from qwenchat.sessions.export_destination import Export, write
from tests.fakes.archives import MemoryArchives, exported, talk, texts

RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}


def export_of(*archives: Archive, name: str = "txt") -> Export:
    store = MemoryArchives(*archives)
    return Export(store, store.sessions(), exporters.named(name))


def put(place: Path | str | None, *archives: Archive, name: str = "txt", force: bool = False) -> list[Path]:
    return write(
        export_of(*archives, name=name), None if place is None else str(place), lambda piece: None, force
    ).files


def no_leftovers(folder: Path) -> None:
    assert not [path for path in folder.rglob("*") if path.name.startswith(".qwenchat")]


def test_one_session_to_standard_output_in_pieces() -> None:
    pieces: list[str] = []
    assert write(export_of(talk("Q", "A")), None, pieces.append).files == []
    assert "".join(pieces) == exported("txt", talk("Q", "A"))
    assert len(pieces) == 3


def test_several_sessions_in_one_text_where_the_format_can() -> None:
    two = talk("Q"), talk("X", session="s2")
    pieces: list[str] = []
    write(export_of(*two, name="json"), None, pieces.append)
    assert "".join(pieces) == exported("json", *two)
    with pytest.raises(WrongUse, match="its own file"):
        put(None, *two, name="md")
    with pytest.raises(WrongUse, match="its own file"):
        put("both.md", *two, name="md")


def test_one_session_to_a_file(tmp_path: Path) -> None:
    file = tmp_path / "talk.txt"
    assert put(file, talk("Q", "A")) == [file]
    assert file.read_text("utf-8") == exported("txt", talk("Q", "A"))
    no_leftovers(tmp_path)


@pytest.mark.parametrize("place", ["new/", "here", "several"])
def test_folders(tmp_path: Path, place: str) -> None:
    (tmp_path / "here").mkdir()
    written = put(f"{tmp_path}/{place}", talk("Q", title="One"), talk("Q", session="s2", title="Two"))
    assert [path.name for path in written] == ["One.txt", "Two.txt"]
    assert all(path.parent == tmp_path / place.rstrip("/") and path.is_file() for path in written)


def test_one_session_into_a_folder_that_is_there(tmp_path: Path) -> None:
    assert put(tmp_path, talk("Q", title="One")) == [tmp_path / "One.txt"]


def test_same_titles_get_numbers_also_where_case_does_not_count(tmp_path: Path) -> None:
    titles = ["Hi", "hi", "HI (2)", "Hi", "", "", "Hi (2)"]
    names = [name for name, _session in export_of(*_titled(titles)).files()]
    assert names[:4] == ["Hi.txt", "hi (2).txt", "HI (2) (2).txt", "Hi (3).txt"]
    assert names[4:6] == ["s4.txt", "s5.txt"]
    assert len({name.casefold() for name in names}) == len(titles)


def _titled(titles: list[str]) -> list[Archive]:
    return [talk("Q", session=f"s{number}", title=title) for number, title in enumerate(titles)]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(
            texts(),
            st.sampled_from(
                [
                    "../../x",
                    "/etc/passwd",
                    "C:\\x",
                    "..",
                    ".",
                    "con",
                    "NUL.txt",
                    "a/b",
                    "~",
                    "-rf",
                    ".hidden",
                    "x" * 300,
                    "字" * 300,
                ]
            ),
        ),
        max_size=6,
    )
)
def test_names_are_safe_everywhere(titles: list[str]) -> None:
    names = [name for name, _session in export_of(*_titled(titles)).files()]
    assert len({name.casefold() for name in names}) == len(titles)
    for name in names:
        assert Path(name).name == name
        assert not set(name) & set('<>:"/\\|?*\0\n\r\t\x1b')
        assert name[0] not in ".- "
        assert len(name.encode()) <= 255
        assert name.split(".")[0].casefold() not in RESERVED


def test_existing_files_are_not_overwritten_without_force(tmp_path: Path) -> None:
    put(tmp_path, talk("Q", title="One"))
    before = (tmp_path / "One.txt").read_bytes()
    for place in (tmp_path, tmp_path / "One.txt"):
        with pytest.raises(FileError, match="already exists") as caught:
            put(place, talk("other", title="One"))
        assert Recovery(RecoveryKind.REPLACE_FILE) in caught.value.recoveries
    assert (tmp_path / "One.txt").read_bytes() == before
    put(tmp_path, talk("other", title="One"), force=True)
    assert b"other" in (tmp_path / "One.txt").read_bytes()
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(FileError, match="is a folder"):
        put(tmp_path, talk("Q", title="folder"), force=True)


def test_a_folder_is_checked_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "Two.txt").write_text("mine")
    with pytest.raises(FileError):
        put(tmp_path, talk("Q", title="One"), talk("Q", session="s2", title="Two"))
    assert [path.name for path in tmp_path.iterdir()] == ["Two.txt"]


def test_a_zip_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    two = talk("Q", title="../One"), structs.replace(talk("X", session="s2"), messages=())
    put(tmp_path / "a.zip", *two, name="md")
    put(tmp_path / "b.ZIP", *two, name="md")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.ZIP").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as file:
        assert file.namelist() == ["One.md", "Talk.md"]
        assert file.read("One.md").decode() == exported("md", two[0])
        assert file.getinfo("One.md").date_time == (2025, 6, 15, 15, 7, 40)
        assert file.testzip() is None
    no_leftovers(tmp_path)


@pytest.mark.parametrize("updated", [0, 253_402_300_799_999])
def test_a_zip_accepts_any_date(tmp_path: Path, updated: int) -> None:
    odd = talk("Q")
    put(tmp_path / "a.zip", structs.replace(odd, session=structs.replace(odd.session, updated=updated)))
    with zipfile.ZipFile(tmp_path / "a.zip") as file:
        assert file.testzip() is None


@pytest.mark.parametrize("place", ["missing/a.txt", "file/a.txt", "file/", "a" * 300 + ".txt"])
def test_a_failed_write_is_a_readable_error(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileError, match=r"can't be written|already exists"):
        put(f"{tmp_path}/{place}", talk("Q"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("before")
    form = replace(exporters.named("txt"), write=_full)
    with pytest.raises(FileError, match="No space left"):
        write(Export(MemoryArchives(talk("Q")), [talk("Q").session], form), str(file), print, force=True)
    assert file.read_text() == "before"
    no_leftovers(tmp_path)


def _full(*_given: object) -> Iterator[str]:
    yield "some of it"
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_pipe_is_written_directly(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.append(pipe.read_text("utf-8")))
    reader.start()
    put(pipe, talk("Q"))
    reader.join(10)
    assert said == [exported("txt", talk("Q"))]
    assert pipe.is_fifo()


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    put(tmp_path / "a.txt", talk("Q"))
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o600
