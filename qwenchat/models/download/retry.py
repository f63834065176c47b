"""Decides whether a download is retried after a fault and how long it waits, and explains the fault to the user.

This is the only module that decides about retries: listing files, locating a file and receiving its bytes all count
failures in `Attempts`, which follows one `RetryPolicy`. `SourceError` is used inside `models`; `explain` turns it into
the error that the user sees. Neither ever contains a URL, a header or a token, at most the name of a host.
"""

import errno
import http.client
import socket
import ssl
import threading
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from qwenchat.errors import (
    FileError,
    Interrupted,
    NetworkError,
    NotFound,
    QwenchatError,
    Recovery,
    RecoveryKind,
)
from qwenchat.i18n import _, reason_of
from qwenchat.models.download.progress import Report, Retrying
from qwenchat.net.waits import backoff_s
from qwenchat.text.safe import human_size


class SourceFault(Enum):
    """The kinds of faults."""

    REPO = auto()
    REVISION = auto()
    FILE = auto()
    GATED = auto()
    """The repository requires a login or the acceptance of its terms, and no token was sent."""
    GATED_FOR_TOKEN = auto()
    """The same, although a token was sent."""
    UNAUTHORISED = auto()
    FORBIDDEN = auto()
    """The source itself refuses to list or to locate the file."""
    URL_EXPIRED = auto()
    """The server that has the bytes answers 403, usually because a signed URL has expired."""
    NOT_FOUND = auto()
    RANGE = auto()
    BUSY = auto()
    SERVER = auto()
    STATUS = auto()
    NAME = auto()
    REFUSED = auto()
    UNREACHABLE = auto()
    PROXY = auto()
    """The proxy that `variable` sets refuses, or can't be reached."""
    TLS = auto()
    SILENT = auto()
    DROPPED = auto()
    LENGTH = auto()
    LONG = auto()
    ENCODED = auto()
    NOT_A_MODEL = auto()
    WRONG_HASH = auto()
    BAD_HASH = auto()
    CHANGED = auto()
    REDIRECTS = auto()
    LISTING = auto()
    UNSAFE_NAME = auto()
    OFFLINE = auto()
    SOURCE_READ = auto()


_TEMPORARY = frozenset(
    {
        SourceFault.URL_EXPIRED,
        SourceFault.RANGE,
        SourceFault.BUSY,
        SourceFault.SERVER,
        SourceFault.NAME,
        SourceFault.REFUSED,
        SourceFault.UNREACHABLE,
        SourceFault.PROXY,
        SourceFault.SILENT,
        SourceFault.DROPPED,
        SourceFault.LENGTH,
    }
)
"""Faults that another attempt may overcome."""

_KINDS: dict[SourceFault, type[QwenchatError]] = {
    SourceFault.REPO: NotFound,
    SourceFault.REVISION: NotFound,
    SourceFault.FILE: NotFound,
}
"""What the user sees; NetworkError for all others."""
_STATUSES = {
    401: SourceFault.UNAUTHORISED,
    403: SourceFault.FORBIDDEN,
    404: SourceFault.NOT_FOUND,
    407: SourceFault.PROXY,
    408: SourceFault.SILENT,
    410: SourceFault.NOT_FOUND,
    416: SourceFault.RANGE,
    429: SourceFault.BUSY,
}
_EXCEPTIONS: tuple[tuple[type[BaseException], SourceFault], ...] = (
    (socket.gaierror, SourceFault.NAME),
    (ssl.SSLCertVerificationError, SourceFault.TLS),
    (ssl.SSLEOFError, SourceFault.DROPPED),
    (ssl.SSLZeroReturnError, SourceFault.DROPPED),
    (ssl.SSLError, SourceFault.TLS),
    (TimeoutError, SourceFault.SILENT),
    (ConnectionRefusedError, SourceFault.REFUSED),
    (ConnectionError, SourceFault.DROPPED),
    (http.client.HTTPException, SourceFault.DROPPED),
)
"""The first matching class decides."""


