"""Whatever text comes, in whatever pieces: nothing raises, nothing is too wide, the end is the whole."""

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from qwenchat.markdown.document import MarkdownDocument, parse
from qwenchat.markdown.lines import Line
from qwenchat.markdown.palette import Palette
from qwenchat.markdown.render import render_block
from qwenchat.text.safe import clean

PALETTE = Palette()
FRAGMENTS = [
    "# h", "#", "#tag", "\n", "\n\n", "- a", "  - b", "* c", "+", "1. x", "2)", "> q", "```", "```py\n", "~~~",
    "    code", "|a|b|\n|-|-|\n|1|2|", "a | b", "--|--", "---", "===", "**b**", "**", "*", "_", "~~", "`", "$$",
    "$x^2$", "\\(", "\\)", "\\[", "\\]", "\\frac{a}{b}", "[l](u)", "[l]", "[l]: http://u", "(http://x.y/z)",
    "![i](j)", "中文：", "**注意：**请看", "，", "。", "（", "👨\u200d👩\u200d👧",
    "e\u0301", "\u200d", "\ufe0f", "1\ufe0f\u20e3",
    "\r", "\r\n", "\t", "\u001b[31m", "\u0007", "\u202e", "שלום", "العربية", "<b>", "&amp;", "\\", "[ ] x",
    "- [x] d", " ", "word", "longword" * 9, "\u0085", "\u2028", "한국어",
    "<http://a/%1b]52;c;%07%E2%80%AE>", "&#13;", "&#10;", "&#12;", "&#x202e;", "&#x2066;", "```&#x202e;x&#13;\n",
]  # fmt: skip
TEXT = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=6)), max_size=25).map("".join)


def all_lines(document: MarkdownDocument) -> list[Line]:
    return drawn_lines(document, 40)


def drawn_lines(document: MarkdownDocument, width: int) -> list[Line]:
    return [line for block in document.blocks for line in render_block(block, width, PALETTE)]


@settings(max_examples=400, deadline=None)
@given(TEXT, st.integers(1, 90))
def test_lines_are_clean_and_fit(text: str, width: int) -> None:
    for line in drawn_lines(MarkdownDocument(text), width):
        drawn = "".join(segment.text for segment in line.segments)
        assert line.width == sum(cell_len(segment.text) for segment in line.segments) <= max(width, 8)
        assert not any(
            ord(c) < 32 or 127 <= ord(c) < 160 or "\u202a" <= c <= "\u202e" or "\u2066" <= c <= "\u2069" for c in drawn
        )
        assert 0 <= line.margin <= len(drawn)


@settings(max_examples=400, deadline=None)
@given(TEXT, st.lists(st.integers(0, 200), max_size=12))
def test_pieces_give_the_same_lines_as_the_whole(text: str, cuts: list[int]) -> None:
    growing = MarkdownDocument()
    at = 0
    for cut in [*sorted({cut for cut in cuts if cut < len(text)}), len(text)]:
        growing.append(text[at:cut])
        at = cut
    assert all_lines(growing) == all_lines(MarkdownDocument(text))


@settings(max_examples=200, deadline=None)
@given(TEXT)
def test_blocks_are_those_of_the_parser(text: str) -> None:
    text = text.rstrip("\r")
    blocks = MarkdownDocument(text).blocks
    tokens = [token for block in blocks for token in block.tokens]
    assert [(t.type, t.content, t.markup) for t in tokens] == [
        (t.type, t.content, t.markup) for t in parse(clean(text))
    ]


def test_one_character_at_a_time() -> None:
    text = "# a\n\n- b\n  - c\n\n```py\nx = 1\n```\n\n| a | b |\n|--|--|\n| 1 | 2 |\n\n"
    text += "$$\nx^2\n$$\n\n**终：**完\n#not\n===\n"
    growing = MarkdownDocument()
    for character in text:
        growing.append(character)
    assert all_lines(growing) == all_lines(MarkdownDocument(text))
    assert len(growing.finished) >= 5


def test_an_open_fence_is_not_read_again() -> None:
    growing = MarkdownDocument("```py\n")
    growing.append("a = 1\n")
    before = growing.live[0].tokens[0].content
    growing.append("b = 2")
    assert growing.live[0].tokens[0].content == before + "b = 2"
    growing.append("\n```\nafter")
    assert [token.type for block in growing.blocks for token in block.tokens][:2] == ["fence", "paragraph_open"]
