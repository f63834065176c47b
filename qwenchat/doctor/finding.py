"""The result of one check: a line of the report, with the exact next command where something needs to be done."""

from dataclasses import dataclass
from enum import StrEnum

from qwenchat.errors import ExitCode


class Health(StrEnum):
    """Whether the checked thing works."""

    OK = "ok"
    WARNING = "warning"
    """It works, but not as well as it could."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of a check."""

    check: str
    """The check's name for programs, the same in every language."""
    title: str
    health: Health
    found: str
    next: str = ""
    """What to type or do; empty where all is well."""
    exit_code: ExitCode = ExitCode.DONE
    """The exit code of `doctor` if this is the first failure."""


def ok(check: str, title: str, found: str) -> Finding:
    """Return a finding that needs no action."""
    return Finding(check=check, title=title, health=Health.OK, found=found)


def warning(check: str, title: str, found: str, then: str) -> Finding:
    """Return a finding about something that works, but not as well as it could."""
    return Finding(check=check, title=title, health=Health.WARNING, found=found, next=then)


def failed(check: str, title: str, found: str, *, then: str, exit_code: ExitCode) -> Finding:
    """Return a finding about something that does not work."""
    return Finding(check=check, title=title, health=Health.FAILED, found=found, next=then, exit_code=exit_code)