class SourceError(Exception):
    """A fault with its details.

    `retry_after` is the wait in seconds that the server asks for; `status` is HTTP's; `variable` sets the proxy.
    """

    def __init__(
        self,
        fault: SourceFault,
        host: str = "",
        *,
        status: int = 0,
        retry_after: float | None = None,
        detail: str = "",
        variable: str = "",
    ) -> None:
        super().__init__(f"{fault.name} {host} {status or ''} {detail}".strip())
        self.fault = fault
        self.host = host
        self.status = status
        self.retry_after = retry_after
        self.detail = detail
        self.variable = variable

    @classmethod
    def from_status(cls, status: int, host: str, retry_after: float | None = None) -> "SourceError":
        """Return the error for an HTTP status."""
        fault = _STATUSES.get(status, SourceFault.SERVER if status >= 500 else SourceFault.STATUS)
        return cls(fault, host, status=status, retry_after=retry_after)

    @classmethod
    def from_exception(cls, error: BaseException, host: str, *, proxy: str = "") -> "SourceError":
        """Return the error for an exception of the standard library; `proxy` names the variable of the proxy used."""
        chain = _chain(error)
        by_proxy = any("tunnel" in str(link).lower() or "Proxy" in type(link).__name__ for link in chain)
        known = (fault for kind, fault in _EXCEPTIONS if any(isinstance(link, kind) for link in chain))
        fault = next(known, SourceFault.UNREACHABLE)
        if proxy and (by_proxy or fault in (SourceFault.REFUSED, SourceFault.NAME)):
            fault = SourceFault.PROXY
        reason = next((reason_of(link) for link in chain if isinstance(link, OSError) and link.strerror), "")
        return cls(fault, host, detail=reason, variable=proxy)


