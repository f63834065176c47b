"""One message as the transcript draws it: laid out when it is first seen, forgotten when it is far from view.

An answer's body is a growing `Document`: lines of finished blocks are laid out once, those of the last block
anew with each piece. A question is shown as it was typed; only its fenced code is drawn as code.
"""

import re
from collections.abc import Iterator
from dataclasses import replace

from rich.cells import cell_len
from textual.strip import Strip

from qwenchat.chat.conversation import Message, Role, Status
from qwenchat.text.safe import clean
from qwenchat.tui.markdown.code import code_lines, language_of
from qwenchat.tui.markdown.colours import Palette
from qwenchat.tui.markdown.document import Document
from qwenchat.tui.markdown.render import CodeBlock, code_in, render_block
from qwenchat.tui.markdown.wrap import BLANK, Line, Run, drawable, wrap
from qwenchat.tui.transcript import labels
from qwenchat.tui.transcript.drawing import GUTTER, WIDEST, Look

_FENCED = re.compile(r"^(`{3,}|~{3,})([^`\n]*)\n(.*?)(?:^\1[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)


class MessageLayout:
    """A message and its lines."""

    __slots__ = (
        "_body",
        "_code",
        "_document",
        "_earlier",
        "_laid",
        "_look",
        "above",
        "boundary",
        "lines",
        "message",
        "strips",
        "unchanged",
        "variant",
    )

    def __init__(self, message: Message, variant: tuple[int, int] = (1, 1)) -> None:
        self.message = message
        self.variant = variant
        """(number, count) among its siblings."""
        self.boundary = False
        """Whether the model sees nothing above it."""
        self.lines: list[Line] | None = None
        """As laid out last; None where it has to be laid out."""
        self.strips: dict[int, Strip] = {}
        """Lines as they were drawn last, by number. The transcript fills and empties it."""
        self.above = 0
        """Lines at the top that are not the message's own."""
        self.unchanged = 0
        """Lines at the top that the last layout left as they were."""
        self._look: Look | None = None
        self._document: Document | None = None
        self._body: list[Line] = []
        self._earlier: list[Line] = []
        self._laid = self._code = 0

    def estimate(self, width: int) -> int:
        """Return about how many lines it takes, without reading it."""
        text = self.message.text
        measure = max(min(width - GUTTER - 1, WIDEST), 8)
        cells = len(text) if text.isascii() else len(text) * cell_len(text[:200]) // max(len(text[:200]), 1)
        return 4 + text.count("\n") + cells // measure

    def append(self, text: str) -> None:
        """Add streamed text."""
        self._read().append(text)
        self.message = replace(self.message, text=self.message.text + text)
        self.lines = None

    def replace(self, message: Message) -> None:
        """Show another state of the same message; what was laid out of an unchanged text stays."""
        if message.text != self.message.text:
            self._document = None
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
        above = self._boundary(look)
        self.above = len(above)
        head = [*above, *wrap(labels.heading(self.message, self.variant, palette), measure)]
        if self.message.attachments:
            head += wrap(labels.attachments(self.message, palette), measure)
        body = list(self._question(look)) if self.message.role is Role.USER else self._answer(look)
        foot = [line for runs in self._foot(palette) for line in wrap(runs, measure)]
        self.lines = [*head, *body, *([BLANK] * bool(body and foot)), *foot, BLANK]
        self.unchanged = _alike(self._earlier, self.lines)
        self._earlier = self.lines
        for number in [number for number in self.strips if number >= self.unchanged]:
            del self.strips[number]
        return self.lines

    def with_actions(self, heading: Line, look: Look) -> Line:
        """Return the line of its heading with things to do behind it."""
        return labels.with_actions(heading, self.message, look.measure, look.palette)

    def forget(self) -> None:
        """Free the memory of the layout."""
        self.lines = None
        if self.message.status is not Status.STREAMING:
            self._document = None
        self._start_over()

    @property
    def code_blocks(self) -> list[CodeBlock]:
        """Its code blocks, in order."""
        if self.message.role is Role.USER:
            return [CodeBlock(language_of(m.group(2)), m.group(3)) for m in _FENCED.finditer(clean(self.message.text))]
        return [code for block in self._read().blocks for code in code_in(block)]

    def _read(self) -> Document:
        if self._document is None:
            self._document = Document(self.message.text)
        return self._document

    def _start_over(self) -> None:
        self._body, self._earlier, self._laid, self._code = [], [], 0, 0
        self.strips.clear()
        self.lines = None

    def _answer(self, look: Look) -> list[Line]:
        document = self._read()
        for block in document.finished[self._laid :]:
            self._body += [BLANK] * bool(self._body)
            self._body += render_block(block, look.measure, look.palette, self._code)
            self._code += len(code_in(block))
        self._laid = len(document.finished)
        lines, code = list(self._body), self._code
        for block in document.live:
            lines += [BLANK] * bool(lines)
            lines += render_block(block, look.measure, look.palette, code)
            code += len(code_in(block))
        return lines

    def _question(self, look: Look) -> Iterator[Line]:
        text = clean(self.message.text).strip("\n")
        at = 0
        for code, match in enumerate(_FENCED.finditer(text)):
            yield from self._literal(text[at : match.start()].removesuffix("\n"), look, some=match.start() > at)
            info, body = match.group(2), match.group(3)
            yield from code_lines(body, info, code, look.measure, look.palette, highlighted=True)
            at = match.end()
        yield from self._literal(text[at:].removeprefix("\n") if at else text, look, some=at < len(text))

    def _literal(self, text: str, look: Look, *, some: bool) -> Iterator[Line]:
        for line in text.split("\n") if some else ():
            yield from wrap([(drawable(line), look.palette.text)], look.measure)

    def _boundary(self, look: Look) -> list[Line]:
        if not self.boundary:
            return []
        words = f" {labels.boundary()} "
        side = "╌" * max((look.measure - cell_len(words)) // 2, 0)
        lines = wrap([(f"{side}{words}{side}", look.palette.muted)], look.measure)
        return [*(Line(line.segments, line.width, len(line.text)) for line in lines), BLANK]

    def _foot(self, palette: Palette) -> list[list[Run]]:
        message = self.message
        return [runs for runs in (labels.status(message, palette), labels.stats(message, palette)) if runs]


def _alike(earlier: list[Line], lines: list[Line]) -> int:
    """Return how many lines at the top are the same in both; the last one of before is no longer the last."""
    same = (number for number, (before, now) in enumerate(zip(earlier[:-1], lines, strict=False)) if before != now)
    return next(same, min(max(len(earlier) - 1, 0), len(lines)))
