"""The body of an answer as it is drawn: its text, and the calls of tools where the model made them.

It grows as the answer streams. Lines of finished blocks are laid out once, those of the last block again with each
piece; a text after calls is a document of its own. What the model wrote for itself is drawn elsewhere.
"""

from collections.abc import Container, Iterable

from qwenchat.chat.message import Citation, Part, Text, ToolCall, ToolResult
from qwenchat.markdown.document import MarkdownDocument
from qwenchat.markdown.lines import BLANK, Line
from qwenchat.markdown.render import CodeBlock, Marker, code_in, render_block
from qwenchat.tui.transcript.calls import CallGroup
from qwenchat.tui.transcript.drawing import Look
from qwenchat.tui.transcript.sources import marker


class BodyText:
    """A text between calls; `text` is what is there already."""

    def __init__(self, text: str = "") -> None:
        self.document = MarkdownDocument(text)
        self.is_blank = not text.strip()
        self.code_count = 0
        """Code blocks that were laid out last."""
        self._lines: list[Line] = []
        self._laid = self._code = 0

    def append(self, fragment: str) -> None:
        """Let it grow."""
        self.document.append(fragment)
        self.is_blank = self.is_blank and not fragment.strip()

    @property
    def code_blocks(self) -> list[CodeBlock]:
        """Its code blocks, in order."""
        return [code for block in self.document.blocks for code in code_in(block)]

    def lines(self, look: Look, first_code: int, marker: Marker) -> list[Line]:
        """Return its lines; `first_code` is the number of its first code block. Another look needs `start_over`."""
        for block in self.document.finished[self._laid :]:
            self._lines += [BLANK] * bool(self._lines)
            self._lines += render_block(block, look.measure, look.palette, first_code + self._code, marker=marker)
            self._code += len(code_in(block))
        self._laid = len(self.document.finished)
        lines, code = list(self._lines), first_code + self._code
        for block in self.document.live:
            lines += [BLANK] * bool(lines)
            lines += render_block(block, look.measure, look.palette, code, marker=marker)
            code += len(code_in(block))
        self.code_count = code - first_code
        return lines

    def start_over(self) -> None:
        """Forget the lines."""
        self._lines, self._laid, self._code = [], 0, 0


class AnswerBody:
    """Texts and groups of calls, in the order in which they came."""

    def __init__(self, parts: Iterable[Part]) -> None:
        self._sections: list[BodyText | CallGroup] = []
        self._sources: set[int] = set()
        """The numbers of the passages that it was made of, which come before its text."""
        for part in parts:
            self.append(part, begins=True)

    def append(self, fragment: Part, *, begins: bool) -> None:
        """Let the last part grow by a fragment; it `begins` another part."""
        last = self._sections[-1] if self._sections else None
        if isinstance(fragment, Text):
            if isinstance(last, BodyText):
                last.append("\n\n" + fragment.text if begins and not last.is_blank else fragment.text)
            else:
                self._sections.append(BodyText(fragment.text))
        elif isinstance(fragment, ToolCall):
            self._group().add(fragment)
        elif isinstance(fragment, ToolResult):
            for group in self.groups:
                if group.finish(fragment):
                    break
        elif isinstance(fragment, Citation):
            self._sources.add(fragment.number)

    @property
    def groups(self) -> list[CallGroup]:
        """The groups of calls, in order."""
        return [section for section in self._sections if isinstance(section, CallGroup)]

    @property
    def code_blocks(self) -> list[CodeBlock]:
        """The code blocks of all texts, in order."""
        texts = (section for section in self._sections if isinstance(section, BodyText))
        return [code for text in texts for code in text.code_blocks]

    def lines(self, look: Look, *, unfolded: Container[int], is_live: bool, asked: str) -> list[Line]:
        """Return its lines; the groups whose numbers are `unfolded` with all that there is of them.

        `is_live` while the answer streams; `asked` is the id of the call that waits for the user.
        """
        lines: list[Line] = []
        code = 0
        for section in self._sections:
            if isinstance(section, BodyText):
                own = section.lines(look, code, marker(self._sources, look.palette))
                code += section.code_count
            else:
                own = section.lines(look, is_unfolded=section.number in unfolded, is_live=is_live, asked=asked)
            lines += [BLANK] * bool(lines and own)
            lines += own
        return lines

    def start_over(self) -> None:
        """Forget what was laid out."""
        for section in self._sections:
            section.start_over()

    def _group(self) -> CallGroup:
        """Return the group that the next call belongs to: the last one, unless words came after it."""
        while self._sections and isinstance(text := self._sections[-1], BodyText) and text.is_blank:
            self._sections.pop()
        if self._sections and isinstance(group := self._sections[-1], CallGroup):
            return group
        group = CallGroup(len(self.groups))
        self._sections.append(group)
        return group
