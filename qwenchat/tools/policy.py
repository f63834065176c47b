"""Decides whether a call may run: by the rule for its tool, or by asking the user. Runs nothing.

What the user allows for a chat is remembered in a set that belongs to the chat and is saved nowhere. A tool that writes
is never allowed beyond one call: a rule that allows it means that the user is asked.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType

from msgspec import Struct

from qwenchat.chat.message import ToolCall
from qwenchat.config import Rule

DEFAULT_RULES: Mapping[str, Rule] = MappingProxyType(
    {"calculator": "allow", "date_time": "allow", "days_between": "allow", "search_documents": "allow"}
)
"""For tools that see nothing of the user, or what the user gave the chat; every other tool asks."""


class Leave(StrEnum):
    """What the user decided about a call."""

    ONCE = "once"
    CHAT = "chat"
    """This call and all later ones of the same tool in this chat."""
    REFUSED = "refused"


class Decision(Struct, frozen=True):
    """The user's decision; where it is REFUSED, the model reads the reason."""

    leave: Leave
    reason: str = ""


class PendingCall(Struct, frozen=True, kw_only=True):
    """A call that waits for a decision. What it says comes from the model: it is shown as text, and whole."""

    call: ToolCall
    writes: bool
    opens: str = ""
    """The path that it opens, if its arguments name another one."""

    @property
    def choices(self) -> tuple[Leave, ...]:
        """What the user can choose."""
        return (Leave.ONCE, Leave.REFUSED) if self.writes else (Leave.ONCE, Leave.CHAT, Leave.REFUSED)


Ask = Callable[[PendingCall], Awaitable[Decision]]
"""Asks the user. It may be cancelled while it waits."""


class Policy:
    """The rules for the tools of one chat, and what the user allowed in it."""

    def __init__(
        self, rules: Mapping[str, Rule], ask: Ask, *, granted: Iterable[str] = (), allowed: set[str] | None = None
    ) -> None:
        """`rules` are those of the settings; `granted` are tools named for this run, writing ones too.

        `allowed` are the tools that the user allowed for the chat; it is added to.
        """
        self._rules, self._ask = {**DEFAULT_RULES, **rules}, ask
        self._granted, self._allowed = frozenset(granted), set() if allowed is None else allowed

    def rule(self, name: str, *, writes: bool) -> Rule:
        """Return what holds for a tool now."""
        rule = self._rules.get(name, "ask")
        if rule == "deny":
            return "deny"
        if name in self._granted:
            return "allow"
        if writes:
            return "ask"
        return "allow" if name in self._allowed else rule

    async def decide(self, pending: PendingCall) -> Decision:
        """Return the decision about a call, asking the user where the rule says so."""
        name = pending.call.name
        rule = self.rule(name, writes=pending.writes)
        if rule == "allow":
            return Decision(Leave.ONCE)
        if rule == "deny":
            return Decision(Leave.REFUSED, "The settings do not allow this tool.")
        decision = await self._ask(pending)
        if decision.leave is Leave.CHAT:
            if pending.writes:
                return Decision(Leave.ONCE)
            self._allowed.add(name)
        return decision
