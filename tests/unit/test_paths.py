"""The program's folders are readable only by their owner, no matter which part creates them first."""

import stat
from pathlib import Path

import pytest

from qwenchat.errors import FileError
from qwenchat.models.download.destination import FolderDestination
from qwenchat.models.folders import DownloadRecords
from qwenchat.models.sources.source import RemoteFile
from qwenchat.paths import private_folder


def modes(root: Path) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in root.rglob("*") if path.is_dir()}


def test_missing_folders_are_created_private_and_existing_ones_stay(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    there.chmod(0o755)
    assert private_folder(there / "a" / "b" / "c") == private_folder(there / "a" / "b" / "c")
    assert modes(there) == {0o700}
    assert stat.S_IMODE(there.stat().st_mode) == 0o755


def test_a_folder_that_a_file_stands_in_the_way_of(tmp_path: Path) -> None:
    tmp_path.joinpath("file").touch()
    for folder in ("file", "file/a/b"):
        with pytest.raises(FileError, match="can't be created"):
            private_folder(tmp_path / folder)


def test_a_download_makes_our_folders_private_and_leaves_the_users_folders(tmp_path: Path) -> None:
    file = RemoteFile("sub/x.gguf", 1, None)
    FolderDestination(tmp_path / "data" / "models").part_file_paths(file)
    assert modes(tmp_path) == {0o700}
    FolderDestination(tmp_path / "own", DownloadRecords(tmp_path / "data")).part_file_paths(file)
    assert modes(tmp_path / "own") != {0o700}
