"""Markdown that grows: finished blocks stay as they are, and only the last one is parsed again.

A block is finished once another one has begun on a complete line; nothing that follows can change it, because
the parser knows no reference definitions and no rule of it looks back. So any way of cutting a text into pieces
gives the same blocks as the whole.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from markdown_it.token import Token

from qwenchat.text.safe import StreamCleaner
from qwenchat.tui.markdown.parser import parse

_FENCE = re.compile(r"(`{3,}|~{3,})([^`\n]*)\n")


@dataclass(frozen=True, slots=True, eq=False)
class MarkdownBlock:
    """One top-level block: its tokens, opening to closing, with lines counted from `line`."""

    tokens: Sequence[Token]
    line: int


class Document:
    """Text so far, as blocks."""

    def __init__(self, text: str = "") -> None:
        self.finished: list[MarkdownBlock] = []
        """Grows at the end only."""
        self.live: list[MarkdownBlock] = []
        """Blocks that the next piece may still change."""
        self._cleaner = StreamCleaner()
        self._tail = ""
        self._fence: re.Match[str] | None = None
        """The first line of the fence that `_tail` opens and has not closed."""
        self.append(text)

    @property
    def blocks(self) -> list[MarkdownBlock]:
        """All blocks in order."""
        return [*self.finished, *self.live]

    def append(self, piece: str) -> None:
        """Add untrusted text."""
        piece = self._cleaner.feed(piece)
        if not piece:
            return
        checked = self._tail.rfind("\n") + 1
        self._tail += piece
        if self._fence and not _may_close(self._tail[checked:], self._fence.group(1)):
            self.live = [_open_fence(self._fence, self._tail)]
            return
        self.live = _blocks(self._tail)
        stable = self._tail.rfind("\n") + 1
        if stable > checked:
            self._finish(stable)

    def _finish(self, stable: int) -> None:
        """Move what can't change any more out of the tail, whose first `stable` characters are whole lines."""
        if len(self.live) > 1 and len(blocks := _blocks(self._tail[:stable])) > 1:
            self.finished += blocks[:-1]
            self._tail = _from_line(self._tail, blocks[-1].line)
            self.live = _blocks(self._tail)
        opening = _FENCE.match(self._tail)
        self._fence = opening if opening and not _may_close(self._tail[opening.end() :], opening.group(1)) else None


def _may_close(text: str, fence: str) -> bool:
    return any(line.lstrip(" ").startswith(fence) for line in text.split("\n"))


def _open_fence(opening: re.Match[str], text: str) -> MarkdownBlock:
    """Return what the parser would for text that is one open fence, without parsing all of it again."""
    body = text[opening.end() :]
    token = Token("fence", "code", 0, markup=opening.group(1), info=opening.group(2), content=body, block=True)
    token.map = [0, 1 + body.count("\n") + (not body.endswith("\n") and body != "")]
    return MarkdownBlock([token], 0)


def _blocks(text: str) -> list[MarkdownBlock]:
    blocks: list[MarkdownBlock] = []
    start = depth = 0
    tokens = parse(text)
    for index, token in enumerate(tokens):
        depth += token.nesting
        if depth == 0:
            block = tokens[start : index + 1]
            blocks.append(MarkdownBlock(block, block[0].map[0] if block[0].map else 0))
            start = index + 1
    return blocks


def _from_line(text: str, line: int) -> str:
    at = 0
    for _ in range(line):
        at = text.index("\n", at) + 1
    return text[at:]
