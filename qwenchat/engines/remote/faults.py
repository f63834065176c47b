"""What can go wrong when a server is asked, recognised from a status and a body, from an event, or from an exception.

What a server says is hostile: it is cleaned, shortened, and freed of the key. `retry` decides whether another attempt
is made, `explanations` what the user reads.
"""

import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from enum import Enum, auto
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx2
import msgspec
from msgspec import Struct, structs

from qwenchat.engines.remote.keys import Key
from qwenchat.i18n import _, reason_of
from qwenchat.net.addresses import origin
from qwenchat.net.waits import retry_after
from qwenchat.text.safe import clean, clean_line


class FaultKind(Enum):
    """The kinds of faults."""

    OFFLINE = auto()
    NAME = auto()
    REFUSED = auto()
    NO_CONNECTION = auto()
    """It is not established in time, or fails otherwise; `detail` is the system's reason."""
    CERTIFICATE = auto()
    NOT_TLS = auto()
    PROXY = auto()
    """`detail` is the variable that sets the proxy."""
    REDIRECT = auto()
    """`detail` is the target."""
    NO_KEY = auto()
    WRONG_KEY = auto()
    FORBIDDEN = auto()
    LOADING = auto()
    BUSY = auto()
    FAILED = auto()
    NO_PATH = auto()
    """`detail` is the path."""
    NO_MODEL = auto()
    QUOTA = auto()
    CONTENT = auto()
    CONTEXT = auto()
    """`detail` has the numbers of tokens, where the server gives them."""
    REQUEST = auto()
    STATUS = auto()
    CUT = auto()
    SILENT = auto()
    PAGE = auto()
    NOT_HTTP = auto()
    NOT_JSON = auto()
    NOT_A_STREAM = auto()
    ENCODED = auto()
    TOO_LARGE = auto()


class Fault(Struct, frozen=True, kw_only=True):
    """What one attempt met."""

    kind: FaultKind
    status: int = 0
    """Of HTTP, or that an event gave; 0 for none."""
    said: str = ""
    """The server's own words as one short clean line."""
    detail: str = ""
    """See the kind."""
    retry_after_s: float | None = None
    """The wait that the server asks for."""


