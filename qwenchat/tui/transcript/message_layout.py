"""One message as the transcript draws it: laid out when it is first seen, forgotten when it is far from view.

An answer's body is an `AnswerBody`, which grows as it streams. A question is shown as it was typed; only its fenced
code is drawn as code.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from msgspec import structs
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from qwenchat.chat.message import Citation, Message, Part, Reasoning, Role, Status, Text, ToolCall
from qwenchat.chat.tree import VariantPlace
from qwenchat.markdown.code import code_lines, language_of
from qwenchat.markdown.lines import BLANK, Line, Run, wrap
from qwenchat.markdown.render import CodeBlock
from qwenchat.text.safe import clean
from qwenchat.text.wrap import drawable
from qwenchat.tui.transcript import labels
from qwenchat.tui.transcript.answer_body import AnswerBody
from qwenchat.tui.transcript.drawing import GUTTER, WIDEST, Frame, Highlight, Look, restyled, strip_of
from qwenchat.tui.transcript.sources import SOURCES, source_lines

_FENCED = re.compile(r"^(`{3,}|~{3,})([^`\n]*)\n(.*?)(?:^\1[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
_PLAIN = Frame()
"""Of a message in the middle of a chat; there are too many of these for one each."""


class MessageLayout:
    """A message and its lines."""

    __slots__ = (
        "_body",
        "_earlier",
        "_look",
        "_reasoning_key",
        "_reasoning_lines",
        "above",
        "below",
        "frame",
        "is_unfolded",
        "lines",
        "message",
        "strips",
        "unchanged",
        "unfolded_groups",
        "variant",
    )

    def __init__(self, message: Message, variant: VariantPlace) -> None:
        self.message = message
        self.variant = variant
        self.frame = _PLAIN
        self.is_unfolded = False
        """Whether the reasoning, or the text of a summary, is shown, not only the line that stands for it."""
        self.unfolded_groups: frozenset[int] = frozenset()
        """The groups of calls that are shown whole, by their numbers; SOURCES for the sources."""
        self.lines: list[Line] | None = None
        """As laid out last; None where it has to be laid out."""
        self.strips: dict[int, Strip] = {}
        """Lines as they were drawn last, by number. The transcript fills and empties it."""
        self.above = 0
        """Lines at the top that are not the message's own."""
        self.below = 0
        """Lines at the end, behind the blank one, that are not its own either."""
        self.unchanged = 0
        """Lines at the top that the last layout left as they were."""
        self._look: Look | None = None
        self._body: AnswerBody | None = None
        self._earlier: Sequence[Line] = ()
        self._reasoning_key: tuple[int, bool, Look] | None = None
        """For which length, state and look `_reasoning_lines` were made."""
        self._reasoning_lines: Sequence[Line] = ()

    def estimate(self, width: int) -> int:
        """Return about how many lines it takes, without reading it."""
        if self.message.summarises and not self.is_unfolded:
            return 2
        text = self.message.text
        measure = max(min(width - GUTTER - 1, WIDEST), 8)
        cells = len(text) if text.isascii() else len(text) * cell_len(text[:200]) // max(len(text[:200]), 1)
        reasoning = 2 if self.message.reasoning else 0
        calls = sum(isinstance(part, ToolCall) for part in self.message.parts)
        sources = 2 if self.message.citations else 0
        return 4 + reasoning + calls + sources + text.count("\n") + cells // measure

    def append(self, index: int, fragment: Part) -> None:
        """Let a part grow by a streamed fragment, or begin with it."""
        parts = list(self.message.parts)
        self._read().append(fragment, begins=index == len(parts))
        if index == len(parts):
            parts.append(fragment)
        else:
            parts[index] = _extended(parts[index], fragment)
        self.message = structs.replace(self.message, parts=tuple(parts))
        self.lines = None

    def replace(self, message: Message) -> None:
        """Show another state of the same message; what was laid out of an unchanged body stays."""
        if _drawn(message) != _drawn(self.message):
            self._body = None
            self._start_over()
        self.message = message
        self.lines = None

    def lay_out(self, look: Look) -> list[Line]:
        """Return its lines; the last one is blank."""
        if self.lines is not None and self._look is look:
            return self.lines
        if self._look is not look:
            self._look = look
            self._start_over()
        measure, palette = look.measure, look.palette
        above, below = self._above(look), _boundary(look) if self.frame.boundary_below else []
        self.above, self.below = len(above), len(below)
        heading = labels.heading(self.message, self.variant, look, unfolded=self.is_unfolded)
        head = [*above, *_label(heading, measure)]
        if self.message.attachments:
            head += _label(labels.attachments(self.message, palette), measure)
        head += self._reasoning(look)
        body = self._body_lines(look)
        foot = self._foot(look)
        self.lines = [*head, *body, *([BLANK] * bool(body and foot)), *foot, BLANK, *below]
        self.unchanged = _alike(self._earlier, self.lines)
        self._earlier = self.lines
        for number in [number for number in self.strips if number >= self.unchanged]:
            del self.strips[number]
        return self.lines

    @property
    def can_unfold(self) -> bool:
        """Whether there is reasoning, a call, a source or a summary to show whole."""
        foldable = any(isinstance(part, Reasoning | ToolCall | Citation) for part in self.message.parts)
        return foldable or self.message.summarises > 0

    @property
    def is_calling(self) -> bool:
        """Whether a call has no result yet, while the answer streams."""
        return self.message.status is Status.STREAMING and any(group.is_open for group in self._read().groups)

    def toggle(self, group: int | None) -> None:
        """Unfold or fold a group of calls, by its number, or SOURCES; without one, the reasoning above the text."""
        if group is None:
            self.is_unfolded = not self.is_unfolded
        else:
            self.unfolded_groups ^= {group}
        self.lines = None

    def unfold_summary(self) -> None:
        """Show the text of a summary."""
        if self.message.summarises and not self.is_unfolded:
            self.toggle(None)

    def toggle_all(self) -> None:
        """Unfold all that is folded: reasoning, calls, sources and a summary; fold them where nothing is."""
        sources = {SOURCES} if self.message.citations else set()
        groups = frozenset(group.number for group in self._read().groups) | sources
        has_fold = bool(self.message.reasoning) or self.message.summarises > 0
        is_folded = (has_fold and not self.is_unfolded) or self.unfolded_groups != groups
        self.is_unfolded, self.unfolded_groups = is_folded, groups if is_folded else frozenset()
        self.lines = None

    def strip(
        self,
        number: int,
        width: int,
        base: Style,
        *,
        keys: Mapping[str, str],
        is_selected: bool,
        highlights: Sequence[Highlight],
    ) -> Strip:
        """Return a line of the last layout as it is drawn, `width` cells wide.

        A selected heading has its actions, with those of their `keys` that work now.
        """
        look, lines = self._look, self.lines
        if look is None or lines is None:
            raise ValueError("the message is not laid out")
        line = lines[number]
        if self.frame.is_left_behind:
            muted = restyled(line.segments, [(0, len(line.text) + line.margin, look.palette.muted)])
            line = Line(tuple(muted), line.width, line.margin, line.glue)
        is_own = self.above <= number < len(lines) - 1 - self.below
        if is_own and self.message.role is Role.USER:
            base = base + look.palette.question
        if is_selected and number == self.above:
            line = labels.with_actions(line, self.message, look, keys)
        gutter = Segment("▌ ", look.palette.selected) if is_own and is_selected else Segment(" " * GUTTER)
        return strip_of(line, width, gutter=gutter, base=base, highlights=highlights)

    def forget(self) -> None:
        """Free the memory of the layout."""
        self.lines = None
        if self.message.status is not Status.STREAMING:
            self._body = None
        self._start_over()

    @property
    def code_blocks(self) -> list[CodeBlock]:
        """Its code blocks, in order."""
        if self.message.role is Role.USER:
            return [CodeBlock(language_of(m.group(2)), m.group(3)) for m in _FENCED.finditer(clean(self.message.text))]
        return self._read().code_blocks

    def _read(self) -> AnswerBody:
        if self._body is None:
            self._body = AnswerBody(self.message.parts)
        return self._body

    def _start_over(self) -> None:
        self._earlier = ()
        if self._body is not None:
            self._body.start_over()
        self.strips.clear()
        self.lines = None

    def _body_lines(self, look: Look) -> list[Line]:
        if self.message.summarises and not self.is_unfolded:
            return []
        return list(self._question(look)) if self.message.role is Role.USER else self._answer(look)

    def _answer(self, look: Look) -> list[Line]:
        is_live, note = self.message.status is Status.STREAMING, self.frame.note
        asked = note.call if note else ""
        return self._read().lines(look, unfolded=self.unfolded_groups, is_live=is_live, asked=asked)

    def _reasoning(self, look: Look) -> Sequence[Line]:
        """Return the line that stands for the reasoning and, where it is unfolded, the reasoning below it."""
        reasoning = self.message.reasoning
        key = (len(reasoning), self.is_unfolded, look)
        if not reasoning or self._reasoning_key == key:
            return self._reasoning_lines
        measure, palette = look.measure, look.palette
        lines = _label(labels.reasoning(reasoning, palette, unfolded=self.is_unfolded), measure)
        if self.is_unfolded:
            for line in clean(reasoning).strip("\n").split("\n"):
                lines += wrap([(drawable(line), palette.muted)], measure)
        self._reasoning_key, self._reasoning_lines = key, [*lines, BLANK]
        return self._reasoning_lines

    def _question(self, look: Look) -> Iterator[Line]:
        text = clean(self.message.text).strip("\n")
        at = 0
        for code, match in enumerate(_FENCED.finditer(text)):
            yield from self._literal(text[at : match.start()].removesuffix("\n"), look, some=match.start() > at)
            info, body = match.group(2), match.group(3)
            yield from code_lines(body, info, index=code, width=look.measure, palette=look.palette, is_closed=True)
            at = match.end()
        yield from self._literal(text[at:].removeprefix("\n") if at else text, look, some=at < len(text))

    def _literal(self, text: str, look: Look, *, some: bool) -> Iterator[Line]:
        for line in text.split("\n") if some else ():
            yield from wrap([(drawable(line), look.palette.text)], look.measure)

    def _above(self, look: Look) -> list[Line]:
        """Return the lines across the view above the message."""
        lines: list[Line] = []
        if self.frame.left_behind:
            lines += _rule(labels.fork(self.frame.left_behind), look)
        if self.frame.boundary:
            lines += _boundary(look)
        if self.variant.hides:
            lines += _rule(labels.elsewhere(self.variant), look, action="branches")
        return lines

    def _foot(self, look: Look) -> list[Line]:
        """Return the sources of an answer once it is there, and how it ended; the reason of a failure can be copied."""
        is_live = self.message.status is Status.STREAMING
        sources = source_lines(self.message, look, is_unfolded=SOURCES in self.unfolded_groups) if not is_live else []
        is_failed = self.message.status is Status.FAILED
        status, stats = labels.status(self.message, look), labels.stats(self.message, look.palette)
        lines = (wrap if is_failed else _label)(status, look.measure) if status else []
        note = labels.note(self.frame.note, look.palette) if self.frame.note else []
        return [*sources, *lines, *(line for label in (stats, note) if label for line in _label(label, look.measure))]


