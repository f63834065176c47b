"""What the parent and the child say to each other: requests as lines, texts in frames."""

import os
import struct
from enum import Enum
from pathlib import Path

from qwenchat.documents.extract.formats import Format

CPU_LIMIT_S = 120
"""Seconds of computing for one file."""
HEADER = struct.Struct(">cI")
"""The kind of a frame and how many bytes follow."""


class FrameKind(Enum):
    """What a frame holds."""

    TEXT = b"t"
    """The next part of the text, in UTF-8."""
    END = b"e"
    """Why the file is refused; nothing if its text is complete."""


def frame(kind: FrameKind, data: bytes) -> bytes:
    """Return a frame as bytes."""
    return HEADER.pack(kind.value, len(data)) + data


def request(file_format: Format, path: Path) -> bytes:
    """Return a request as a line."""
    return f"{file_format} {os.fsencode(path.absolute()).hex()}\n".encode()


def request_of(line: bytes) -> tuple[Format, Path]:
    """Return what a line requests."""
    file_format, _space, path = line.decode().strip().partition(" ")
    return Format(file_format), Path(os.fsdecode(bytes.fromhex(path)))
