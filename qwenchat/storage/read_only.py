"""Reads a database that can't be written, as on a read-only disk or in the home of somebody else.

SQLite wants to write beside a database in WAL mode even to read it. So the file is opened as one that does not change,
or, where its write-ahead log holds changes that are not in the file yet, copied and the copy is read. Nothing of the
original is changed.
"""

import os
import shutil
import sqlite3
import tempfile
from pathlib import Path

from qwenchat.errors import StoreError
from qwenchat.i18n import _


def can_write(file: Path) -> bool:
    """Return whether a database, and the files that SQLite makes beside it, can be written; True if it is missing."""
    effective = os.access in os.supports_effective_ids  # as SQLite will open it
    return not file.is_file() or all(os.access(path, os.W_OK, effective_ids=effective) for path in (file, file.parent))


def cannot_be_saved(file: Path) -> StoreError:
    """Return the error for a change to a database that can only be read."""
    return StoreError(
        _("Nothing can be saved: {file} is read-only.").format(file=file),
        _("Make the file and its folder writable, or set QWENCHAT_HOME to a folder that is."),
    )


class ReadableFile:
    """The URI under which a database that can't be written is read, and the copy that this may need."""

    def __init__(self, file: Path) -> None:
        """Raises OSError if a copy is needed and can't be made."""
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        log = file.with_name(f"{file.name}-wal")
        self.uri = f"{file.absolute().as_uri()}?mode=ro"
        if _opens(self.uri):
            return
        if log.is_file() and log.stat().st_size:
            self._copy = tempfile.TemporaryDirectory(prefix="qwenchat-")
            copied = Path(self._copy.name) / file.name
            shutil.copyfile(file, copied)
            shutil.copyfile(log, copied.with_name(log.name))
            self.uri = f"{copied.as_uri()}?mode=rw"
        else:
            self.uri += "&immutable=1"

    def close(self) -> None:
        """Delete the copy, if there is one. May be called twice."""
        if self._copy:
            self._copy.cleanup()


def _opens(uri: str) -> bool:
    """Return whether SQLite can read a database; False only where it would have to write beside it."""
    try:
        connection = sqlite3.connect(uri, uri=True)
    except sqlite3.OperationalError:
        return False
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema")
    except sqlite3.OperationalError as error:
        return error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
    except sqlite3.DatabaseError:
        return True  # it is damaged, which whoever reads it will be told
    finally:
        connection.close()
    return True
