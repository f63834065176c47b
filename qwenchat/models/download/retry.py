"""All that goes wrong between a hub and this machine: one table from fault to words, and which ones pass by themselves.

`WireError` travels inside `models`; `explain` turns it into the typed error that a person meets. URLs, headers and
tokens never get into either: a host's name is all that is told.
"""

import http.client
import socket
import ssl
from enum import Enum, auto

from qwenchat.errors import NetworkError, NotFound, QwenchatError
from qwenchat.i18n import _


class Fault(Enum):
    """What went wrong."""

    REPO = auto()
    REVISION = auto()
    FILE = auto()
    GATED = auto()
    """It asks for a login or for its terms to be accepted, and no token was sent."""
    GATED_FOR_TOKEN = auto()
    """As above, though a token was sent."""
    UNAUTHORISED = auto()
    FORBIDDEN = auto()
    NOT_FOUND = auto()
    RANGE = auto()
    BUSY = auto()
    SERVER = auto()
    STATUS = auto()
    NAME = auto()
    REFUSED = auto()
    UNREACHABLE = auto()
    PROXY = auto()
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


PASSING = frozenset(
    {
        Fault.FORBIDDEN,  # a signed URL that expired; one that the source itself forbids is raised as such below
        Fault.RANGE,
        Fault.BUSY,
        Fault.SERVER,
        Fault.NAME,
        Fault.REFUSED,
        Fault.UNREACHABLE,
        Fault.PROXY,
        Fault.SILENT,
        Fault.DROPPED,
        Fault.LENGTH,
    }
)
"""Faults after which another attempt at the bytes makes sense."""

_NOT_FOUND = frozenset({Fault.REPO, Fault.REVISION, Fault.FILE})
_STATUSES = {
    401: Fault.UNAUTHORISED,
    403: Fault.FORBIDDEN,
    404: Fault.NOT_FOUND,
    407: Fault.PROXY,
    408: Fault.SILENT,
    410: Fault.NOT_FOUND,
    416: Fault.RANGE,
    429: Fault.BUSY,
}


class WireError(Exception):
    """A fault with what is known of it. `retry_after` is in seconds, as the server asked; `status` is HTTP's."""

    def __init__(
        self, fault: Fault, host: str = "", *, status: int = 0, retry_after: float | None = None, detail: str = ""
    ) -> None:
        super().__init__(f"{fault.name} {host} {status or ''} {detail}".strip())
        self.fault = fault
        self.host = host
        self.status = status
        self.retry_after = retry_after
        self.detail = detail
        self.final = False
        """Whether trying again makes no sense, though the fault often passes."""


def of_status(status: int, host: str, retry_after: float | None = None) -> WireError:
    """Return the fault that an HTTP status stands for."""
    fault = _STATUSES.get(status, Fault.SERVER if status >= 500 else Fault.STATUS)
    return WireError(fault, host, status=status, retry_after=retry_after)


def of_exception(error: BaseException, host: str, *, through_proxy: bool = False) -> WireError:
    """Return the fault behind an exception of the standard library or of an HTTP library that wraps those."""
    chain = _chain(error)
    kinds: tuple[tuple[type[BaseException], Fault], ...] = (
        (socket.gaierror, Fault.NAME),
        (ssl.SSLCertVerificationError, Fault.TLS),
        (ssl.SSLEOFError, Fault.DROPPED),
        (ssl.SSLZeroReturnError, Fault.DROPPED),
        (ssl.SSLError, Fault.TLS),
        (TimeoutError, Fault.SILENT),
        (ConnectionRefusedError, Fault.REFUSED),
        (ConnectionError, Fault.DROPPED),
        (http.client.HTTPException, Fault.DROPPED),
    )
    by_proxy = any("tunnel" in str(link).lower() or "Proxy" in type(link).__name__ for link in chain)
    known = (fault for kind, fault in kinds if any(isinstance(link, kind) for link in chain))
    fault = next(known, Fault.PROXY if by_proxy else Fault.UNREACHABLE)
    if through_proxy and fault in (Fault.REFUSED, Fault.NAME):
        fault = Fault.PROXY
    reason = next((link.strerror for link in chain if isinstance(link, OSError) and link.strerror), "")
    return WireError(fault, host, detail=reason)


def _chain(error: BaseException | None) -> list[BaseException]:
    links: list[BaseException] = []
    while error is not None and error not in links:
        links.append(error)
        error = error.__cause__ or error.__context__
    return links


def explain(error: WireError, subject: str) -> QwenchatError:
    """Return the error that a person meets; `subject` is the repository or file that it was about."""
    message, hint = _words(error.fault)
    fields = {"subject": subject, "host": error.host or subject, "status": error.status, "detail": error.detail}
    kind: type[QwenchatError] = NotFound if error.fault in _NOT_FOUND else NetworkError
    return kind(message.format(**fields), hint.format(**fields))


