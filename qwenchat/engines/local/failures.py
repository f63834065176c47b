"""What the worker's refusals mean to a person."""

import shlex
from collections.abc import Sequence

from qwenchat.engines.local.protocol import Answer, Failed
from qwenchat.errors import CannotLoad, EngineDied, Interrupted, PromptTooLong, QwenchatError, WrongUse
from qwenchat.i18n import _


def load_error(reply: Failed, name: str, n_ctx: int, log: Sequence[str]) -> QwenchatError:
    """Return the error for a model that was not loaded; llama.cpp gives its reason only in the log."""
    if reply.kind == "cancelled":
        return loading_stopped()
    marks = ("error loading model", "failed to load", "error")
    reasons = [line for mark in marks for line in reversed(log) if mark in line]
    reason = reasons[0].rpartition("error loading model: ")[2].rpartition(": ")[2] if reasons else reply.detail
    if reply.detail == "context":
        return CannotLoad(
            _("There is no memory for a context of {n_ctx:,} tokens: {reason}.").format(n_ctx=n_ctx, reason=reason),
            _("Use a smaller context (--ctx) or a smaller quantisation."),
        )
    if reply.detail == "adapter":
        return CannotLoad(
            _("An adapter can't be used: {reason}.").format(reason=reason),
            _("Check that --lora names a GGUF adapter made for this very model."),
        )
    return CannotLoad(
        _("llama.cpp can't load {name}: {reason}.").format(name=name, reason=reason),
        _("The file may be damaged: `qwenchat models verify {name}` checks it.").format(name=shlex.quote(name)),
    )


def loading_stopped() -> Interrupted:
    """Return the error for a load that was cancelled."""
    return Interrupted(_("Loading was stopped."))


def counting_stopped() -> Interrupted:
    """Return the error for a count that was cancelled."""
    return Interrupted(_("Counting tokens was stopped."))


def request_error(reply: Answer) -> QwenchatError:
    """Return the error for a request that the worker refused."""
    kind, detail = (reply.kind, reply.detail) if isinstance(reply, Failed) else ("decode", repr(reply))
    if kind == "context":
        return PromptTooLong(
            _("The prompt does not fit the context window: {detail} tokens.").format(detail=detail),
            _("Shorten it, or load the model with a larger context (--ctx)."),
        )
    if kind == "schema":
        return WrongUse(
            _("The JSON schema can't be used: {detail}.").format(detail=detail),
            _("Check that it is a JSON Schema and that it uses no reference to another file."),
        )
    return EngineDied(
        _("llama.cpp could not compute: {detail}.").format(detail=detail),
        _("Ask again; if it happens again, use a smaller --ctx."),
    )
