"""A file that is to be downloaded, among the models that are on this machine already, whoever brought them."""

import threading
from contextlib import suppress
from pathlib import Path

from qwenchat.errors import FileError, NotFound
from qwenchat.models.library import Library
from qwenchat.models.progress import Checking, Report
from qwenchat.models.source import RemoteFile
from qwenchat.models.transfer import stopped
from qwenchat.models.verify import sha256_of


def same_file(library: Library, file: RemoteFile, report: Report, stop: threading.Event) -> Path | None:
    """Return a model of one file that any program here has, whole and with the same sha256.

    Those of the same size whose sha256 nobody has noted are hashed. Raises Interrupted when stopped.
    """
    if not file.sha256:
        return None
    alike = [
        entry.found
        for entry in library.usable()
        if entry.header and len(entry.header.parts) == 1 and entry.header.file_size == file.size
    ]
    if known := next((found.path for found in alike if found.sha256 == file.sha256), None):
        return known
    unknown = [found.path for found in alike if not found.sha256]
    if unknown:
        report(Checking(file.name))
    return next((path for path in unknown if _sha256(path, stop) == file.sha256), None)


def _sha256(path: Path, stop: threading.Event) -> str:
    """Return a file's sha256; empty for one that can't be read, which is no reason not to download."""

    def heed(_count: int) -> None:
        if stop.is_set():
            raise stopped()

    with suppress(FileError, NotFound):
        return sha256_of(path, heed)
    return ""
