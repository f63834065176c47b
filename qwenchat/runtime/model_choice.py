"""Which model answers where none is named, and what a reference means from any folder. Nothing is loaded here."""

# ruff: noqa: PLC0415 - what needs no model should not import what reads them

from contextlib import suppress
from typing import TYPE_CHECKING

from qwenchat.chat.session import Session
from qwenchat.errors import NotFound, QwenchatError, Recovery, RecoveryKind
from qwenchat.i18n import _

if TYPE_CHECKING:
    from qwenchat.runtime.program import Program


def default_model(program: "Program") -> str:
    """Return the model of the settings, else the best one on this machine; empty where there is none."""
    if program.settings.model.default:
        return program.settings.model.default
    best = program.library.best()
    return best.reference if best else ""


def opening_model(program: "Program") -> str:
    """Return the model for a new chat: that of the settings, else the last one used, else the best one here."""
    for used in program.model_folders.used.references()[:1]:
        with suppress(QwenchatError):
            if not program.settings.model.default and program.library.find(program.library.parse(used)):
                return used
    return default_model(program)


def model_to_ask(program: "Program", named: str, session: Session | None) -> str:
    """Return the model that the user named, else the session's, else the default one.

    Empty where there is none but the guide. Raises WrongUse.
    """
    if named:
        return lasting_reference(program, named)
    return (session.model if session else "") or default_model(program)


def recommended_model(program: "Program") -> str:
    """Return the model of the catalogue that suits this machine; the smallest where none fits now."""
    from qwenchat.models import recommendation

    best = recommendation.recommended(
        recommendation.assess_catalogue(program.catalogue, program.usable(measure=True), {})
    )
    return best.reference if best else program.catalogue.models[0].size


def lasting_reference(program: "Program", model: str) -> str:
    """Return a model reference that means the same from any folder. Raises WrongUse."""
    from qwenchat.models import reference

    parsed = program.library.parse(model)
    if isinstance(parsed, reference.FileReference):
        return reference.path_reference(parsed.path.absolute())
    return model


def no_model() -> NotFound:
    """Return the error for a question that no model is there to answer."""
    return NotFound(
        _("No model is chosen and none is here."),
        _("Download one first."),
        recoveries=(Recovery(RecoveryKind.RECOMMEND),),
    )
