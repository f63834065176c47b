"""Where lines may end, whatever the text: nothing lost, nothing too wide, punctuation where readers expect it."""

from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from qwenchat.text.wrap import drawable, exact_cuts, paragraph_cuts, wrapped

NEVER_FIRST = "。，、；：？！）》」』】〕〉”’…"
NEVER_LAST = "（《「『【〔〈“‘(["
WORDS = [
    "中", "文字", "，", "。", "……", "——", "（", "）", "《", "》", "“", "”", "、", " ", "  ", "word", "longword" * 5,
    ",", ".", "(", ")", "don’t", "[x]", ".gitignore", "👨‍👩‍👧", "👍🏽", "🇨🇳", "🇨🇳🇩🇪", "e\u0301", "ก็", "ひらがな",
    "🏴\U000e0067\U000e0062\U000e007f", "\u3000", "한국어", "\u1100\u1161\u11a8", "https://example.com/a/b?c=d", "%",
    "３％", "☀️", "1️⃣",
]  # fmt: skip
PARAGRAPH = st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=3)), max_size=30).map("".join)


def paragraph(text: str) -> str:
    """Return text as callers pass it: clean and on one line."""
    return drawable("".join(c for c in text if c.isprintable() or c == "\u3000"))


def joined(text: str, width: int) -> str:
    return "".join(text[cut.start : cut.end] + (cut.glue or "") for cut in paragraph_cuts(text, width))


@settings(max_examples=1000, deadline=None)
@given(PARAGRAPH, st.integers(2, 60))
@example("最后一段：这里需要换行，标点不在行首。", 6)
def test_any_paragraph(text: str, width: int) -> None:
    text = paragraph(text).strip()
    lines = wrapped(text, width)
    assert joined(text, width) == text
    assert max(map(cell_len, lines)) <= width
    for before, line in pairwise(lines):
        better = [at for at in range(1, len(before)) if may_part(before, at)]
        assert line[0] not in NEVER_FIRST or not better
        assert before[-1] not in NEVER_LAST or not better


def may_part(text: str, at: int) -> bool:
    """Whether a line could have ended in this place with a letter on either side."""
    return text[at - 1].isalpha() and text[at].isalpha() and cell_len(text[at]) > 0 and cell_len(text[at - 1]) > 0


@settings(max_examples=300, deadline=None)
@given(PARAGRAPH, st.integers(2, 60))
def test_any_line_of_code(text: str, width: int) -> None:
    text = paragraph(text)
    cuts = exact_cuts(text, width)
    assert "".join(text[cut.start : cut.end] for cut in cuts) == text
    assert all(cell_len(text[cut.start : cut.end]) <= width for cut in cuts)


def test_a_comment_in_code_is_cut_beside_its_punctuation() -> None:
    text = "x = 1  # 一二三，四"
    assert [text[cut.start : cut.end] for cut in exact_cuts(text, 15)] == ["x = 1  # 一二", "三，四"]


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("一二三四。五", 8, ["一二三", "四。五"]),
        ("一二三（四）", 8, ["一二三", "（四）"]),
        ("一二 ，三四五", 6, ["一", "二 ，", "三四五"]),
        ("he said “中文” loudly", 10, ["he said", "“中文”", "loudly"]),
        ("call(中文)", 6, ["call", "(中文)"]),
        ("一二三四……", 8, ["一二三", "四……"]),
        ("x" * 8 + "。", 8, ["x" * 7, "x。"]),
        ("see .gitignore", 8, ["see", ".gitigno", "re"]),
        ("what is it ?", 10, ["what is", "it ?"]),
        ("🇨🇳🇩🇪🇫🇷", 3, ["🇨🇳", "🇩🇪", "🇫🇷"]),
        ("。。。。", 4, ["。。", "。。"]),
        ("中文，word，中文", 8, ["中文，", "word，中", "文"]),
    ],
)
def test_where_lines_end(text: str, width: int, lines: list[str]) -> None:
    assert wrapped(text, width) == lines


def test_a_space_at_the_beginning_indents() -> None:
    assert wrapped("  one two", 6) == ["  one", "two"]
    assert wrapped(" " * 20 + "one", 6) == ["     o", "ne"]
    assert wrapped("", 6) == [""]
