"""Files as records: what is JSON, what is lines, what is a zip, and what is refused."""

import os
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from qwenchat.errors import FileError
from qwenchat.sessions import importers, records
from qwenchat.sessions.archive import BadRecord
from qwenchat.sessions.records import Record, records_in, records_of

LINE = b'{"messages":[{"role":"user","content":"Q"}]}'


def found(data: bytes) -> list[Record]:
    return records_in(BytesIO(data), 5)


def packed(*members: tuple[str, bytes]) -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "places"),
    [
        (b"[" + LINE + b"," + LINE + b"]", ["record 1", "record 2"]),
        (LINE, ["record 1"]),
        (b"\xef\xbb\xbf  " + LINE + b"\n", ["record 1"]),
        (LINE.decode().encode("utf-16"), ["record 1"]),
        (LINE + b"\n\n" + LINE, ["line 1", "line 3"]),
        (LINE + b"\r\n" + LINE + b"\r\n", ["line 1", "line 2"]),
        (b"not json\n" + LINE, ["line 1", "line 2"]),
        (b"[]", []),
    ],
)
def test_places_in_a_file(data: bytes, places: list[str]) -> None:
    assert [record.place for record in found(data)] == places


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"hello",
        b"[1,",
        b'{"a": 1',
        b"[" + LINE + b"," + LINE[:20],
        b"\xff\xfe",
        b"\x89PNG\r\n",
        b"# Notes\n",
    ],
)
def test_what_is_not_json_is_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(FileError) as caught:
        found(data)
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_a_bad_line_is_one_bad_record() -> None:
    _good, bad, _good_too = found(LINE + b'\n{"messages": [\n' + LINE)
    assert bad.place == "line 2"
    with pytest.raises(BadRecord):
        bad.value()


@pytest.mark.parametrize("deep", [b"[" * 200_000, b'{"a":' * 200_000, b"[" * 100_000 + b"]" * 100_000])
def test_deep_nesting_is_refused(deep: bytes) -> None:
    with pytest.raises(FileError):
        found(deep)
    *_good, bad = found(LINE + b"\n" + b'{"messages":' + deep)
    with pytest.raises(BadRecord):
        bad.value()


def test_a_file_beyond_the_limit_is_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "large.json"
    with file.open("wb") as sparse:
        sparse.truncate(1_000_000_000)
    with pytest.raises(FileError, match="larger than 512 MiB"):
        records_of(file)


def test_a_zip_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_BYTES", 2**20)
    bomb = packed(("a.json", b" " * 600_000 + b"[]"), ("b.json", b" " * 600_000 + b"[]"))
    assert len(bomb) < 5000
    with pytest.raises(FileError, match="larger than"):
        found(bomb)


def test_a_small_zip_unpacks_to_a_little_only() -> None:
    with pytest.raises(FileError, match="Unpacked, the zip is larger than 16 MiB"):
        found(packed(("a.json", b"[" + b" " * 2**24 + b"]")))
    assert found(packed(("a.json", b"[" + b" " * 2**23 + b"]"))) == []


@pytest.mark.parametrize(
    "data",
    [
        b"[" + b"0," * 3000 + b"0]",
        b"[" + b"{}," * 3000 + b"{}]",
        b"[" + b"{}," * 3000,
        b'[{"\\ud800": 1},' + b"{}," * 3000 + b"{}]",
        b"[" + b"[]," * 3000 + b"[]]",
        b"x" + b"\n" * 3000,
        b"x" + b"\r" * 3000,
    ],
    ids=["numbers", "objects", "cut off", "lone surrogate", "arrays", "lines", "old lines"],
)
def test_more_records_than_anyone_has_are_never_made(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_RECORDS", 1000)
    with pytest.raises(BadRecord, match="more than 1,000 records"):
        found(data)


def test_commas_within_records_are_no_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_RECORDS", 1000)
    assert len(found(b"[" + LINE + b',{"a": [' + b"0," * 3000 + b"0]}]")) == 2
    with pytest.raises(FileError, match="not JSON"):
        found(b"[" + LINE + b',{"a": [' + b"0," * 3000)


@pytest.mark.parametrize(
    "data", [b"[]," * 3000, b"{}," * 3000, b"0," * 3000, b"[{" * 3000], ids=lambda data: data[:3].decode()
)
def test_a_record_of_too_many_parts_is_never_decoded(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_VALUES", 2000)
    with pytest.raises(BadRecord, match="too many parts"):
        Record("", b"[" + data, 5).value()
    assert Record("", LINE, 5).value()


def test_a_zip_that_lies_about_its_sizes_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_BYTES", 2**20)
    size = (2**22).to_bytes(4, "little")
    data = packed(("a.json", b" " * 2**22)).replace(size, (2).to_bytes(4, "little"))
    (broken,) = found(data)
    with pytest.raises(BadRecord):
        broken.value()


def test_members_of_a_zip() -> None:
    members = [
        ("one.json", b"[" + LINE + b"]"),
        ("in/two.jsonl", LINE + b"\n" + LINE),
        ("x.txt", b"?"),
        ("bad.json", b"{"),
    ]
    reading = found(packed(*members))
    assert [record.place for record in reading] == [
        "one.json, record 1",
        "in/two.jsonl, line 1",
        "in/two.jsonl, line 2",
        "bad.json",
    ]
    assert [problem.place for problem in importers.read(reading).problems] == ["bad.json"]


@pytest.mark.parametrize("cut", [10, 60, 120, -30])
def test_a_damaged_zip_is_an_error_in_words(cut: int) -> None:
    data = packed(("a.json", b"[" + LINE * 3 + b"]"))
    with pytest.raises(FileError):
        importers.read(found(data[:cut]))
    noisy = bytearray(data)
    noisy[45:60] = os.urandom(15)
    with pytest.raises(FileError):
        importers.read(found(bytes(noisy)))


def test_folders_and_missing_files_are_errors_in_words(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nothing.json"):
        with pytest.raises(FileError, match="can't be read"):
            records_of(place)
