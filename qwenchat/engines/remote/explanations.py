"""What the user reads about a fault of a server: the kind of error, what is wrong, what to do, and what is offered.

A sentence of our own says what is wrong; what the server says stands behind it, marked as the server's words. Nothing
here decides what happens next.
"""

from qwenchat.engines.remote.faults import Fault, FaultKind
from qwenchat.engines.remote.server import RemoteServer
from qwenchat.errors import (
    PromptTooLong,
    QwenchatError,
    Recovery,
    RecoveryKind,
    RemoteBroken,
    RemoteBusy,
    RemoteRefused,
    RemoteUnauthorised,
    RemoteUnreachable,
)
from qwenchat.i18n import _, sentences

_CLASSES: dict[type[QwenchatError], tuple[FaultKind, ...]] = {
    RemoteUnreachable: (
        FaultKind.OFFLINE,
        FaultKind.NAME,
        FaultKind.REFUSED,
        FaultKind.NO_CONNECTION,
        FaultKind.CERTIFICATE,
        FaultKind.NOT_TLS,
        FaultKind.PROXY,
    ),
    RemoteUnauthorised: (FaultKind.NO_KEY, FaultKind.WRONG_KEY, FaultKind.FORBIDDEN),
    RemoteBusy: (FaultKind.LOADING, FaultKind.BUSY, FaultKind.FAILED),
    RemoteRefused: (
        FaultKind.REDIRECT,
        FaultKind.NO_PATH,
        FaultKind.NO_MODEL,
        FaultKind.QUOTA,
        FaultKind.CONTENT,
        FaultKind.REQUEST,
        FaultKind.STATUS,
    ),
    PromptTooLong: (FaultKind.CONTEXT,),
    RemoteBroken: (
        FaultKind.CUT,
        FaultKind.SILENT,
        FaultKind.PAGE,
        FaultKind.NOT_HTTP,
        FaultKind.NOT_JSON,
        FaultKind.NOT_A_STREAM,
        FaultKind.ENCODED,
        FaultKind.TOO_LARGE,
    ),
}
_CLASS = {kind: error for error, kinds in _CLASSES.items() for kind in kinds}

_AGAIN, _KEY, _TEST, _OTHER = (
    RecoveryKind.ASK_AGAIN,
    RecoveryKind.SET_KEY,
    RecoveryKind.TEST_ENGINE,
    RecoveryKind.OTHER_MODEL,
)
_RECOVERIES: dict[type[QwenchatError], tuple[RecoveryKind, ...]] = {
    RemoteUnreachable: (_AGAIN, _TEST, _OTHER),
    RemoteUnauthorised: (_KEY, _TEST, _OTHER),
    RemoteBusy: (_AGAIN, _OTHER),
    RemoteRefused: (_TEST, _OTHER),
    PromptTooLong: (),
    RemoteBroken: (_AGAIN, _TEST, _OTHER),
}
_FINAL = frozenset({FaultKind.OFFLINE, FaultKind.QUOTA, FaultKind.CONTENT})
"""Faults that neither asking again nor a test of the engine would change."""


def explain(fault: Fault, server: RemoteServer, *, has_begun: bool = False) -> QwenchatError:
    """Return the error for the user; `has_begun`: a part of the answer had come before."""
    message, hint = _words(fault)
    fields = {
        "host": server.host,
        "name": server.name,
        "status": fault.status,
        "detail": fault.detail,
        "seconds": fault.retry_after_s or 0,
    }
    said = _("It says: “{words}”.").format(words=fault.said.rstrip(".。 ")) if fault.said else ""
    kept = _("The answer is incomplete.") if has_begun else ""
    error = _CLASS[fault.kind]
    if has_begun and error is PromptTooLong:  # which would take the question and its answer back
        error = RemoteRefused
    kinds = (_OTHER,) if fault.kind in _FINAL else _RECOVERIES[error]
    return error(
        sentences(message.format(**fields), said),
        sentences(kept, hint.format(**fields)),
        recoveries=tuple(Recovery(kind, name=server.name) for kind in kinds),
    )


