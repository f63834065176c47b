"""Calls of tools in an answer: a line for those in a row, which unfolds into each call's arguments and result.

Names, arguments and results come from a model or a tool. They are text: no markup in them is read, and a character that
can't be seen is shown by its number where the user decides about a call.
"""

import json
import re
from collections.abc import Sequence
from enum import Enum, auto
from time import monotonic

from msgspec import Struct, field
from rich.cells import cell_len
from rich.style import Style

from qwenchat.chat.message import ToolCall, ToolResult
from qwenchat.chat.tools import REFUSED
from qwenchat.i18n import _, enumerated, ngettext
from qwenchat.markdown.lines import Line, Run, prefixed, wrap
from qwenchat.text.safe import clean, clean_line
from qwenchat.text.wrap import drawable, exact_cuts
from qwenchat.tui.transcript.drawing import Look

_LEAST_ARGUMENTS = 8
"""Cells below which arguments are left out of a line."""
_BESIDE_ASCII = re.compile(r"[^\x20-\x7e\n]")


class CallState(Enum):
    """Where a call stands."""

    WAITING = auto()
    """For those before it."""
    ASKING = auto()
    RUNNING = auto()
    DONE = auto()
    REFUSED = auto()
    FAILED = auto()
    LEFT = auto()
    """The answer ended before it."""


class ShownCall(Struct, eq=False):
    """A call and what it returned so far."""

    call: ToolCall
    result: ToolResult | None = None
    details: tuple[Look, list[Line]] | None = None
    """Its lines below its own, as laid out last: they may be many."""

    def lines(self, look: Look) -> list[Line]:
        """Return its arguments and, behind a bar, its result."""
        if self.details and self.details[0] is look:
            return self.details[1]
        palette, measure = look.palette, look.measure - 4
        indent, bar = ("    ", palette.text), ("  │ ", palette.muted)
        lines = prefixed(_text(as_shown(self.call.arguments), palette.text, measure), indent, indent)
        if self.result:
            lines += prefixed(_text(clean(self.result.text).strip("\n"), palette.muted, measure), bar, bar)
        self.details = look, lines
        return lines


