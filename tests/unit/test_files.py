"""Small files are replaced completely or not at all, and hashing can be stopped."""

import hashlib
import stat
from pathlib import Path

import pytest

from qwenchat.files import free_bytes, replacing, save_if_possible, sha256_of, write_atomically


def test_a_file_is_replaced_atomically(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"old")
    with replacing(file) as stream:
        stream.write(b"new")
        assert file.read_bytes() == b"old"
    assert file.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [file]


def test_a_write_that_fails_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), replacing(file) as stream:
        stream.write(b"new")
        raise KeyboardInterrupt
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("private", [True, False])
def test_only_the_owner_reads_a_private_file(tmp_path: Path, private: bool) -> None:
    write_atomically(tmp_path / "file", b"content", private=private)
    others = stat.S_IMODE((tmp_path / "file").stat().st_mode) & 0o077
    assert (others == 0) is private


def test_what_can_be_computed_again_may_fail_to_be_saved(tmp_path: Path) -> None:
    assert save_if_possible(tmp_path / "new" / "cache", b"content")
    assert (tmp_path / "new" / "cache").read_bytes() == b"content"
    (tmp_path / "file").touch()
    assert not save_if_possible(tmp_path / "file" / "cache", b"content")


def test_a_hash_passes_every_chunk_on_and_can_be_stopped(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    (tmp_path / "file").write_bytes(content)
    passed = bytearray()
    assert sha256_of(tmp_path / "file", passed.extend) == hashlib.sha256(content).hexdigest()
    assert passed == content

    def stop(_chunk: memoryview) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sha256_of(tmp_path / "file", stop)


def test_free_space_below_a_missing_folder(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "a" / "b") == pytest.approx(free_bytes(tmp_path), rel=0.1)
