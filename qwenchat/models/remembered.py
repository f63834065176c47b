"""Small files of things that can be found out again: written whole or not at all, and never worth an error."""

from pathlib import Path

from qwenchat.errors import FileError
from qwenchat.paths import atomic_write, private_folder


def remember(file: Path, content: bytes) -> bool:
    """Replace a file's content at once, readable by its owner alone; say whether that worked."""
    try:
        atomic_write(private_folder(file.parent) / file.name, content)
    except (OSError, FileError):
        return False
    return True
