"""Emphasis beside Chinese, Japanese and Korean text.

CommonMark decides whether `**` opens or closes by the spaces and punctuation around it, which fails in scripts
without spaces: `**注意：**请看` stays literal. Here fullwidth punctuation counts as a letter, and a CJK character
beside a marker does what a space would. Everything else is CommonMark's rule (0.31, section 6.2).
"""

from markdown_it import MarkdownIt
from markdown_it.common.utils import isMdAsciiPunct, isPunctChar, isWhiteSpace
from markdown_it.parser_inline import ParserInline
from markdown_it.rules_inline.state_inline import Scanned, StateInline
from markdown_it.token import Token
from markdown_it.utils import EnvType


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
    """Whether a character belongs to a script without spaces, its punctuation included."""
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
