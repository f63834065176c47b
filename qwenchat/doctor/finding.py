"""One line of the report: what was looked at, how it is, and the exact next command where something is to be done.

Makes a report fit to be pasted in public: no home folder, user name or host name is left in it.

Tokens, titles and addresses of private hubs are never put into a report in the first place.
"""

import getpass
import os
import re
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

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


@dataclass(frozen=True, slots=True)
class Private:
    """What nobody else needs to know."""

    homes: Sequence[str]
    user: str
    host: str

    @classmethod
    def here(cls) -> "Private":
        """Return what this person's and this machine's names are."""
        homes: list[str] = []
        user = ""
        with suppress(RuntimeError):  # a user id without a home
            homes = [str(Path.home()), os.path.realpath(Path.home())]
        with suppress(OSError, KeyError):  # or without a name
            user = getpass.getuser()
        return cls(homes, user, socket.gethostname().partition(".")[0])

    def hide(self, text: str) -> str:
        """Return a text with home folders as `~`, and the user's and the machine's name as variables of a shell."""
        for home in sorted(self.homes, key=len, reverse=True):
            if len(home) > 1:
                text = re.sub(rf"{re.escape(home)}(?![\w.-])", "~", text)
        if self.user:  # as part of a path; elsewhere a name such as `python` is a word
            text = re.sub(rf"(?<=[/\\]){re.escape(self.user)}(?![\w.-])", "$USER", text)
        if self.host and self.host != "localhost":
            text = re.sub(rf"(?<![\w.-]){re.escape(self.host)}(?![\w-])", "$HOSTNAME", text)
        return text