class AttemptFailed(Exception):
    """One attempt met a fault. It never leaves `http`."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.kind.name)
        self.fault = fault


class Attempt(Struct, frozen=True, kw_only=True):
    """How a request was sent."""

    url: str
    key: Key | None = None
    proxy: str = ""
    """The variable of the proxy that it went through; empty for none."""


_MARKS = tuple(
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        (FaultKind.QUOTA, r"insufficient_quota|arrearage|billing_hard_limit|freetieronly|account.{0,20} in debt"),
        (FaultKind.CONTENT, r"data_?inspection_?failed|content_filter|content_policy|inappropriate content"),
        (
            FaultKind.CONTEXT,
            r"exceed_context_size|context_length_exceeded|maximum context length|maximum model length"
            r"|exceeds? (?:the )?(?:available )?context|range of input length|context length (?:is|of) (?:only )?\d",
        ),
        (FaultKind.LOADING, r"loading model|model is (?:still )?(?:loading|being loaded)"),
        (FaultKind.NO_MODEL, r"model_?not_?found|model\b.{0,200}\b(?:not found|does not exist|not exist)"),
        (FaultKind.NO_PATH, r"unexpected endpoint"),
        (FaultKind.BUSY, r"rate.?limit|throttling|limit_requests|limit_burst|overloaded|too many requests"),
    )
)
"""What errors of these kinds say, in their codes or in words. Statuses alone do not distinguish them."""
_ALWAYS = frozenset({FaultKind.QUOTA, FaultKind.CONTENT, FaultKind.CONTEXT})
"""Kinds that are recognised under every status."""
_STATUSES = {
    401: FaultKind.WRONG_KEY,
    403: FaultKind.FORBIDDEN,
    404: FaultKind.NO_PATH,
    405: FaultKind.NO_PATH,
    407: FaultKind.PROXY,
    408: FaultKind.BUSY,
    409: FaultKind.BUSY,
    425: FaultKind.BUSY,
    429: FaultKind.BUSY,
    501: FaultKind.REQUEST,
    503: FaultKind.BUSY,
    504: FaultKind.BUSY,
    511: FaultKind.PAGE,
}
_AT_STATUS = {
    FaultKind.LOADING: frozenset({0, 500, 503}),
    FaultKind.NO_MODEL: frozenset({0, 400, 404}),
    FaultKind.NO_PATH: frozenset({0}),
    FaultKind.BUSY: frozenset({0, 400, 403, 429, 503, 529}),
}
"""The statuses under which the other kinds of `_MARKS` are recognised; 0 for an event."""


_EXCEPTIONS: tuple[tuple[type[BaseException], FaultKind], ...] = (
    (socket.gaierror, FaultKind.NAME),
    (ssl.SSLCertVerificationError, FaultKind.CERTIFICATE),
    (ssl.SSLEOFError, FaultKind.CUT),
    (ssl.SSLZeroReturnError, FaultKind.CUT),
    (ssl.SSLError, FaultKind.NOT_TLS),
    (ConnectionRefusedError, FaultKind.REFUSED),
    (httpx2.ConnectTimeout, FaultKind.NO_CONNECTION),
    (httpx2.ConnectError, FaultKind.NO_CONNECTION),
    (httpx2.TimeoutException, FaultKind.SILENT),
    (TimeoutError, FaultKind.SILENT),
    (httpx2.SSEError, FaultKind.TOO_LARGE),
    (httpx2.TransportError, FaultKind.CUT),
    (OSError, FaultKind.CUT),
)
"""The first matching class decides."""
_BROKE_OFF = re.compile("disconnected|peer closed")
"""What the HTTP library says of a connection that ends too early; its other words are about what is not HTTP."""


def looks_like_page(body: bytes) -> bool:
    """Return whether the beginning of a body is a web page, whatever its type says."""
    return re.match(rb"\s*(?:<!doctype|<html|<head|<\?xml|<!--)", body, re.IGNORECASE) is not None


def from_status(attempt: Attempt, status: int, headers: Mapping[str, str], body: bytes) -> Fault:
    """Return the fault of a response that is not a success, given the beginning of its body."""
    if 300 <= status < 400:
        return Fault(kind=FaultKind.REDIRECT, status=status, detail=_target(attempt, headers.get("location", "")))
    fault = _classified(attempt, status, _decoded(body))
    return structs.replace(fault, retry_after_s=_wait_s(headers))


def from_event(attempt: Attempt, value: object) -> Fault | None:
    """Return the fault that an event, or a document, reports after status 200; None where it reports none."""
    if not isinstance(value, dict) or not (value.get("error") or value.get("object") == "error"):
        return None
    error = value.get("error")
    code = (error if isinstance(error, dict) else value).get("code")
    return _classified(attempt, code if isinstance(code, int) and 400 <= code < 600 else 0, value)


def from_exception(attempt: Attempt, error: BaseException) -> Fault:
    """Return the fault of a connection that failed. An exception that is a bug is raised again."""
    links = list(_chain(error))
    kind, detail = _kind_of(links)
    by_proxy = next((link for link in links if "Proxy" in type(link).__name__), None)
    if attempt.proxy and (by_proxy or kind in (FaultKind.REFUSED, FaultKind.NAME, FaultKind.NO_CONNECTION)):
        status = re.match(r"\d{3}\b", str(by_proxy))
        return Fault(kind=FaultKind.PROXY, status=int(status[0]) if status else 0, detail=attempt.proxy)
    if kind is None:
        raise error
    return Fault(kind=kind, detail=detail)


def _kind_of(links: list[BaseException]) -> tuple[FaultKind | None, str]:
    """Return the kind of fault that a chain of exceptions means, None for a bug, and the detail of that kind."""
    if any(isinstance(link, httpx2.RemoteProtocolError) and not _BROKE_OFF.search(str(link)) for link in links):
        return FaultKind.NOT_HTTP, ""
    matches = (fault for kind, fault in _EXCEPTIONS if any(isinstance(link, kind) for link in links))
    fault = next(matches, None)
    if fault is FaultKind.CERTIFICATE:
        refused = (link for link in links if isinstance(link, ssl.SSLCertVerificationError))
        return fault, _certificate_words(next(refused))
    if fault is FaultKind.NO_CONNECTION:
        reasons = (reason_of(link) for link in links if isinstance(link, OSError) and link.strerror)
        return fault, next(reasons, _("it does not answer"))
    return fault, ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception, what caused it, and the members of groups, each once."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        link = waiting.pop(0)
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        waiting += [
            *(link.exceptions if isinstance(link, BaseExceptionGroup) else ()),
            link.__cause__,
            link.__context__,
        ]


def _certificate_words(error: ssl.SSLCertVerificationError) -> str:
    words = {
        9: _("its certificate is not valid yet"),
        10: _("its certificate has expired"),
        **dict.fromkeys((18, 19, 20, 21), _("this computer does not know who signed its certificate")),
        **dict.fromkeys((62, 64), _("its certificate is for another name")),
    }
    said = getattr(error, "verify_message", "") or reason_of(error)
    return words.get(getattr(error, "verify_code", 0)) or clean_line(said)


def _decoded(body: bytes) -> object:
    """Return what a body is: JSON, else text; nothing of a web page."""
    if looks_like_page(body):
        return ""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return body.decode("utf-8", "replace")


def _classified(attempt: Attempt, status: int, value: object) -> Fault:
    said, codes = _words_of(value)
    kind = _marked(status, f"{codes} {said}") or _STATUSES.get(status) or _of_class(status)
    if kind is FaultKind.WRONG_KEY and attempt.key is None:
        kind = FaultKind.NO_KEY
    details = {FaultKind.CONTEXT: _tokens(value), FaultKind.NO_PATH: _path(attempt), FaultKind.PROXY: attempt.proxy}
    return Fault(kind=kind, status=status, said=_shown(attempt, said), detail=details.get(kind, ""))


def _marked(status: int, text: str) -> FaultKind | None:
    for kind, mark in _MARKS:
        if (kind in _ALWAYS or status in _AT_STATUS[kind]) and mark.search(text[:5000]):
            return kind
    return None


def _of_class(status: int) -> FaultKind:
    if 400 <= status < 500:
        return FaultKind.REQUEST
    return FaultKind.FAILED if status == 0 or status >= 500 else FaultKind.STATUS


def _shown(attempt: Attempt, text: str, limit: int = 200) -> str:
    """Return a server's text as one short clean line without the key."""
    text = clean(text[:20_000])
    return clean_line(attempt.key.hide(text) if attempt.key else text, limit)