def _chain(error: BaseException | None) -> list[BaseException]:
    links: list[BaseException] = []
    while error is not None and error not in links:
        links.append(error)
        error = error.__cause__ or error.__context__
    return links


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often a download is retried after a fault, and how long it waits in between. Times are in seconds."""

    first_wait_s: float = 0.5
    longest_wait_s: float = 60.0
    longest_retry_after_s: float = 900.0
    """The download fails if a server asks for a longer wait than this."""
    attempts_before_data: int = 4
    """Consecutive attempts without progress before any byte was received."""
    attempts_after_data: int = 12
    """The same after bytes were received: a connection that worked is likely to come back."""
    attempts_with_expired_urls: int = 3
    """The next attempt replaces an expired signed URL, so several refusals in a row have another cause."""

    def allows(self, error: SourceError, failures: int, *, has_data: bool) -> bool:
        """Return whether another attempt is made after this number of consecutive failures."""
        if error.fault not in _TEMPORARY or (error.retry_after or 0) > self.longest_retry_after_s:
            return False
        if error.fault is SourceFault.URL_EXPIRED:
            return failures < self.attempts_with_expired_urls
        return failures < (self.attempts_after_data if has_data else self.attempts_before_data)

    def wait_s(self, error: SourceError, failures: int) -> float:
        """Return the seconds before the next attempt: what the server asks for, otherwise doubling with jitter."""
        if error.retry_after is not None:
            return error.retry_after
        return backoff_s(failures, first_s=self.first_wait_s, longest_s=self.longest_wait_s)


class Attempts:
    """Counts the failures of one task, such as receiving one file, and waits before each retry."""

    def __init__(self, policy: RetryPolicy, subject: str, report: Report, stop: threading.Event) -> None:
        self._policy, self._subject, self._report, self._stop = policy, subject, report, stop
        self._failures = 0
        self._has_data = False

    def wait_after(self, error: SourceError, *, progressed: bool = False) -> None:
        """Report a failed attempt and wait until the next one is due.

        If the attempt `progressed`, that is, received bytes, it counts as the first failure again. Raises `error` when
        the policy allows no more attempts, Interrupted when the download is stopped.
        """
        self._failures = 1 if progressed else self._failures + 1
        self._has_data = self._has_data or progressed
        if self._stop.is_set():
            raise interrupted() from error
        if not self._policy.allows(error, self._failures, has_data=self._has_data):
            raise error
        wait_s = self._policy.wait_s(error, self._failures)
        self._report(Retrying(self._subject, explain(error, self._subject).message, wait_s))
        if self._stop.wait(wait_s):
            raise interrupted() from error


_RESUME, _OTHER = RecoveryKind.RESUME_DOWNLOAD, RecoveryKind.OTHER_SOURCE
_RECOVERIES = {
    **dict.fromkeys(
        (SourceFault.BUSY, SourceFault.UNREACHABLE, SourceFault.NOT_A_MODEL, SourceFault.SOURCE_READ), (_RESUME,)
    ),
    **dict.fromkeys(
        (SourceFault.RANGE, SourceFault.SERVER, SourceFault.SILENT, SourceFault.DROPPED), (_RESUME, _OTHER)
    ),
    **dict.fromkeys(
        (
            SourceFault.FORBIDDEN,
            SourceFault.URL_EXPIRED,
            SourceFault.NOT_FOUND,
            SourceFault.STATUS,
            SourceFault.NAME,
            SourceFault.REFUSED,
            SourceFault.LENGTH,
            SourceFault.LONG,
            SourceFault.ENCODED,
            SourceFault.WRONG_HASH,
            SourceFault.BAD_HASH,
            SourceFault.REDIRECTS,
            SourceFault.OFFLINE,
        ),
        (_OTHER,),
    ),
    SourceFault.FILE: (RecoveryKind.LIST_CATALOGUE,),
    SourceFault.REVISION: (RecoveryKind.OTHER_REVISION,),
}


def explain(error: SourceError, subject: str) -> QwenchatError:
    """Return the error that the user sees; `subject` is the repository or file that it concerns."""
    message, hint = _words(error.fault)
    fields = {
        "subject": subject,
        "host": error.host or subject,
        "status": error.status,
        "detail": error.detail,
        "variable": error.variable,
    }
    kind = _KINDS.get(error.fault, NetworkError)
    recoveries = tuple(Recovery(each) for each in _RECOVERIES.get(error.fault, ()))
    return kind(message.format(**fields), hint.format(**fields), recoveries=recoveries)


def explain_disk_error(error: OSError, name: str, folder: Path, missing: int) -> FileError:
    """Return the error for a file that can't be written; `missing` is in bytes, 0 if unknown."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return FileError(
            _("The disk is full: {missing} of {name} are still missing.").format(
                missing=human_size(missing), name=name
            ),
            _("What was downloaded so far is saved. Free some disk space, then resume the download."),
        )
    if error.errno == errno.EFBIG:
        return FileError(
            _("The disk of {folder} can't hold a file as large as {name}.").format(folder=folder, name=name),
            _("FAT32 is limited to 4 GB per file: format the disk as exFAT."),
            recoveries=(Recovery(RecoveryKind.OTHER_FOLDER),),
        )
    return FileError(
        _("{name} can't be written below {folder}: {reason}.").format(
            name=name, folder=folder, reason=reason_of(error)
        ),
        _("Make it writable."),
        recoveries=(Recovery(RecoveryKind.OTHER_FOLDER),),
    )


def offline(subject: str) -> QwenchatError:
    """Return the error for a model that is not on this machine while no connection may be opened."""
    return explain(SourceError(SourceFault.OFFLINE), subject)


def interrupted() -> Interrupted:
    """Return the error with which a stopped download ends."""
    return Interrupted(
        _("The download was stopped; what was downloaded so far is saved."),
        _("It can be resumed."),
    )


