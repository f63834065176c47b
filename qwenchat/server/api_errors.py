"""What a client is answered where something is wrong: OpenAI's shape, a status, and a code that never changes.

Messages are English, whatever the user's language is, because programs and their logs read them. No traceback and no
path of a file leaves here.
"""

from collections.abc import Mapping

import msgspec

from qwenchat.errors import (
    CannotLoad,
    EngineDied,
    FileError,
    Interrupted,
    NotFound,
    PromptTooLong,
    QueueFull,
    QwenchatError,
    RecoveryKind,
    RemoteError,
    WrongUse,
)
from qwenchat.i18n import sentences

RETRY_AFTER_S = 2
"""Seconds after which a client may try again where the queue was full."""


class ApiError(Exception):
    """A request that can't be served."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`param` is the field of the request that is to blame, if one is."""
        super().__init__(message)
        self.status, self.code, self.message, self.param = status, code, message, param
        self.headers = dict(headers or {})

    @property
    def body(self) -> bytes:
        """The error as JSON."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        if self.status == 429:
            kind = "rate_limit_error"
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return msgspec.json.encode({"error": error})


def unsupported(param: str, message: str) -> ApiError:
    """Return the error for a field that is known and not served."""
    return ApiError(400, "unsupported_parameter", message, param=param)


def invalid(param: str | None, message: str) -> ApiError:
    """Return the error for a field that makes no sense."""
    return ApiError(400, "invalid_request", message, param=param)


_ANSWERS: tuple[tuple[type[QwenchatError], int, str, str | None], ...] = (
    (PromptTooLong, 400, "context_length_exceeded", None),
    (QueueFull, 429, "queue_full", None),
    (NotFound, 404, "model_not_found", "model"),
    (CannotLoad, 503, "model_load_failed", "model"),
    (FileError, 503, "model_load_failed", "model"),
    (EngineDied, 500, "engine_died", None),
    (Interrupted, 503, "shutting_down", None),
    (WrongUse, 400, "invalid_request", None),
)
"""Status, code and field to blame for each kind of failure."""
_HEADERS = {
    "queue_full": {"retry-after": str(RETRY_AFTER_S)},
    "model_load_failed": {"x-should-retry": "false"},  # or OpenAI's clients would load it again at once
}


def api_error(error: Exception) -> ApiError:
    """Return what a client is answered for any failure; one that nobody expected is named without what it says."""
    if isinstance(error, ApiError):
        return error
    if not isinstance(error, QwenchatError):
        return ApiError(500, "internal_error", f"This is a bug in qwenchat: {type(error).__name__}.")
    message = sentences(error.message, error.hint)
    if any(each.kind is RecoveryKind.COMPLETE for each in error.recoveries):
        return ApiError(400, "no_chat_template", message, param="model")
    if isinstance(error, FileError):
        message = "The file of the model can't be read."
    for kind, status, code, param in _ANSWERS:
        if isinstance(error, kind):
            return ApiError(status, code, message, param=param, headers=_HEADERS.get(code))
    return ApiError(502 if isinstance(error, RemoteError) else 500, error.code, message)