def _drawn(message: Message) -> list[tuple[type[Part], str]]:
    """Return what the body of a message is drawn from."""
    return [
        (type(part), part.id if isinstance(part, ToolCall) else part.text)
        for part in message.parts
        if not isinstance(part, Reasoning)
    ]


def _rule(words: str, look: Look, *, action: str = "") -> list[Line]:
    """Return words in the middle of a line across the view, which can be clicked where it names an action."""
    style = look.palette.muted + (Style.from_meta({"action": action}) if action else Style.null())
    side = "╌" * max((look.measure - cell_len(words) - 2) // 2, 0)
    return [*_label([(f"{side} {words} {side}".strip(), style)], look.measure), BLANK]


def _boundary(look: Look) -> list[Line]:
    return _rule(labels.boundary(), look, action="compact")


def _label(runs: Sequence[Run], measure: int) -> list[Line]:
    """Return words about a message as lines that are never found or copied."""
    return [Line(line.segments, line.width, len(line.text)) for line in wrap(runs, measure)]


def _extended(part: Part, fragment: Part) -> Part:
    """Return a part with a fragment of the same kind at its end."""
    if isinstance(part, Text) and isinstance(fragment, Text):
        return Text(part.text + fragment.text)
    if isinstance(part, Reasoning) and isinstance(fragment, Reasoning):
        return Reasoning(part.text + fragment.text)
    return fragment


def _alike(earlier: Sequence[Line], lines: Sequence[Line]) -> int:
    """Return how many lines at the top are the same in both; the last one of before is no longer the last."""
    same = (number for number, (before, now) in enumerate(zip(earlier[:-1], lines, strict=False)) if before != now)
    return next(same, min(max(len(earlier) - 1, 0), len(lines)))
