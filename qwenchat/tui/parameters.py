"""What a user types for one chat, read and checked: sampling parameters, the context window, tags.

Names and ranges are those of `chat.sampling`. Nothing is saved here.
"""

import re
from collections.abc import Callable
from typing import Any, TypeVar

from msgspec import structs

from qwenchat.chat.sampling import PARAMETERS, Parameter, Sampling, parameter
from qwenchat.chat.session import Session
from qwenchat.errors import WrongUse
from qwenchat.i18n import _, enumerated
from qwenchat.text.safe import clean_line

Number = TypeVar("Number", int, float)
CONTEXT = "context"
_CONTEXT_ALIASES = (CONTEXT, "ctx", "num_ctx")
"""What other programs call the context window."""
_BETWEEN_TAGS = re.compile("[,，、]")
_LEAST_CONTEXT, _MOST_CONTEXT = 256, 2**24
"""Tokens."""


def names() -> list[str]:
    """Return every name by which a number of a chat can be set."""
    return [*_CONTEXT_ALIASES, *(each.name for each in PARAMETERS)]


def parse_number(name: str, text: str) -> float | int | None:
    """Return what was typed for a sampling parameter or the context window; None for nothing. Raises WrongUse."""
    if not text:
        return None
    if name == CONTEXT:
        return _checked_context(_number(text, int))
    wanted = parameter(name)
    value = _number(text, wanted.kind)
    changed: dict[str, Any] = {wanted.name: value}
    Sampling(**changed).check()
    return value


def set_by_name(session: Session, words: str) -> tuple[Session, str, float | int | None]:
    """Return a session with what `words` such as `temperature 0.7` set, its name and its value. Raises WrongUse."""
    typed, _space, text = words.removeprefix("parameter ").strip().replace("=", " ").partition(" ")
    name = typed.replace("-", "_")
    if name in _CONTEXT_ALIASES:
        value = parse_number(CONTEXT, text.strip())
        context: dict[str, Any] = {CONTEXT: value}
        return structs.replace(session, **context), CONTEXT, value
    known = _known(name, typed)
    value = parse_number(known.name, text.strip())
    changed: dict[str, Any] = {known.name: value}
    return structs.replace(session, sampling=structs.replace(session.sampling, **changed)), known.name, value


def parse_tags(text: str) -> tuple[str, ...]:
    """Return tags that are separated by commas, each once; the sign before one is not part of it."""
    tags = (clean_line(tag).lstrip("#").strip() for tag in _BETWEEN_TAGS.split(text))
    return tuple(dict.fromkeys(tag for tag in tags if tag))


def _known(name: str, typed: str) -> Parameter:
    try:
        return parameter(name)
    except KeyError:
        names = (CONTEXT, *(each.name for each in PARAMETERS))
        raise WrongUse(
            _('No parameter named "{name}".').format(name=clean_line(typed, 40)),
            _("Parameters: {names}.").format(names=enumerated(names)),
        ) from None


def _number(text: str, kind: Callable[[str], Number]) -> Number:
    try:
        return kind(text)
    except ValueError:
        words = _('"{text}" is not a whole number.') if kind is int else _('"{text}" is not a number.')
        raise WrongUse(words.format(text=clean_line(text, 40)), _("Leave it empty for the default.")) from None


def _checked_context(tokens: int) -> int:
    if not _LEAST_CONTEXT <= tokens <= _MOST_CONTEXT:
        raise WrongUse(
            _("The context window can't be {tokens:,} tokens.").format(tokens=tokens),
            _("Enter {least:,} or more, or leave it empty for the default.").format(least=_LEAST_CONTEXT),
        )
    return tokens
