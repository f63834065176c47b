"""Translation: every string that a user reads passes through `_` or `ngettext`. Also the encoding of the locale.

The catalogue in use is a context variable, so that tests, threads or screens can use different languages at the same
time. English is the source language and needs no catalogue. Nothing here reads settings.
"""

import codecs
import gettext
import locale
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar, copy_context
from pathlib import Path
from typing import TypeVar

Made = TypeVar("Made")

LANGUAGES = ("en", "zh_CN")
CATALOGUES = Path(__file__).parent / "locale"
_catalogue: ContextVar[gettext.NullTranslations | None] = ContextVar("catalogue", default=None)


def _(message: str) -> str:
    """Return `message` in the current language, unchanged if it has no translation."""
    catalogue = _catalogue.get()
    return catalogue.gettext(message) if catalogue else message


def ngettext(singular: str, plural: str, count: int) -> str:
    """Return the singular or plural form of a message for `count`."""
    catalogue = _catalogue.get()
    if catalogue:
        return catalogue.ngettext(singular, plural, count)
    return singular if count == 1 else plural


def labelled(name: object, value: object) -> str:
    """Return a name and its value as one line, separated by the language's own colon."""
    return _("{name}: {value}").format(name=name, value=value)


def enumerated(names: Iterable[object]) -> str:
    """Return names as an enumeration, separated as the language does it."""
    return _(", ").join(map(str, names))


def clauses(*parts: str) -> str:
    """Return parts of a sentence as one, separated by the language's own semicolon; empty parts are skipped."""
    return _("; ").join(part for part in parts if part)


def sentences(*parts: str) -> str:
    """Return sentences as one text, with a space between them where the language has one; empty ones are skipped."""
    between = _("{before} {after}").format(before="", after="")
    return between.join(part for part in parts if part)


def reason_of(error: BaseException) -> str:
    """Return the system's words for an error as a clause, in the current language where they are translated.

    `devtools.catalogue` lists those that are.
    """
    words = getattr(error, "strerror", None) or str(error)
    return _(words) if words else type(error).__name__


def language() -> str:
    """Return the current language, one of LANGUAGES."""
    catalogue = _catalogue.get()
    return catalogue.info().get("language", "en") if catalogue else "en"


def language_of(environ: Mapping[str, str]) -> str:
    """Return the language that the POSIX locale variables ask for; `en` if it is not one of LANGUAGES."""
    for name in ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        for wanted in environ.get(name, "").split(":"):
            if wanted:
                return next((known for known in LANGUAGES if known[:2] == wanted[:2].lower()), "en")
    return "en"


def use_language(wanted: str = "") -> str:
    """Use the language `wanted` (one of LANGUAGES; empty: the locale's) in this context, and return it."""
    wanted = wanted or language_of(os.environ)
    _catalogue.set(gettext.translation("qwenchat", CATALOGUES, [wanted], fallback=True))
    return wanted


def in_language(wanted: str, make: Callable[[], Made]) -> Made:
    """Return what `make` returns in another language; the language of this context stays."""

    def made() -> Made:
        use_language(wanted)
        return make()

    return copy_context().run(made)


def locale_encoding() -> str:
    """Return the encoding of the terminal and of pipes; UTF-8 also where the locale is ASCII, as terminals then are."""
    if sys.platform == "win32":
        return "utf-8"
    try:
        encoding = codecs.lookup(locale.getencoding()).name
    except LookupError:
        return "utf-8"
    return "utf-8" if encoding == "ascii" else encoding