def _path(attempt: Attempt) -> str:
    return clean_line(urlsplit(attempt.url).path)


def _words_of(value: object) -> tuple[str, str]:
    """Return the message of an error in any dialect, and its codes."""
    if isinstance(value, str):
        return value, ""
    if not isinstance(value, dict):
        return "", ""
    error = value.get("error")
    inner: dict[str, Any] = error if isinstance(error, dict) else value
    codes = " ".join(str(inner[name]) for name in ("code", "type") if isinstance(inner.get(name), str | int))
    candidates = (inner.get("message"), error, inner.get("detail"), inner.get("msg"))
    return next((each for each in candidates if isinstance(each, str)), ""), codes


def _tokens(value: object) -> str:
    error = value.get("error") if isinstance(value, dict) else None
    if isinstance(error, dict):
        prompt, window = error.get("n_prompt_tokens"), error.get("n_ctx")
        if isinstance(prompt, int) and isinstance(window, int):
            return f"{prompt:,} > {window:,}"
    return ""


def _target(attempt: Attempt, location: str) -> str:
    """Return where a redirect leads: the path on the same server, only the origin of another one."""
    try:
        joined = urljoin(attempt.url, location)
        parts = urlsplit(joined)
    except ValueError:
        return _shown(attempt, location, 100)
    elsewhere = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return _shown(attempt, parts.path if origin(joined) == origin(attempt.url) else elsewhere, 100)


def _wait_s(headers: Mapping[str, str]) -> float | None:
    milliseconds = headers.get("retry-after-ms", "").strip()
    if re.fullmatch(r"[0-9]{1,12}(?:\.[0-9]{1,9})?", milliseconds):
        return float(milliseconds) / 1000
    return retry_after(headers.get("retry-after", ""))