def _words(fault: Fault) -> tuple[str, str]:
    wait = _("It asks to wait for {seconds:.0f} s.") if fault.retry_after_s else _("Wait a little.")
    address = _("Check the URL of the engine {name}.")
    odd = _("Check the URL of the engine {name}, and what stands between this computer and the server.")
    return {
        FaultKind.OFFLINE: (
            _("The engine {name} is on {host}, and qwenchat is set to stay offline."),
            _("Unset hub.offline, which allows models on this computer alone."),
        ),
        FaultKind.NAME: (_("The name {host} can't be resolved."), _("Check the connection and the name.")),
        FaultKind.REFUSED: (
            _("{host} refuses connections."),
            _("Check that the server runs, and its address and port."),
        ),
        FaultKind.NO_CONNECTION: (
            _("{host} can't be reached: {detail}."),
            _("Check the connection, that the server runs, and its address."),
        ),
        FaultKind.CERTIFICATE: (
            _("The identity of {host} can't be verified: {detail}."),
            _("Check the clock and the name. For a certificate of your own, set SSL_CERT_FILE to its file."),
        ),
        FaultKind.NOT_TLS: (
            _("No encrypted connection to {host} is possible."),
            _("Check whether its URL begins with http:// or https://."),
        ),
        FaultKind.PROXY: (
            _("The proxy for {host} refuses the connection or can't be reached."),
            _("Check {detail} and its password; NO_PROXY names hosts to reach without it.")
            if fault.detail
            else _("Check the settings of the proxy and its password."),
        ),
        FaultKind.REDIRECT: (
            _("{host} redirects to {detail}, which is not followed, so that the key goes nowhere else."),
            _("If that address is right, set it as the URL of the engine {name}."),
        ),
        FaultKind.NO_KEY: (_("{host} wants a key (401)."), ""),
        FaultKind.WRONG_KEY: (
            _("{host} does not accept the key (401)."),
            _("Check the key of the engine {name}, and that it belongs to this host."),
        ),
        FaultKind.FORBIDDEN: (
            _("{host} refuses access (403)."),
            _("Check what the key of the engine {name} may be used for."),
        ),
        FaultKind.LOADING: (_("{host} is loading its model."), _("Wait until it is loaded.")),
        FaultKind.BUSY: (_("{host} is busy ({status})."), wait) if fault.status else (_("{host} is busy."), wait),
        FaultKind.FAILED: (_("{host} has an internal error ({status})."), _("The log of the server may say more."))
        if fault.status
        else (_("{host} reports an error."), _("The log of the server may say more.")),
        FaultKind.NO_PATH: (
            _("{host} has nothing at {detail} ({status})."),
            _("Check the URL of the engine {name}: for many servers it ends in /v1."),
        ),
        FaultKind.NO_MODEL: (_("{host} does not have this model."), ""),
        FaultKind.QUOTA: (
            _("The quota of the account at {host} is used up."),
            _("Check the account there."),
        ),
        FaultKind.CONTENT: (
            _("The content filter of {host} ended the answer."),
            _("Put the question in other words."),
        ),
        FaultKind.CONTEXT: (
            _("The prompt does not fit the context window: {detail} tokens.")
            if fault.detail
            else _("The prompt does not fit the context window of the model at {host}."),
            _("Shorten it, or choose a model with a larger window."),
        ),
        FaultKind.REQUEST: (
            _("{host} refuses the request ({status})."),
            _("It may not know a parameter that is set: unset it."),
        ),
        FaultKind.STATUS: (_("{host} sent an unexpected response ({status})."), address),
        FaultKind.CUT: (
            _("The connection to {host} broke."),
            _("Check the connection and the server."),
        ),
        FaultKind.SILENT: (_("{host} stopped responding."), _("Check whether the server still runs.")),
        FaultKind.PAGE: (
            _("{host} sends a web page in place of an answer: a login page, a proxy, or another program."),
            odd,
        ),
        FaultKind.NOT_HTTP: (
            _("{host} does not speak HTTP."),
            _("Check whether its URL begins with http:// or https://."),
        ),
        FaultKind.NOT_JSON: (_("What {host} sends can't be read."), odd),
        FaultKind.NOT_A_STREAM: (_("{host} does not stream its answer."), odd),
        FaultKind.ENCODED: (_("{host} sends its answer compressed without being asked to."), odd),
        FaultKind.TOO_LARGE: (_("{host} sends more than an answer can have."), odd),
    }[fault.kind]
