"""Decides whether a server is asked again after a fault, how long that waits, and reports it.

Only what comes before the first token is repeated, which `http` sees to: later a repetition would change the text, and
cost twice. A server that loads its model is waited for as long as that may take.
"""

from collections.abc import Awaitable, Callable

from msgspec import Struct

from qwenchat.chat.events import WaitingToRetry
from qwenchat.engines.remote.explanations import explain
from qwenchat.engines.remote.faults import Fault, FaultKind
from qwenchat.engines.remote.server import RemoteServer
from qwenchat.net.waits import backoff_s

_TEMPORARY = frozenset(
    {
        FaultKind.NAME,
        FaultKind.REFUSED,
        FaultKind.NO_CONNECTION,
        FaultKind.PROXY,
        FaultKind.BUSY,
        FaultKind.FAILED,
        FaultKind.CUT,
    }
)
"""Faults that another attempt may overcome, unless an answer says that it would not."""


class ServerRetryPolicy(Struct, frozen=True, kw_only=True):
    """How often a server is asked. Times are in seconds."""

    attempts: int = 4
    first_wait_s: float = 0.5
    longest_wait_s: float = 8.0
    longest_retry_after_s: float = 60.0
    """A server that asks for a longer wait is not asked again."""
    loading_s: float = 600.0
    """How long a server is waited for that loads its model."""

    def wait_s(self, fault: Fault, failures: int, waited_s: float) -> float | None:
        """Return the seconds before the next attempt, after a number of failures and waits; None for no more."""
        asked_s = fault.retry_after_s
        if fault.kind is FaultKind.LOADING:
            wait_s = backoff_s(failures, first_s=self.first_wait_s, longest_s=self.longest_wait_s)
            return wait_s if waited_s + wait_s <= self.loading_s else None
        if failures >= self.attempts or not _is_temporary(fault) or (asked_s or 0) > self.longest_retry_after_s:
            return None
        return (
            backoff_s(failures, first_s=self.first_wait_s, longest_s=self.longest_wait_s)
            if asked_s is None
            else asked_s
        )


USUAL_RETRIES = ServerRetryPolicy()
ASK_ONCE = ServerRetryPolicy(attempts=1, loading_s=0)
"""For a caller that wants to know how the server is now."""


def _is_temporary(fault: Fault) -> bool:
    if fault.kind is FaultKind.FAILED:
        return fault.status >= 500
    if fault.kind is FaultKind.PROXY:
        return not 400 <= fault.status < 500
    return fault.kind in _TEMPORARY


class ServerAttempts:
    """Counts the failures of one request and waits before each retry."""

    def __init__(
        self,
        policy: ServerRetryPolicy,
        server: RemoteServer,
        *,
        report: Callable[[WaitingToRetry], object],
        sleep: Callable[[float], Awaitable[object]],
    ) -> None:
        self._policy, self._server, self._report, self._sleep = policy, server, report, sleep
        self._failures, self._waited_s = 0, 0.0

    async def wait_after(self, fault: Fault) -> bool:
        """Report a failed attempt and wait until the next one is due; return False where none follows."""
        self._failures += 1
        wait_s = self._policy.wait_s(fault, self._failures, self._waited_s)
        if wait_s is None:
            return False
        self._waited_s += wait_s
        is_loading = fault.kind is FaultKind.LOADING
        self._report(
            WaitingToRetry(
                reason=explain(fault, self._server).message,
                wait_s=wait_s,
                attempt=self._failures + 1,
                attempts=0 if is_loading else self._policy.attempts,
            )
        )
        await self._sleep(wait_s)
        return True
