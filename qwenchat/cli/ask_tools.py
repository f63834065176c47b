"""The tools of `ask`: says on stderr what the model calls and what comes back, and asks before a call runs.

A call is asked about where both standard input and stderr are terminals; elsewhere nobody can answer, and it is
refused. What the user types is read by a thread, so that Ctrl-C still stops the answer.
"""

import asyncio
import sys
from collections import defaultdict

from qwenchat.chat.events import PartGrew, TurnEvent
from qwenchat.chat.message import ToolCall, ToolResult
from qwenchat.chat.session import Session
from qwenchat.cli.output import Output, is_terminal
from qwenchat.cli.typed import forget_typed, typed_line
from qwenchat.i18n import _
from qwenchat.text.safe import clean, clean_line
from qwenchat.tools.policy import Decision, Leave, PendingCall

_WHOLE = 1 << 20
"""Characters of arguments that are shown: all that a model can write."""
_RESULT = 200
"""Characters of a result that are shown."""
_NOBODY = Decision(Leave.REFUSED, "The user can't be asked now. Answer without this tool.")
_REFUSED = Decision(Leave.REFUSED)


class ToolTalk:
    """What is said about the calls of one turn."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._can_ask = is_terminal(sys.stdin) and is_terminal(output.err)
        self._shown: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        """By the ids of calls, whether the user has seen them."""

    def show(self, event: TurnEvent) -> None:
        """Say what the model calls, with all arguments, and what comes back, in a line each."""
        match event:
            case PartGrew(fragment=ToolCall() as call):
                words = _("Call of {name}: {arguments}")
                self._say(words.format(name=clean_line(call.name), arguments=clean_line(call.arguments, _WHOLE)))
                self._shown[call.id].set()
            case PartGrew(fragment=ToolResult() as result):
                words = _("{name} failed: {text}") if result.is_error else _("{name}, {seconds:.2f} s: {text}")
                text = clean_line(result.text, _RESULT)
                self._say(words.format(name=clean_line(result.name), seconds=result.took_ms / 1000, text=text))

    async def ask(self, _session: Session, pending: PendingCall) -> Decision:
        """Return the user's decision about a call, once it has been shown."""
        await self._shown[pending.call.id].wait()
        if not self._can_ask:
            words = _("Refused: there is no terminal to ask on. To allow it: --allow {name}")
            self._say(words.format(name=clean_line(pending.call.name)))
            return _NOBODY
        if pending.opens:
            self._say(_("It opens {path}.").format(path=clean_line(pending.opens, _WHOLE)))
        while True:
            forget_typed()
            self._write(_question(pending))
            line = await typed_line()
            if not line:  # the input has ended
                return _REFUSED
            if decision := _decision(line, pending):
                return decision

    def _say(self, line: str) -> None:
        self._output.say(line)

    def _write(self, text: str) -> None:
        self._output.err.write(text)
        self._output.err.flush()


def _question(pending: PendingCall) -> str:
    if Leave.CHAT in pending.choices:
        return _("Allow it? y: once, a: for this run, n REASON: no > ")
    return _("It may change something. Allow it? y: once, n REASON: no > ")


def _decision(line: str, pending: PendingCall) -> Decision | None:
    """Return what a line means; None for one that says nothing."""
    word, _space, reason = line.strip().partition(" ")
    match word.lower():
        case "y" | "yes":
            return Decision(Leave.ONCE)
        case "a" if Leave.CHAT in pending.choices:
            return Decision(Leave.CHAT)
        case "n" | "no":
            return Decision(Leave.REFUSED, clean(reason))
    return None
