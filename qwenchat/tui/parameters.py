"""What can be set for one chat beside its words: sampling and the context window, by name, as a person types them."""

from dataclasses import replace
from typing import Any

from qwenchat.chat.sampling import Sampling
from qwenchat.chat.session import Session
from qwenchat.errors import WrongUse
from qwenchat.i18n import _
from qwenchat.text.safe import clean_line

CONTEXT = "context"
_WHOLE = ("top_k", "seed", "max_tokens")
NUMBERS = ("temperature", "top_p", "min_p", "repeat_penalty", *_WHOLE)
"""The sampling parameters that are one number."""
_ALSO = {"num_ctx": CONTEXT, "ctx": CONTEXT, "num_predict": "max_tokens"}
"""What other programs call them."""
_LEAST_CONTEXT, _MOST_CONTEXT = 256, 2**24


def parsed(name: str, text: str) -> float | int | None:
    """Return a parameter as its type, None for an empty one. Raises WrongUse."""
    if not text:
        return None
    try:
        value = int(text) if name in (*_WHOLE, CONTEXT) else float(text)
    except ValueError:
        kind = _("{text} is not a number.") if name not in (*_WHOLE, CONTEXT) else _("{text} is not a whole number.")
        raise WrongUse(kind.format(text=clean_line(text, 40)), _("Leave it empty for the model's own.")) from None
    if name == CONTEXT:
        return _context(int(value))
    wished: dict[str, Any] = {name: value}
    Sampling(**wished).check()
    return value


def with_one_set(session: Session, words: str) -> tuple[Session, str, float | int | None]:
    """Return a session with what `words` such as `temperature 0.7` set, its name and its value. Raises WrongUse."""
    typed, _space, value = words.removeprefix("parameter ").strip().replace("=", " ").partition(" ")
    name = typed.replace("-", "_")
    name = _ALSO.get(name, name)
    if name not in (CONTEXT, *NUMBERS):
        raise WrongUse(
            _("There is no parameter {name}.").format(name=clean_line(typed, 40)),
            _("There are: {names}.").format(names=", ".join((CONTEXT, *NUMBERS))),
        )
    number = parsed(name, value.strip())
    wished: dict[str, Any] = {name: number}
    if name == CONTEXT:
        return replace(session, **wished), name, number
    return replace(session, sampling=replace(session.sampling, **wished)), name, number


def _context(tokens: int) -> int:
    if not _LEAST_CONTEXT <= tokens <= _MOST_CONTEXT:
        raise WrongUse(
            _("A context window of {tokens:,} tokens makes no sense.").format(tokens=tokens),
            _("Give {least:,} or more, or nothing to follow the settings.").format(least=_LEAST_CONTEXT),
        )
    return tokens
