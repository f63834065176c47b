"""The export formats, one file each: to add one, copy a file and change it.

A format is the `FORMAT` of its module. It turns archives into pieces of text, reads nothing else, and writes no files:
`sessions.export_destination` decides where the text goes.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from qwenchat.errors import WrongUse
from qwenchat.i18n import _, enumerated
from qwenchat.sessions.archive import Archive


@dataclass(frozen=True, slots=True)
class ExportFormat:
    """A way to write sessions."""

    name: str
    suffix: str
    """The suffix of file names, with its dot."""
    many: bool
    """Whether one text can contain several sessions."""
    write: Callable[[Iterable[Archive], bool], Iterator[str]]
    """Archives in `normal` form -> pieces of text; True requests all branches, not only the open one."""
    holds: Callable[[Archive, bool], bool] | None = None
    """Whether the format can hold any of a session; None if it can hold every one."""
    is_whole: bool = False
    """Whether it always has all branches."""


def names() -> list[str]:
    """Return every format's name."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def named(name: str) -> ExportFormat:
    """Return a format. Raises WrongUse for an unknown one."""
    if name not in names():
        raise WrongUse(
            _('No format named "{name}".').format(name=name),
            _("Choose one of {names}.").format(names=enumerated(names())),
        )
    found: ExportFormat = importlib.import_module(f"{__name__}.{name}").FORMAT
    return found