def offline(subject: str) -> QwenchatError:
    """Return the error for something that is not here while no connection may be opened."""
    return explain(WireError(Fault.OFFLINE), subject)


def _words(fault: Fault) -> tuple[str, str]:
    try_later = _("What has arrived is kept: run the same command again, or choose another source with --from.")
    other = _("Choose another source with --from.")
    return {
        Fault.REPO: (
            _("{host} has no repository {subject}, or it is private."),
            _("Check the spelling; for a private one, log in with `hf auth login`."),
        ),
        Fault.REVISION: (
            _("{subject} has no such revision."),
            _("Leave --revision out, or name a branch, tag or commit."),
        ),
        Fault.FILE: (
            _("There is no file {subject} on {host}."),
            _("`qwenchat models catalog` shows what there is; for another repository, look at its page."),
        ),
        Fault.GATED: (
            _("{subject} is open only to people who are logged in and accepted its terms."),
            _("Accept them on its page at {host}, then log in with `hf auth login`."),
        ),
        Fault.GATED_FOR_TOKEN: (
            _("{subject} is not open to the account that this machine is logged in with."),
            _("Accept its terms on its page at {host} with that account, or log in with another."),
        ),
        Fault.UNAUTHORISED: (
            _("{host} does not accept the login (401)."),
            _("Log in again with `hf auth login`, or log out with `hf auth logout`: Qwen2 needs no login."),
        ),
        Fault.FORBIDDEN: (
            _("{host} refuses access to {subject} (403)."),
            _("Check that the account or its token may read it, or choose another source with --from."),
        ),
        Fault.NOT_FOUND: (_("{host} does not have {subject} (404)."), _("Check the name, or choose another source.")),
        Fault.RANGE: (_("{host} does not send the rest of {subject} (416)."), try_later),
        Fault.BUSY: (
            _("{host} gets too many requests from here (429)."),
            _("Wait some minutes and run the same command again; logging in raises the limit."),
        ),
        Fault.SERVER: (_("{host} has a fault of its own ({status})."), try_later),
        Fault.STATUS: (_("{host} gave an answer that makes no sense here ({status})."), other),
        Fault.NAME: (
            _("The name {host} can't be resolved."),
            _("Check the connection and the name; `--from` takes another source."),
        ),
        Fault.REFUSED: (_("{host} refuses connections."), _("Check its address and port, or choose another source.")),
        Fault.UNREACHABLE: (_("{host} can't be reached: {detail}."), _("Check the connection, then run it again.")),
        Fault.PROXY: (
            _("The proxy on the way to {host} refuses or can't be reached."),
            _("Check HTTPS_PROXY and its password; NO_PROXY names hosts to reach without it."),
        ),
        Fault.TLS: (
            _("{host} can't prove who it is: {detail}."),
            _("Check the clock; behind a company's proxy, set SSL_CERT_FILE to its certificates."),
        ),
        Fault.SILENT: (_("{host} stopped answering."), try_later),
        Fault.DROPPED: (_("The connection to {host} broke too many times."), try_later),
        Fault.LENGTH: (_("{host} sends {subject} with another length than it declares."), other),
        Fault.LONG: (_("{host} sends more of {subject} than it declares."), other),
        Fault.ENCODED: (
            _("{host} sends {subject} compressed, which was not asked for."),
            _("Something on the way changes it. Choose another source with --from."),
        ),
        Fault.NOT_A_MODEL: (
            _("What {host} sends in place of {subject} is not a model file."),
            _("It may be a login page of this network: open a page in a browser, then run it again."),
        ),
        Fault.WRONG_HASH: (
            _("{subject} from {host} has the wrong sha256: it is damaged or not what it should be."),
            _("Nothing of it was kept. Run it again, or choose another source with --from."),
        ),
        Fault.BAD_HASH: (_("What {host} gives as the sha256 of {subject} can't be one."), other),
        Fault.CHANGED: (
            _("{subject} was replaced on {host} while it was being downloaded."),
            _("Run the same command again to get the new one."),
        ),
        Fault.REDIRECTS: (_("{host} sends this program round in circles or nowhere."), other),
        Fault.LISTING: (_("{host} does not answer like a hub."), _("Check the address of the source.")),
        Fault.UNSAFE_NAME: (
            _("{host} names a file in a way that leads out of its folder or that a disk can't take: {subject}"),
            _("It was not downloaded. Choose another repository."),
        ),
        Fault.OFFLINE: (
            _("{subject} is not on this machine, and this program is offline."),
            _("Unset HF_HUB_OFFLINE and hub.offline, or take it from a folder with --from file:DIR."),
        ),
        Fault.SOURCE_READ: (
            _("{subject} can't be read: {detail}."),
            _("Check that the drive is still there, then run the same command again."),
        ),
    }[fault]  # fmt: skip