def _words(fault: SourceFault) -> tuple[str, str]:
    try_later = _("What was downloaded so far is saved.")
    refused = (
        _("{host} refuses access to {subject} (403)."),
        _("Check that the account or its token may read it."),
    )
    return {
        SourceFault.REPO: (
            _("{host} has no repository {subject}, or it is private."),
            _("Check the spelling; for a private one, log in with `hf auth login`."),
        ),
        SourceFault.REVISION: (
            _("{subject} has no such revision."),
            _("It may be a branch, a tag or a commit."),
        ),
        SourceFault.FILE: (
            _("There is no file {subject} on {host}."),
            _("Check the spelling: the page of the repository lists its files."),
        ),
        SourceFault.GATED: (
            _("{subject} is available only to users who have logged in and accepted its terms."),
            _("Accept them on its page at {host}, then log in with `hf auth login`."),
        ),
        SourceFault.GATED_FOR_TOKEN: (
            _("{subject} is not available to the account that this computer is logged in with."),
            _("Accept its terms on its page at {host} with that account, or log in with another one."),
        ),
        SourceFault.UNAUTHORISED: (
            _("{host} does not accept the login (401)."),
            _("Log in again with `hf auth login`, or log out with `hf auth logout`: Qwen2 needs no login."),
        ),
        SourceFault.FORBIDDEN: refused,
        SourceFault.URL_EXPIRED: refused,
        SourceFault.NOT_FOUND: (
            _("{host} does not have {subject} (404)."),
            _("Check the name."),
        ),
        SourceFault.RANGE: (_("{host} does not send the rest of {subject} (416)."), try_later),
        SourceFault.BUSY: (
            _("{host} received too many requests from this computer (429)."),
            _("Wait a few minutes; logging in raises the limit."),
        ),
        SourceFault.SERVER: (_("{host} has an internal error ({status})."), try_later),
        SourceFault.STATUS: (_("{host} sent an unexpected response ({status})."), ""),
        SourceFault.NAME: (
            _("The name {host} can't be resolved."),
            _("Check the connection and the name."),
        ),
        SourceFault.REFUSED: (
            _("{host} refuses connections."),
            _("Check its address and port."),
        ),
        SourceFault.UNREACHABLE: (
            _("{host} can't be reached: {detail}."),
            _("Check the connection."),
        ),
        SourceFault.PROXY: (
            _("The proxy for {host} refuses the connection or can't be reached."),
            _("Check {variable} and its password; NO_PROXY names hosts to reach without it."),
        ),
        SourceFault.TLS: (
            _("The identity of {host} can't be verified: {detail}."),
            _("Check the clock. Behind a company's proxy, set SSL_CERT_FILE to its certificates."),
        ),
        SourceFault.SILENT: (_("{host} stopped responding."), try_later),
        SourceFault.DROPPED: (_("The connection to {host} broke too many times."), try_later),
        SourceFault.LENGTH: (_("{host} sends {subject} with a different length than it declares."), ""),
        SourceFault.LONG: (_("{host} sends more of {subject} than it declares."), ""),
        SourceFault.ENCODED: (
            _("{host} sends {subject} compressed without being asked to."),
            _("A proxy may be changing the file."),
        ),
        SourceFault.NOT_A_MODEL: (
            _("{host} sends something that is not a model file instead of {subject}."),
            _("It may be a login page of this network: open a page in a browser first."),
        ),
        SourceFault.WRONG_HASH: (
            _("{subject} from {host} has the wrong sha256: it is damaged or a different file."),
            _("It was deleted. Download it again."),
        ),
        SourceFault.BAD_HASH: (_("{host} gives an invalid sha256 for {subject}."), ""),
        SourceFault.CHANGED: (
            _("{subject} was replaced on {host} while it was being downloaded."),
            _("Download it again to get the new one."),
        ),
        SourceFault.REDIRECTS: (_("{host} redirects in circles or to an invalid address."), ""),
        SourceFault.LISTING: (_("{host} does not respond like a hub."), _("Check the URL of the source.")),
        SourceFault.UNSAFE_NAME: (
            _("{host} has a file whose name leads out of its folder or is invalid on a disk: {subject}"),
            _("It was not downloaded. Choose another repository."),
        ),
        SourceFault.OFFLINE: (
            _("{subject} is not on this computer, and qwenchat is set to stay offline."),
            _("Unset HF_HUB_OFFLINE and hub.offline; a folder needs no connection."),
        ),
        SourceFault.SOURCE_READ: (
            _("{subject} can't be read from {host}: {detail}."),
            _("Check that the drive is still connected."),
        ),
    }[fault]
