"""The language that a person reads: every string meant for eyes passes through `_` or `ngettext`.

The chosen catalogue lives in a context variable, so that two tests, two threads or two screens can speak
different languages at once. English is the source and needs no catalogue. Nothing here reads settings.
"""

import gettext
import os
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path

LANGUAGES = ("en", "zh_CN")
CATALOGUES = Path(__file__).parent / "locale"
_catalogue: ContextVar[gettext.NullTranslations | None] = ContextVar("catalogue", default=None)


def _(message: str) -> str:
    """Return `message` in the chosen language, or as it is where no translation exists."""
    catalogue = _catalogue.get()
    return catalogue.gettext(message) if catalogue else message


def ngettext(singular: str, plural: str, count: int) -> str:
    """Return the form of a message that goes with `count` things."""
    catalogue = _catalogue.get()
    if catalogue:
        return catalogue.ngettext(singular, plural, count)
    return singular if count == 1 else plural


def labelled(name: object, value: object) -> str:
    """Return a name and what it stands for as one line, with the colon of the language."""
    return _("{name}: {value}").format(name=name, value=value)


def language() -> str:
    """Return the language being spoken, one of LANGUAGES."""
    catalogue = _catalogue.get()
    return catalogue.info().get("language", "en") if catalogue else "en"


def language_of(environ: Mapping[str, str]) -> str:
    """Return the language that the POSIX locale variables ask for, `en` where they ask for none of ours."""
    for name in ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        for wanted in environ.get(name, "").split(":"):
            if wanted:
                return next((known for known in LANGUAGES if known[:2] == wanted[:2].lower()), "en")
    return "en"


def use_language(wanted: str = "") -> str:
    """Speak `wanted` (one of LANGUAGES) from here on in this context; the locale's own if empty."""
    wanted = wanted or language_of(os.environ)
    _catalogue.set(gettext.translation("qwenchat", CATALOGUES, [wanted], fallback=True))
    return wanted
