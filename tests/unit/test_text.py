"""No text that came from outside can move a cursor, leave a folder or break a line."""

from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenchat.errors import FileError
from qwenchat.text import files
from qwenchat.text.safe import StreamCleaner, clean, clean_line, encodable, safe_name


def test_clean_takes_what_a_terminal_would_obey() -> None:
    assert clean("a\x1b]52;c;evil\x07b\r\nc\rd\x9b31m\te\u202ef") == "a]52;c;evilb\ncd31m\tef"
    assert clean("你好 👩‍👩‍👧 مرحبا") == "你好 👩‍👩‍👧 مرحبا"


@given(st.text())
def test_what_is_clean_stays_so(text: str) -> None:
    cleaned = clean(text)
    assert clean(cleaned) == cleaned
    assert not any(ord(c) < 32 and c not in "\n\t" for c in cleaned)
    cleaned.encode()


@given(st.text(alphabet="a\r\n\x1b", max_size=30), st.integers(1, 5))
def test_pieces_clean_to_the_same_as_the_whole(text: str, size: int) -> None:
    cleaner = StreamCleaner()
    pieces = "".join(cleaner.feed(text[i : i + size]) for i in range(0, len(text), size))
    assert pieces == clean(text)


@given(st.text())
def test_safe_names_are_names_everywhere(text: str) -> None:
    name = safe_name(text)
    assert 1 <= len(name.encode()) <= 201
    assert Path(name).name == name and name not in (".", "..")
    assert PureWindowsPath(name).name == name and not PureWindowsPath(name).is_reserved()
    assert not name.endswith((".", " "))


def test_safe_names_of_reserved_words() -> None:
    assert [safe_name(name) for name in ("CON", "nul.txt", "../../etc", "a/b", "")] == [
        "_CON",
        "_nul.txt",
        "etc",
        "a-b",
        "_",
    ]


def test_clean_line_is_one_short_line() -> None:
    assert clean_line(" a\n\n b\tc ") == "a b c"
    assert clean_line("x" * 300) == "x" * 199 + "…"


@given(st.text(alphabet=st.characters()))
def test_whole_text_can_be_encoded(text: str) -> None:
    assert encodable(text).encode().decode() == encodable(text)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "gb18030", "cp1252"])
def test_text_files_of_many_encodings(encoding: str, tmp_path: Path) -> None:
    text = "Déjà vu, naïve café à la carte.\n" if encoding == "cp1252" else "人工智能正在改变世界，我们一起学习。\n"
    file = tmp_path / "text.txt"
    file.write_bytes((b"\xff\xfe" if encoding == "utf-16-le" else b"") + text.encode(encoding))
    assert files.read(file).text == text


def test_line_ends_become_newlines() -> None:
    assert files.decode(b"a\r\nb\rc\n", "x") == "a\nb\nc\n"


@pytest.mark.parametrize("data", [b"\x7fELF\0\0\1", b"a\0b", "好".encode("utf-16-be") + b"\0"])
def test_what_is_not_text_is_refused(data: bytes) -> None:
    with pytest.raises(FileError, match="not a text file"):
        files.decode(data, "x")
