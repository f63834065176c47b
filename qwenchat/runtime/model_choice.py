"""Which model answers where none is named, and what a reference means from any folder. Nothing is loaded here."""

# ruff: noqa: PLC0415 - what needs no model should not import what reads them

from contextlib import suppress
from typing import TYPE_CHECKING

from qwenchat.chat.session import Session
from qwenchat.errors import NotFound, QwenchatError, Recovery, RecoveryKind
from qwenchat.i18n import _

if TYPE_CHECKING:
    from qwenchat.runtime.program import Program


def is_guide(reference: str) -> bool:
    """Return whether a model reference is that of the built-in guide."""
    return reference.strip().lower() == "guide"


def default_model(program: "Program") -> str:
    """Return the model of the settings, else the best one on this machine; empty where there is none."""
    if program.settings.model.default:
        return program.settings.model.default
    best = program.library.best()
    return best.reference if best else ""


def opening_model(program: "Program") -> str:
    """Return the model for a new chat: that of the settings, else the last one used, else the best one here.

    A model elsewhere is passed over where its engine is set no longer or may not be asked. The guide opens where it was
    used last and no other model is here.
    """
    if program.settings.model.default:
        return program.settings.model.default
    used = program.model_folders.used.references()
    for reference in used:
        with suppress(QwenchatError):
            if program.remote_engines.may_ask(reference):
                return reference
            if not is_guide(reference) and program.library.find(program.library.parse(reference)):
                return reference
    return default_model(program) or next(filter(is_guide, used[:1]), "")


def model_to_ask(program: "Program", named: str, session: Session | None) -> str:
    """Return the model that the user named, else the session's, else the default one.

    Empty where there is none but the guide. Raises WrongUse.
    """
    if named:
        return lasting_reference(program, named)
    return (session.model if session else "") or default_model(program)


def recommended_model(program: "Program") -> str:
    """Return the Qwen2 model that suits this machine; the smallest where none does."""
    from qwenchat.models import recommendation

    best = recommendation.recommended(
        recommendation.assess_catalogue(program.catalogue, program.usable(measure=True), {})
    )
    return best.reference if best else f"{program.catalogue.models[0].name}:{recommendation.USUAL_QUANT}"


def lasting_reference(program: "Program", model: str) -> str:
    """Return a model reference that means the same from any folder. Raises WrongUse, NotFound for an unknown engine."""
    from qwenchat.models import reference

    if path := reference.file_in(model):  # no other reference, so what reads models need not be imported
        return reference.path_reference(path.absolute())
    parsed = program.library.parse(model)
    if isinstance(parsed, reference.FileReference):
        return reference.path_reference(parsed.path.absolute())
    if isinstance(parsed, reference.RemoteReference):
        program.remote_engines.server(parsed.engine)
        return str(parsed)
    return model


def no_model() -> NotFound:
    """Return the error for a question that no model is there to answer."""
    return NotFound(
        _("No model is chosen, and none is installed."),
        _("Download one first."),
        recoveries=(Recovery(RecoveryKind.RECOMMEND),),
    )
