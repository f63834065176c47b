"""What the commands share that serve something until Ctrl-C: how they end, and that nobody else may come offline."""

import asyncio
import signal

from qwenchat.errors import NetworkError
from qwenchat.i18n import _
from qwenchat.runtime.program import Program


def stopped_by_signal() -> asyncio.Event:
    """Return what is set by Ctrl-C or SIGTERM."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, stopped.set)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda _number, _frame: loop.call_soon_threadsafe(stopped.set))
    return stopped


def refuse_if_offline(program: Program) -> None:
    """Raise NetworkError for an address that other machines reach, where qwenchat is to stay offline."""
    if program.settings.hub.offline:
        raise NetworkError(
            _("qwenchat is set to stay offline, so it can't be reached from other computers."),
            _("Unset hub.offline, or serve at 127.0.0.1."),
        )
