"""The checks in their order. One that fails unforeseen is a line of the report, never the end of it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial

from qwenchat.doctor import engine, machine, network, storage, terminal
from qwenchat.doctor.finding import Finding, Private, failed
from qwenchat.errors import ExitCode, QwenchatError
from qwenchat.i18n import _
from qwenchat.runtime.program import Program

Check = Callable[[Program], Iterable[Finding]]


def examine(program: Program, *, online: bool) -> Iterator[Finding]:
    """Yield what each check finds as it is found, fit to be shown to anyone."""
    private = Private.here()
    for finding in _examine(program, online=online):
        yield replace(finding, words=private.hide(finding.words), next=private.hide(finding.next))


def _examine(program: Program, *, online: bool) -> Iterator[Finding]:
    settings = list(_safely("settings", _("settings"), storage.settings, program))
    valid = not any(finding.exit_code for finding in settings)
    able = program if valid else program.without_settings()
    yield from _safely("python", "Python", machine.python, able)
    yield from _safely("terminal", _("terminal"), terminal.terminal, able)
    yield from _safely("cores", _("cores"), machine.cores, able)
    yield from _safely("memory", _("memory"), machine.memory, able)
    yield from _safely("disk", _("disk"), machine.disk, able)
    yield from _safely("llama.cpp", "llama.cpp", engine.engine, able)
    yield from _safely("folders", _("folders"), storage.folders, able)
    yield from settings
    yield from _safely("store", _("conversations"), storage.store, able)
    yield from _safely("models", _("models"), storage.models, able)
    yield from _safely("hub", _("hub"), partial(network.hub, online=online), able)


def _safely(check: str, title: str, look: Check, program: Program) -> Iterator[Finding]:
    try:
        yield from look(program)
    except QwenchatError as error:
        yield failed(check, title, error.message, error.hint, error.exit_code)
    except Exception as bug:  # told by its kind alone: its words may hold what nobody else needs to know
        words = _("this could not be looked at: {reason}").format(reason=type(bug).__name__)
        yield failed(check, title, words, _("Please report this."), ExitCode.BUG)
