"""Runs all checks in order and makes the report safe to post in public.

A check that raises becomes a line of the report and never ends it. Home folders, the user's name and the machine's name
are replaced here; checks never put tokens, titles or addresses of private hubs into a finding in the first place.
"""

import getpass
import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from qwenchat.doctor import engine, engines, machine, models, storage, terminal
from qwenchat.doctor.finding import Finding, failed
from qwenchat.errors import ExitCode, QwenchatError
from qwenchat.i18n import _, reason_of
from qwenchat.runtime.program import Program

Check = Callable[[Program], Iterable[Finding]]
Advise = Callable[[QwenchatError], str]


def examine(program: Program, advise: Advise, *, online: bool) -> Iterator[Finding]:
    """Yield the findings of each check as it runs, without private names; `advise` returns what an error says to do."""
    names = PrivateNames.here()
    for finding in _examine(program, partial(_guarded, advise), online=online):
        yield replace(finding, found=names.hide(finding.found), next=names.hide(finding.next))


def _examine(program: Program, guarded: Callable[..., Iterator[Finding]], *, online: bool) -> Iterator[Finding]:
    settings = list(guarded("settings", _("settings"), storage.settings, program))
    if any(finding.exit_code for finding in settings):
        program = program.without_settings()
    yield from guarded("python", "Python", machine.python, program)
    yield from guarded("terminal", _("terminal"), terminal.terminal, program)
    yield from guarded("cores", _("cores"), machine.cores, program)
    yield from guarded("memory", _("memory"), machine.memory, program)
    yield from guarded("disk", _("disk"), machine.disk, program)
    yield from guarded("llama.cpp", "llama.cpp", partial(engine.llama_cpp, online=online), program)
    yield from guarded("folders", _("folders"), storage.folders, program)
    yield from settings
    yield from guarded("store", _("sessions"), storage.database, program)
    yield from guarded("models", _("models"), models.installed, program)
    yield from guarded("draft", _("draft model"), models.drafts, program)
    yield from guarded("shared", _("loaded"), models.shared, program)
    yield from guarded("hub", _("hub"), partial(models.hub, online=online), program)
    yield from guarded("engines", _("engines elsewhere"), partial(engines.engines, online=online), program)


def _guarded(advise: Advise, check: str, title: str, look: Check, program: Program) -> Iterator[Finding]:
    """Yield the findings of a check; an exception from the check becomes a finding, too."""
    try:
        yield from look(program)
    except QwenchatError as error:
        yield failed(check, title, error.message, then=advise(error), exit_code=error.exit_code)
    except OSError as error:  # such as a path that is too long
        found = _("this check failed: {reason}").format(reason=reason_of(error))
        yield failed(check, title, found, then=_("Check QWENCHAT_HOME and the disk."), exit_code=ExitCode.FILE)
    except Exception as bug:  # only its type is reported: its message may contain something private
        found = _("this check failed: {reason}").format(reason=type(bug).__name__)
        yield failed(check, title, found, then=_("Please report this."), exit_code=ExitCode.BUG)


@dataclass(frozen=True, slots=True)
class PrivateNames:
    """Names that must not appear in a report."""

    homes: Sequence[str]
    user: str
    host: str

    @classmethod
    def here(cls) -> "PrivateNames":
        """Return the names of this user and this machine."""
        homes: list[str] = []
        user = ""
        with suppress(RuntimeError):  # a user id without a home
            homes = [str(Path.home()), os.path.realpath(Path.home())]
        with suppress(OSError, KeyError):  # or without a name
            user = getpass.getuser()
        return cls(homes, user, socket.gethostname().partition(".")[0])

    def hide(self, text: str) -> str:
        """Return a text with home folders as `~`, and user and host name as the shell's variables."""
        for home in sorted(self.homes, key=len, reverse=True):
            if len(home) > 1:
                text = re.sub(rf"{re.escape(home)}(?![\w.-])", "~", text)
        if self.user:  # only as part of a path: elsewhere a name such as `python` is a word
            text = re.sub(rf"(?<=[/\\]){re.escape(self.user)}(?![\w.-])", "$USER", text)
        if self.host and self.host != "localhost":
            text = re.sub(rf"(?<![\w.-]){re.escape(self.host)}(?![\w-])", "$HOSTNAME", text)
        return text
