"""Receives the bytes of one file from a source into its part file, resuming after interruptions until it is complete.

`retry` decides whether another attempt follows a failure. `pull` handles names and locks, and checks the sha256. Only
bytes that belong at the end of a part file are appended to it; anything else that a server sends does not change it.
"""

import threading
from collections.abc import Callable

from qwenchat.models.download import http
from qwenchat.models.download.http import Timeouts
from qwenchat.models.download.part import PartFile
from qwenchat.models.download.progress import Checking, Report, StartedOver
from qwenchat.models.download.retry import Attempts, RetryPolicy, SourceError, SourceFault, interrupted
from qwenchat.models.file_names import is_gguf
from qwenchat.models.sources.folder import FileBody
from qwenchat.models.sources.source import Location, RemoteFile
from qwenchat.net.addresses import origin

_CHUNK = 1 << 20
_MAGIC = b"GGUF"


class Transfer:
    """Fills one part file. `run` belongs to one thread; `abort` may be called from any."""

    def __init__(
        self,
        file: RemoteFile,
        locate: Callable[[], Location],
        *,
        retry_policy: RetryPolicy,
        timeouts: Timeouts,
        report: Report,
        stop: threading.Event,
    ) -> None:
        self.size = file.size
        """Bytes according to the source, or according to the first response if the source does not say."""
        self.resumed = 0
        """Bytes of an earlier run in the part file."""
        self.commit = ""
        """The full id of the revision, if the source gives it."""
        self._file, self._locate = file, locate
        self._retry_policy, self._timeouts, self._report, self._stop = retry_policy, timeouts, report, stop
        self._body: http.Body | FileBody | None = None
        self._validator = ""
        """The `If-Range` value for the bytes in the part file; used only if there is no sha256 to verify the result."""
        self._from_start = False
        """Whether to request the complete file, because the server does not send the rest."""

    def run(self, part_file: PartFile) -> str:
        """Complete the part file and return its sha256. Received bytes stay in it if this fails.

        Raises SourceError, OSError, and Interrupted when stopped.
        """
        self._validator = "" if self._file.sha256 else part_file.validator()
        too_long = self.size is not None and part_file.size > self.size
        if part_file.size and (too_long or not self._is_resumable):
            self._clear(part_file)
        self.resumed = part_file.size
        self._receive_all(part_file)
        part_file.sync()
        self._report(Checking(self._file.name))
        return part_file.sha256(self._raise_if_stopped)

    def abort(self) -> None:
        """Wake up the thread if it waits for bytes; set the stop event first."""
        if body := self._body:
            body.abort()

    @property
    def _is_resumable(self) -> bool:
        return bool(self._file.sha256 or self._validator)

    @property
    def _is_model(self) -> bool:
        return is_gguf(self._file.name)

    def _raise_if_stopped(self) -> None:
        if self._stop.is_set():
            raise interrupted()

    def _receive_all(self, part_file: PartFile) -> None:
        attempts = Attempts(self._retry_policy, self._file.name, self._report, self._stop)
        while self.size is None or part_file.size != self.size:
            before = part_file.size
            try:
                self._raise_if_stopped()
                self._attempt(part_file)
            except SourceError as error:
                attempts.wait_after(error, progressed=part_file.size > before)
                self._from_start = error.fault is SourceFault.RANGE

    def _attempt(self, part_file: PartFile) -> None:
        """Append the bytes of one request. Raises SourceError unless they complete the file."""
        location = self._checked_location()
        body = self._open(location, part_file.size if self._is_resumable and not self._from_start else 0)
        try:
            self._body = body
            self._raise_if_stopped()
            self._receive(body, part_file)
        finally:
            self._body = None
            body.close()

    def _checked_location(self) -> Location:
        location = self._locate()
        self.commit = location.commit or self.commit
        for expected, actual in ((self._file.sha256, location.sha256), (self._file.size, location.size)):
            if expected is not None and actual is not None and expected != actual:
                raise SourceError(SourceFault.CHANGED, origin(location.url)[1])
        return location

    def _open(self, location: Location, offset: int) -> http.Body | FileBody:
        if location.path:
            return FileBody(location.path, offset, self._validator)
        try:
            return http.get(
                location.url, location.headers, offset=offset, if_range=self._validator, timeouts=self._timeouts
            )
        except SourceError as error:
            if error.fault is SourceFault.FORBIDDEN:
                expired = SourceFault.URL_EXPIRED
                raise SourceError(expired, error.host, status=error.status, retry_after=error.retry_after) from error
            raise

    def _receive(self, body: http.Body | FileBody, part_file: PartFile) -> None:
        if body.html and self._is_model:
            raise SourceError(SourceFault.NOT_A_MODEL, body.host)
        if body.total is not None and self.size is not None and body.total != self.size:
            raise SourceError(SourceFault.LENGTH, body.host)
        chunk = self._first_chunk(body, part_file) if body.start == 0 else body.read(_CHUNK)
        if self.size is None:
            self.size = body.total
        while chunk:
            self._raise_if_stopped()  # bytes from an aborted connection are invalid
            if self.size is not None and part_file.size + len(chunk) > self.size:
                raise SourceError(SourceFault.LONG, body.host)
            part_file.append(chunk)
            chunk = body.read(_CHUNK)
        self._raise_if_stopped()
        if self.size is not None and part_file.size < self.size:
            raise SourceError(SourceFault.DROPPED, body.host)
        self.size = part_file.size

    def _first_chunk(self, body: http.Body | FileBody, part_file: PartFile) -> bytes:
        """Return the first bytes of a complete file. The part file is cleared only if they can be the right file."""
        chunk = body.read(_CHUNK)
        while len(chunk) < len(_MAGIC) and (more := body.read(_CHUNK)):
            chunk += more
        if self._is_model and len(chunk) < len(_MAGIC):
            raise SourceError(SourceFault.DROPPED, body.host)
        if self._is_model and not chunk.startswith(_MAGIC):
            raise SourceError(SourceFault.NOT_A_MODEL, body.host)
        self._raise_if_stopped()
        if part_file.size:
            self._report(StartedOver(self._file.name))
            self._clear(part_file)
        if self._file.sha256 is None:
            self._validator = body.validator
            part_file.save_validator(body.validator)
        return chunk

    def _clear(self, part_file: PartFile) -> None:
        part_file.clear()
        self.resumed = 0
        self._validator = ""
