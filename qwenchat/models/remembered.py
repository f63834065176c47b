"""Small files of things that can be found out again: written whole or not at all, and never worth an error."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from qwenchat.errors import FileError
from qwenchat.paths import private_folder


def remember(file: Path, content: bytes) -> bool:
    """Replace a file's content at once, readable by its owner alone; say whether that worked."""
    try:
        descriptor, name = tempfile.mkstemp(dir=private_folder(file.parent))
    except (OSError, FileError):
        return False
    try:
        with os.fdopen(descriptor, "wb") as temporary:
            temporary.write(content)
        Path(name).replace(file)
    except OSError:
        with suppress(OSError):
            Path(name).unlink()
        return False
    return True
