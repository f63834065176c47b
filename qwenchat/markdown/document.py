r"""Markdown as it is read: the one parser, and the document that grows while an answer streams.

CommonMark with tables, strikethrough and formulas, without HTML: HTML is text (`List<String>`). Link reference
definitions are text too: they could change what was drawn long before them, and they hide a link's target. So a block
is finished once another one has begun on a complete line; nothing that follows can change it, and any way of cutting a
text into pieces gives the same blocks as the whole. Nothing is drawn here.

Emphasis works beside Chinese, Japanese and Korean text. CommonMark decides whether `**` opens or closes by the spaces
and punctuation around it, which fails in scripts without spaces: `**注意：**请看` stays literal. Here fullwidth
punctuation counts as a letter, and a CJK character beside a marker does what a space would. Everything else follows
CommonMark's rule (0.31, section 6.2).

Formulas are `\(…\)` and `$…$` in a line, `\[…\]` and `$$…$$` in a line or as a block. A dollar sign opens and closes a
formula only where it can't be money. A block opens by its first line alone, so that later text never changes what came
before it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from markdown_it import MarkdownIt
from markdown_it.common.utils import isMdAsciiPunct, isPunctChar, isWhiteSpace
from markdown_it.parser_inline import ParserInline
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline.state_inline import Scanned, StateInline
from markdown_it.token import Token
from markdown_it.utils import EnvType

from qwenchat.text.safe import StreamCleaner, clean


class CJKState(StateInline):
    """An inline state whose markers flank by the relaxed rule."""

    def scanDelims(self, start: int, canSplitWord: bool) -> Scanned:  # noqa: N802, N803 - markdown-it's names
        """Return whether the run of markers at `start` may open and may close."""
        marker = self.src[start]
        end = start
        while end < self.posMax and self.src[end] == marker:
            end += 1
        last = self.src[start - 1] if start > 0 else " "
        following = self.src[end] if end < self.posMax else " "
        space_before, space_after = isWhiteSpace(ord(last)), isWhiteSpace(ord(following))
        cjk_before, cjk_after = is_cjk(last), is_cjk(following)
        point_before, point_after = _is_point(last), _is_point(following)
        left = not space_after and (not point_after or space_before or point_before or cjk_before)
        right = not space_before and (not point_before or space_after or point_after or cjk_after)
        return Scanned(
            left and (canSplitWord or not right or point_before),
            right and (canSplitWord or not left or point_after),
            end - start,
        )


class CJKInline(ParserInline):
    """An inline parser over `CJKState`."""

    def parse(self, src: str, md: MarkdownIt, env: EnvType, tokens: list[Token]) -> list[Token]:
        """Process the inline text and push its tokens into `tokens`."""
        state = CJKState(src, md, env, tokens)
        self.tokenize(state)
        for rule in self.ruler2.getRules(""):
            rule(state)
        return state.tokens


def is_cjk(character: str) -> bool:
    """Return whether a character belongs to a script without spaces, its punctuation included."""
    code = ord(character)
    return (
        0x2E80 <= code <= 0xA4CF
        or 0xAC00 <= code <= 0xD7A3
        or 0xF900 <= code <= 0xFAFF
        or 0xFE30 <= code <= 0xFE4F
        or 0xFF01 <= code <= 0xFFEF
        or 0x20000 <= code <= 0x3FFFD
        or character in "“”‘’…—·"
    )


def _is_point(character: str) -> bool:
    return (isMdAsciiPunct(ord(character)) or isPunctChar(character)) and not is_cjk(character)


# A formula in a line is shorter than 1,000 characters, so that a text full of openings is not read again and again.
_BRACKETED = re.compile(r"\\\((.{1,999}?)\\\)|\\\[(.{1,999}?)\\\]|\$\$(.{1,999}?)\$\$", re.DOTALL)
_DOLLARS = re.compile(r"\$(?![\s$])((?:\\.|[^$\\\n]){1,999}?)(?<!\s)\$(?![\w$])")
_LOOKS_MATHEMATICAL = re.compile(r"[\\^_=<>+*/|′']|^.$|^[A-Za-z]{1,2}$|^[A-Za-z]\(.*\)$|^\w+\s*-\s*\w+$|[^\x00-\x7f]")
_MONEY = re.compile(r"^[\d.,\s]+(?:[-–/+]\s*)?$")
_CLOSING = {"$$": "$$", "\\[": "\\]"}
_OPENS = re.compile(r"[\\=^_{]|^\s*$")


def formulas(md: MarkdownIt) -> None:
    """Add the rules. Tokens are `formula` (in a line) and `formula_block`, the LaTeX in `content`."""
    md.inline.ruler.before("escape", "formula", _inline)
    md.block.ruler.before("fence", "formula_block", _block, {"alt": ["paragraph", "blockquote", "list"]})


def _inline(state: StateInline, silent: bool) -> bool:
    character = state.src[state.pos]
    if character not in "\\$":
        return False
    match = _BRACKETED.match(state.src, state.pos, state.posMax)
    if match:
        latex = next(group for group in match.groups() if group is not None)
    else:
        match = _DOLLARS.match(state.src, state.pos, state.posMax)
        if not match or not _is_formula(state, latex := match.group(1)):
            return False
    if not latex.strip():
        return False
    if not silent:
        token = state.push("formula", "math", 0)
        token.content = latex.strip()
    state.pos = match.end()
    return True


def _is_formula(state: StateInline, latex: str) -> bool:
    before = state.src[state.pos - 1] if state.pos else " "
    if before.isascii() and (before.isalnum() or before == "\\"):
        return False
    return bool(_LOOKS_MATHEMATICAL.search(latex)) and not _MONEY.match(latex)


def _block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    if state.is_code_block(start):
        return False
    first = state.src[state.bMarks[start] + state.tShift[start] : state.eMarks[start]]
    close = _CLOSING.get(first[:2])
    if close is None:
        return False
    rest = first[2:]
    body, found, after = rest.partition(close)
    if (found and (after.strip(" .,;。，；") or not body.strip())) or (not found and not _OPENS.search(rest)):
        return False
    if silent:
        return True
    lines = [body]
    line = start + 1
    while not found and line < end and not state.isEmpty(line) and state.sCount[line] >= state.blkIndent:
        text = state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]]
        body, found, after = text.partition(close)
        lines.append(body)
        line += 1
    state.line = line
    token = state.push("formula_block", "math", 0)
    token.block = True
    token.map = [start, line]
    token.content = "\n".join(lines).strip()
    token.info = after.strip()
    token.hidden = not found
    return True


class _MarkdownParser(MarkdownIt):
    """CommonMark with the changes that the module's docstring lists."""

    def __init__(self) -> None:
        super().__init__("commonmark", {"html": False, "maxNesting": 20})
        self.inline = CJKInline()
        self.configure("commonmark", {"html": False, "maxNesting": 20})
        self.enable(["table", "strikethrough"])
        self.disable(["reference", "html_block", "html_inline"])
        self.use(formulas)


@cache
def _parser() -> MarkdownIt:
    return _MarkdownParser()


def parse(text: str) -> list[Token]:
    """Return the block tokens of clean Markdown; those of type `inline` have children."""
    tokens = _parser().parse(text)
    for token in tokens:
        for child in token.children or ():
            child.content = clean(child.content).replace("\n", " ")  # `&#x202e;` and `%1b` were clean until now
    return tokens


_FENCE = re.compile(r"(`{3,}|~{3,})([^`\n]*)\n")


@dataclass(frozen=True, slots=True, eq=False)
class MarkdownBlock:
    """One top-level block: its tokens, opening to closing, with lines counted from `line`."""

    tokens: Sequence[Token]
    line: int


class MarkdownDocument:
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
