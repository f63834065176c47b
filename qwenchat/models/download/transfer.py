"""One file's bytes from a source into its part, carried on after every kind of break until all are there.

Nothing is decided here about names, locks or what a right file is: `download` does that. A part only ever grows by
bytes that belong at its end; whatever a server sends instead leaves it as it was.
"""

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from qwenchat.errors import Interrupted
from qwenchat.i18n import _
from qwenchat.models.download import http
from qwenchat.models.download.http import Timeouts, origin
from qwenchat.models.download.part import Part
from qwenchat.models.download.progress import Checking, Report, Retrying, StartedOver
from qwenchat.models.download.retry import PASSING, Fault, WireError, explain
from qwenchat.models.sources.source import Location, RemoteFile
from qwenchat.models.sources.url_and_folder import FileBody

_CHUNK = 1 << 20
_MAGIC = b"GGUF"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for what, in seconds, and how often to try."""

    timeouts: Timeouts = field(default_factory=Timeouts)
    first_wait_s: float = 0.5
    longest_wait_s: float = 60.0
    longest_retry_after_s: float = 900.0
    """A server that asks for more than this is not waited for."""
    attempts_at_first: int = 4
    """Attempts in a row without a byte, before any byte came."""
    attempts: int = 12
    """As above, once bytes have come: a connection that was there will come back."""
    attempts_when_forbidden: int = 3
    """A signed URL that expired is a new one the next time; more often it is no accident."""

    def allows(self, error: WireError, failures: int, moved: bool) -> bool:
        """Say whether another attempt follows the `failures`-th in a row."""
        if error.final or error.fault not in PASSING or (error.retry_after or 0) > self.longest_retry_after_s:
            return False
        if error.fault is Fault.FORBIDDEN:
            return failures < self.attempts_when_forbidden
        return failures < (self.attempts if moved else self.attempts_at_first)

    def wait_s(self, error: WireError, failures: int) -> float:
        """Return the seconds before the next attempt: what the server asks for, else doubling with chance in it."""
        if error.retry_after is not None:
            return error.retry_after
        return min(self.longest_wait_s, self.first_wait_s * 2.0 ** (failures - 1)) * random.uniform(0.75, 1.25)  # noqa: S311


class Transfer:
    """Fills one part. `run` belongs to one thread; `abort` may be called from any."""

    def __init__(
        self,
        file: RemoteFile,
        locate: Callable[[], Location],
        *,
        patience: Patience,
        report: Report,
        stop: threading.Event,
    ) -> None:
        self.size = file.size
        """As the source told; where it did not, as the first response does."""
        self.kept = 0
        """Bytes that the part still has from before this run."""
        self.commit = ""
        """The revision's full id, where the source tells it."""
        self._file, self._locate = file, locate
        self._patience, self._report, self._stop = patience, report, stop
        self._body: http.Body | FileBody | None = None
        self._validator = ""
        """Of the bytes in the part, for `If-Range`; used only where no sha256 will prove the result."""
        self._from_start = False
        """The server does not send the rest: ask for all of it."""

    def run(self, part: Part) -> str:
        """Complete the part and return its sha256. What has arrived stays in the part, whatever happens.

        Raises WireError, Interrupted when stopped, and OSError as the disk does.
        """
        self._validator = "" if self._file.sha256 else part.validator()
        too_long = self.size is not None and part.size > self.size
        if part.size and (too_long or not self._resumable):
            self._clear(part)
        self.kept = part.size
        self._fetch(part)
        part.sync()
        self._report(Checking(self._file.name))
        return part.sha256(self._check)

    def abort(self) -> None:
        """Wake up whoever waits for bytes; set the stop event before."""
        if body := self._body:
            body.abort()

    @property
    def _resumable(self) -> bool:
        return bool(self._file.sha256 or self._validator)

    @property
    def _is_model(self) -> bool:
        return self._file.name.lower().endswith(".gguf")

    def _check(self) -> None:
        if self._stop.is_set():
            raise stopped()

    def _fetch(self, part: Part) -> None:
        failures, moved = 0, False
        while self.size is None or part.size != self.size:
            before = part.size
            try:
                self._check()
                self._attempt(part)
            except WireError as error:
                self._check()
                failures = 1 if part.size > before else failures + 1
                moved = moved or part.size > before
                if not self._patience.allows(error, failures, moved):
                    raise
                self._pause(error, self._patience.wait_s(error, failures))

    def _pause(self, error: WireError, wait_s: float) -> None:
        self._from_start = error.fault is Fault.RANGE
        self._report(Retrying(self._file.name, explain(error, self._file.name).message, wait_s))
        self._stop.wait(wait_s)

    def _attempt(self, part: Part) -> None:
        """Take what one request gives. Raises WireError unless that completes the file."""
        location = self._find()
        body = self._open(location, part.size if self._resumable and not self._from_start else 0)
        try:
            self._body = body
            self._check()
            self._receive(body, part)
        finally:
            self._body = None
            body.close()

    def _find(self) -> Location:
        try:
            location = self._locate()
        except WireError as error:
            error.final = error.fault is Fault.FORBIDDEN
            raise
        self.commit = location.commit or self.commit
        for known, told in ((self._file.sha256, location.sha256), (self._file.size, location.size)):
            if known is not None and told is not None and known != told:
                raise WireError(Fault.CHANGED, origin(location.url)[1])
        return location

    def _open(self, location: Location, offset: int) -> http.Body | FileBody:
        if location.path:
            return FileBody(location.path, offset, self._validator)
        timeouts = self._patience.timeouts
        return http.get(location.url, location.headers, offset=offset, if_range=self._validator, timeouts=timeouts)

    def _receive(self, body: http.Body | FileBody, part: Part) -> None:
        if body.html and self._is_model:
            raise WireError(Fault.NOT_A_MODEL, body.host)
        if body.total is not None and self.size is not None and body.total != self.size:
            raise WireError(Fault.LENGTH, body.host)
        chunk = self._begin(body, part) if body.start == 0 else body.read(_CHUNK)
        if self.size is None:
            self.size = body.total
        while chunk:
            self._check()  # what an aborted connection gives is void
            if self.size is not None and part.size + len(chunk) > self.size:
                raise WireError(Fault.LONG, body.host)
            part.append(chunk)
            chunk = body.read(_CHUNK)
        self._check()
        if self.size is not None and part.size < self.size:
            raise WireError(Fault.DROPPED, body.host)
        self.size = part.size

    def _begin(self, body: http.Body | FileBody, part: Part) -> bytes:
        """Return how a whole file begins. What is kept of it gives way only to something that can be the file."""
        chunk = body.read(_CHUNK)
        while len(chunk) < len(_MAGIC) and (more := body.read(_CHUNK)):
            chunk += more
        if self._is_model and len(chunk) < len(_MAGIC):
            raise WireError(Fault.DROPPED, body.host)
        if self._is_model and not chunk.startswith(_MAGIC):
            raise WireError(Fault.NOT_A_MODEL, body.host)
        self._check()
        if part.size:
            self._report(StartedOver(self._file.name))
            self._clear(part)
        if self._file.sha256 is None:
            self._validator = body.validator
            part.keep_validator(body.validator)
        return chunk

    def _clear(self, part: Part) -> None:
        part.clear()
        self.kept = 0
        self._validator = ""


def stopped() -> Interrupted:
    """Return the error that ends a download which was stopped."""
    return Interrupted(
        _("The download was stopped; what has arrived is kept."), _("Run the same command again to carry it on.")
    )
