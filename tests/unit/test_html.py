"""Text out of web pages, broken and hostile ones included."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenchat.text.html import text_of

PAGE = """<!DOCTYPE html><html><head><title>Hi &amp; welcome</title><style>p {color: red}</style>
<script>if (a < b) document.write("</p>")</script></head><body><!-- <p>hidden</p> --><h1>A
 b</h1><p>one<br>two <b>three</b></p><ul><li>x<li>y</ul><pre>  a
    b</pre><table><tr><td>1<td>2</tr></table><svg><text>drawn</text></svg>1 < 2 &#99999999999999; &#20320;</body>"""
TEXT = "Hi & welcome\n\n# A b\n\none\ntwo three\n\n- x\n- y\n\n  a\n    b\n\n1 | 2\n\n1 < 2 \ufffd 你"


def test_a_page_is_read_as_its_reader_sees_it() -> None:
    assert text_of(PAGE) == TEXT


@pytest.mark.parametrize(
    "page", ["", "<", "<a", "<!--", "<script>x", "<p", "text<script", "<svg><svg></svg>", "&#", "<li></li>"]
)
def test_what_is_cut_off_is_left_out(page: str) -> None:
    assert text_of(page) in ("", "<", "text", "&#")


@pytest.mark.parametrize(
    "piece", ["<!--", "<a ", "<script>", "</script", "<a b='", "&#1", "<pre>", "<", "<li>", "<![CDATA["]
)
def test_a_hostile_page_of_a_megabyte_is_read(piece: str) -> None:
    assert len(text_of(piece * ((1 << 20) // len(piece)))) <= 1 << 20


@given(st.text(alphabet="<>/!-abcdiprsty &#;'\"=\n", max_size=200))
def test_any_text_is_read(page: str) -> None:
    assert "<script>" not in text_of(page)