class CallGroup(Struct, eq=False):
    """Calls in a row. What is written between them is no text."""

    number: int
    """Among the groups of its answer, from 0."""
    calls: list[ShownCall] = field(default_factory=list)

    def add(self, call: ToolCall) -> None:
        """Add a call at the end."""
        self.calls.append(ShownCall(call))

    def finish(self, result: ToolResult) -> bool:
        """Take in a result; return whether one of these calls waited for it."""
        for shown in self.calls:
            if shown.result is None and shown.call.id == result.call_id:
                shown.result, shown.details = result, None
                return True
        return False

    def start_over(self) -> None:
        """Forget what was laid out."""
        for shown in self.calls:
            shown.details = None

    @property
    def is_open(self) -> bool:
        """Whether a result is missing."""
        return any(shown.result is None for shown in self.calls)

    def lines(self, look: Look, *, is_unfolded: bool, is_live: bool, asked: str) -> list[Line]:
        """Return its lines; `is_live` while the answer streams, `asked` is the id of the call that the user decides."""
        states = self._states(is_live=is_live, asked=asked)
        single = len(self.calls) == 1
        lines = [] if single else [_line(self._summary(states, look), look, self._fold(look, is_unfolded=is_unfolded))]
        for shown, state in zip(self.calls, states, strict=True):
            fold = self._fold(look, is_unfolded=is_unfolded) if single else ("  ", look.palette.muted)
            is_asked = state is CallState.ASKING
            if single or is_unfolded or is_asked:
                lines.append(_line(self._words(shown, state, look, with_arguments=not is_unfolded), look, fold))
            if is_unfolded or is_asked:
                lines += shown.lines(look)
        return lines

    def _states(self, *, is_live: bool, asked: str) -> list[CallState]:
        states: list[CallState] = []
        is_turn = is_live
        for shown in self.calls:
            if result := shown.result:
                is_refused = result.is_error and result.text.startswith(REFUSED)
                failed = CallState.REFUSED if is_refused else CallState.FAILED
                states.append(failed if result.is_error else CallState.DONE)
                continue
            now = CallState.ASKING if shown.call.id == asked else CallState.RUNNING
            later = CallState.WAITING if is_live else CallState.LEFT
            states.append(now if is_turn else later)
            is_turn = False
        return states

    def _fold(self, look: Look, *, is_unfolded: bool) -> Run:
        return "▾ " if is_unfolded else "▸ ", look.palette.muted + Style.from_meta({"fold": self.number})

    def _words(self, shown: ShownCall, state: CallState, look: Look, *, with_arguments: bool) -> list[Run]:
        """Return what stands for one call: `⚙ calculator · 37*41 · done in 0.2 s`."""
        palette, link = look.palette, Style.from_meta({"fold": self.number})
        words = f" · {self._state_words(state, shown.result.took_ms if shown.result else 0, look)}"
        name = _cut(shown.call.name, look.measure - len("▸ ⚙ ") - cell_len(words))
        room = look.measure - len("▸ ⚙ ") - cell_len(name + words) - len(" · ")
        short = _cut(_short(shown.call.arguments), room) if with_arguments and room >= _LEAST_ARGUMENTS else ""
        arguments = f" · {short}" if short else ""
        bad = state in (CallState.REFUSED, CallState.FAILED, CallState.ASKING)
        return [
            (f"⚙ {name}", palette.text + link),
            (arguments, palette.muted + link),
            (words, (palette.warning if bad else palette.muted) + link),
        ]

    def _state_words(self, state: CallState, took_ms: int, look: Look) -> str:
        """Return where a call stands, and how long it has run."""
        if state is CallState.RUNNING:
            return _("running, {seconds} s").format(seconds=int(monotonic() - look.call_since()))
        if state is CallState.DONE and took_ms:
            return _("done in {seconds} s").format(seconds=_seconds(took_ms))
        return {
            CallState.WAITING: _("waiting"),
            CallState.ASKING: _("waits for your decision"),
            CallState.DONE: _("done"),
            CallState.REFUSED: _("refused"),
            CallState.FAILED: _("failed"),
        }.get(state, _("not carried out"))

    def _summary(self, states: Sequence[CallState], look: Look) -> list[Run]:
        """Return what stands for several calls: `⚙ 3 calls: calculator, date_time · done in 0.4 s`."""
        link = Style.from_meta({"fold": self.number})
        count = len(self.calls)
        took = sum(shown.result.took_ms for shown in self.calls if shown.result)
        open_states = [state for state in states if state in (CallState.ASKING, CallState.RUNNING, CallState.LEFT)]
        state = open_states[0] if open_states else CallState.DONE
        said = [self._state_words(state, took, look)] if state in states else []
        for bad, counted in ((CallState.FAILED, _("{count} failed")), (CallState.REFUSED, _("{count} refused"))):
            if number := states.count(bad):
                said.append(counted.format(count=number))
        words, after = ngettext("{count} call: {names}", "{count} calls: {names}", count), f" · {' · '.join(said)}"
        room = look.measure - cell_len("▸ ⚙ " + words.format(count=count, names="") + after)
        names = _cut(enumerated(dict.fromkeys(_cut(shown.call.name, 40) for shown in self.calls)), room)
        return [(f"⚙ {words.format(count=count, names=names)}", link), (after, link)]


def as_shown(arguments: str) -> str:
    """Return the arguments of a call as the user reads them: whole, with what can't be seen by its number."""
    try:
        text = json.dumps(json.loads(arguments), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):  # not what the tool takes, and shown as it is
        text = arguments
    if drawable(clean(text)) == text:
        return text
    return _BESIDE_ASCII.sub(lambda found: _visible(found[0]), text)


def _visible(character: str) -> str:
    return character if drawable(clean(character)) == character else f"\\u{ord(character):04x}"


def _short(arguments: str) -> str:
    """Return arguments in a few words: the value where there is one, else names and values."""
    try:
        values = json.loads(arguments)
    except (ValueError, RecursionError):
        values = None
    if isinstance(values, dict):
        words = {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
        one = len(words) == 1
        arguments = ", ".join(value if one else f"{name}: {value}" for name, value in words.items())
    return arguments


def _cut(text: str, room: int) -> str:
    """Return text from a model as the beginning of one line of at most `room` cells, with `…` where more follows."""
    text = drawable(clean_line(text))
    if cell_len(text) <= room:
        return text
    first = exact_cuts(text, max(room - 1, 2))[0]
    return f"{text[first.start : first.end]}…"


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds / 1000:.1f}" if milliseconds >= 100 else f"{milliseconds / 1000:.2g}"


def _text(text: str, style: Style, measure: int) -> list[Line]:
    return [line for written in text.split("\n") for line in wrap([(drawable(written), style)], max(measure, 8))]


def _line(words: Sequence[Run], look: Look, fold: Run) -> Line:
    """Return words about calls as one line that is never found or copied."""
    line = wrap([fold, *words], look.measure)[0]
    return Line(line.segments, line.width, len(line.text))
