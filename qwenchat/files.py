"""File operations that several parts of the program share: atomic writes, hashing, free disk space.

A file written here never appears incomplete under its final name. Nothing here knows what a file contains, and errors
stay `OSError`: only the caller knows what the user was doing.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from qwenchat.errors import FileError
from qwenchat.paths import private_folder

_CHUNK = 1 << 20


@contextmanager
def replacing(file: Path, *, private: bool = True) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces `file` when the block ends and is deleted when the block fails.

    If `private`, only the owner can read the new file; otherwise the process's umask decides. Raises OSError.
    """
    temporary = file.with_name(f".qwenchat-{os.urandom(8).hex()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(temporary, flags, 0o600 if private else 0o666)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(descriptor)  # or the machine may lose the content and not the name
        temporary.replace(file)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def write_atomically(file: Path, content: bytes, *, private: bool = True) -> None:
    """Replace the content of a small file: readers see either the old or the new content. Raises OSError."""
    with replacing(file, private=private) as stream:
        stream.write(content)


def save_if_possible(file: Path, content: bytes) -> bool:
    """Write a small private file that can be computed again, such as a cache; return whether that worked.

    A missing folder is created.
    """
    try:
        private_folder(file.parent)
        write_atomically(file, content)
    except (OSError, FileError):
        return False
    return True


def sha256_of(file: Path, on_chunk: Callable[[memoryview], object]) -> str:
    """Return the sha256 of a file in hex. Each chunk read is passed to `on_chunk`, which may raise to stop.

    A chunk is valid only during the call. Raises OSError.
    """
    from hashlib import sha256  # noqa: PLC0415 - it loads a library that most runs do not need

    digest, buffer = sha256(), memoryview(bytearray(_CHUNK))
    with file.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            digest.update(buffer[:count])
            on_chunk(buffer[:count])
    return digest.hexdigest()


def free_bytes(folder: Path) -> int:
    """Return the bytes that can be written below a folder, which may be missing or unreadable."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        if folder == folder.parent:
            raise
        return free_bytes(folder.parent)
