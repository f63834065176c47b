"""Turns the worker's failures into the errors that users read, with the recoveries that this engine offers.

A recovery is offered only where it can help: less memory after a crash or a failed load, another model if the file is
the cause, none if the installation is.
"""

from collections.abc import Sequence

from qwenchat.engines.local.protocol import RequestFailed, RequestReply
from qwenchat.engines.schema.refusal import SchemaRefused, refused
from qwenchat.errors import (
    CannotLoad,
    EngineDied,
    Interrupted,
    PromptTooLong,
    QwenchatError,
    Recovery,
    RecoveryKind,
    WrongUse,
)
from qwenchat.i18n import _

LEAST_CONTEXT = 512
"""Tokens; no smaller context window is offered."""
START_AGAIN = Recovery(RecoveryKind.START_AGAIN)
OTHER_MODEL = Recovery(RecoveryKind.OTHER_MODEL)


def with_less(n_ctx: int, gpu_layers: int = 0) -> tuple[Recovery, ...]:
    """Return the ways to load the same model with less memory: half of the context window, fewer layers on the GPU."""
    recoveries = [Recovery(RecoveryKind.SMALLER_CONTEXT, max(LEAST_CONTEXT, n_ctx // 2))]
    if gpu_layers > 1:
        recoveries.append(Recovery(RecoveryKind.FEWER_LAYERS, gpu_layers // 2))
    if gpu_layers:
        recoveries.append(Recovery(RecoveryKind.WITHOUT_GPU))
    return tuple(recoveries)


def load_error(
    reply: RequestFailed, *, name: str, reference: str, n_ctx: int, log: Sequence[str], recoveries: tuple[Recovery, ...]
) -> CannotLoad:
    """Return the error for a failed load. llama.cpp gives its reason only in the log."""
    marks = ("error loading model", "failed to load", "error")
    reasons = [line for mark in marks for line in reversed(log) if mark in line]
    reason = reasons[0].rpartition("error loading model: ")[2].rpartition(": ")[2] if reasons else reply.detail
    if reply.detail == "adapter":
        return CannotLoad(
            _("An adapter can't be used: {reason}.").format(reason=reason),
            _("Use a GGUF adapter that was made for exactly this file."),
            recoveries=(OTHER_MODEL,),
        )
    if reply.detail == "context":
        return CannotLoad(
            _("A context of {n_ctx:,} tokens does not fit into memory: {reason}.").format(n_ctx=n_ctx, reason=reason),
            recoveries=recoveries,
        )
    return CannotLoad(
        _("llama.cpp can't load {name}: {reason}.").format(name=name, reason=reason),
        _("The file may be damaged."),
        recoveries=(*recoveries, Recovery(RecoveryKind.VERIFY, name=reference)),
    )


def changed_while_loaded(error: EngineDied) -> EngineDied:
    """Return the error for a worker that died because its model file was changed in place: what it maps is gone."""
    return EngineDied(
        _("The model file was changed while it was loaded, and the engine process ended."),
        _("Wait until the new file is complete."),
        log=error.log,
        recoveries=error.recoveries,
    )


def loading_stopped() -> Interrupted:
    """Return the error for a load that was stopped by closing the engine."""
    return Interrupted(_("Loading was stopped."))


def request_error(reply: RequestReply, recoveries: tuple[Recovery, ...]) -> QwenchatError:
    """Return the error for a request that the worker refused."""
    kind, detail = (reply.kind, reply.detail) if isinstance(reply, RequestFailed) else ("decode", repr(reply))
    if kind == "context":
        return PromptTooLong(
            _("The prompt does not fit the context window: {detail} tokens.").format(detail=detail),
            _("Shorten it."),
            recoveries=(Recovery(RecoveryKind.LARGER_CONTEXT),),
        )
    if kind == "token":
        return WrongUse(
            _("The prompt contains a token that the model does not have: {token}.").format(token=detail),
            _("Make the prompt with the tokenizer of this model."),
        )
    if isinstance(reply, RequestFailed) and kind == "schema":
        return refused(SchemaRefused(reply.reason, reply.pointer, detail))
    if kind == "refused":  # by the program that shares its model, such as for too many that wait
        return EngineDied(detail, _("It may work the next time."), recoveries=recoveries)
    return EngineDied(
        _("llama.cpp failed to compute: {detail}.").format(detail=detail),
        _("It may work the next time."),
        recoveries=recoveries,
    )
