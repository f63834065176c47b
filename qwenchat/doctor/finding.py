"""One line of the report: what was looked at, how it is, and the exact next command where something is to be done."""

from dataclasses import dataclass
from enum import StrEnum

from qwenchat.errors import ExitCode


class State(StrEnum):
    """How it is."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found."""

    check: str
    """Its name for programs, the same in every language."""
    title: str
    state: State
    words: str
    next: str = ""
    """What to type or do; empty where all is well."""
    exit_code: ExitCode = ExitCode.DONE
    """What a command that needs this ends with; for what failed."""


def ok(check: str, title: str, words: str) -> Finding:
    """Return a finding that asks for nothing."""
    return Finding(check, title, State.OK, words)


def warning(check: str, title: str, words: str, then: str) -> Finding:
    """Return a finding of what works, though not as well as it could."""
    return Finding(check, title, State.WARNING, words, then)


def failed(check: str, title: str, words: str, then: str, exit_code: ExitCode) -> Finding:
    """Return a finding of what does not work."""
    return Finding(check, title, State.FAILED, words, then, exit_code)
