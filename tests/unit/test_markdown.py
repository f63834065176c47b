"""What a person sees of the Markdown that models write."""

import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pygments.lexers import get_lexer_by_name
from rich.cells import cell_len
from rich.style import Style

from qwenchat.cli.output import Output
from qwenchat.markdown import code, document
from qwenchat.markdown.document import MarkdownDocument
from qwenchat.markdown.lines import Line
from qwenchat.markdown.palette import Palette
from qwenchat.markdown.render import CodeBlock, code_in, render, render_block
from qwenchat.markdown.tables import table_lines

PALETTE = Palette(link=Style(underline=True, color="blue"), tokens={"Keyword": Style(color="magenta")})


def shown(text: str, width: int = 60) -> list[str]:
    return [drawn(line).rstrip() for line in render(text, width, PALETTE)]


def drawn(line: Line) -> str:
    return "".join(segment.text for segment in line.segments)


def styled(text: str, word: str) -> Style:
    """Return the style of the run that says the word."""
    return next(
        segment.style or Style()
        for line in render(text, 200, PALETTE)
        for segment in line.segments
        if word in segment.text
    )


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("**注意：**请看", "注意："),
        ("中文**“引号”**中文", "“引号”"),
        ("这是**重点（注）**的内容", "重点（注）"),
        ("**Note:** plain", "Note:"),
        ("说**`code`**吧", "code"),
        ("**한국어(조사)**는", "한국어(조사)"),
    ],
)
def test_emphasis_beside_chinese_is_bold(text: str, word: str) -> None:
    assert styled(text, word).bold
    assert "*" not in "".join(shown(text))


def test_markers_that_are_no_emphasis_stay() -> None:
    assert shown("2 * 3 * 4 and snake_case_name and **open") == ["2 * 3 * 4 and snake_case_name and **open"]


def test_inline_styles() -> None:
    assert styled("*a* b", "a").italic
    assert styled("~~gone~~", "gone").strike
    assert styled("[t](http://x.y)", "t").underline


@pytest.mark.parametrize("text", ["List<String> x", "<think>hm</think> yes", "[bold red]no[/] markup", "&lt;", "a\\"])
def test_html_and_markup_are_text(text: str) -> None:
    assert shown(text) == [text.replace("&lt;", "<")]


def test_a_link_shows_its_target_and_carries_it() -> None:
    assert shown("[here](https://example.com/a) and <https://b.c>") == ["here (https://example.com/a) and https://b.c"]
    assert styled("[here](https://example.com/a)", "here").meta == {"link": "https://example.com/a"}
    assert styled("see https://b.c/d.", "b.c").meta == {"link": "https://b.c/d"}
    assert shown("[x](javascript:alert(1))") == ["[x](javascript:alert(1))"]
    assert shown("![a cat](cat.png)") == ["[image: a cat] (cat.png)"]


def test_a_newline_is_a_line_break() -> None:
    assert shown("one\ntwo  \nthree") == ["one", "two", "three"]


def test_lists() -> None:
    text = "9. nine\n10. ten\n    - inner\n        - deep\n\n- [ ] open\n- [x] done"
    assert shown(text) == [" 9. nine", "10. ten", "    ◦ inner", "      ▪ deep", "", "[ ] open", "[✓] done"]


def test_a_list_item_hangs_behind_its_bullet() -> None:
    assert shown("- one two three four", 12) == ["• one two", "  three four"]


def test_headings_quotes_and_rules() -> None:
    assert shown("# 标题\n\n> quoted\n> again\n\n---", 10) == ["标题", "━━━━", "", "▎ quoted", "▎ again", "", "─" * 10]


def test_code_names_its_language_and_keeps_its_lines() -> None:
    block = MarkdownDocument("```python\ndef f():\n\treturn 1\n```").blocks[0]
    first, *code = [drawn(line).rstrip() for line in render_block(block, 40, PALETTE, code=0)]
    assert "python" in first and "copy" in first and cell_len(first) == 40
    assert code == [" def f():", "     return 1"]


def test_code_is_coloured_while_it_is_written() -> None:
    assert styled("```python\ndef f(): pass\n", "def").color is not None
    assert styled("```python\ndef f(): pass\n```", "def").color is not None
    assert styled("```nonsense\ndef f(): pass\n```", "def").color is None


def test_code_that_grows_has_the_colours_that_it_will_have() -> None:
    source = Path(document.__file__).read_text("utf-8")[:9000]
    lines = render("```python\n" + source, 100, PALETTE)
    closed = render(f"```python\n{source}\n```", 100, PALETTE)
    assert len(source) > 8000
    assert lines == closed


def test_only_the_end_of_code_that_grows_is_coloured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    class Counting:
        def get_tokens(self, text: str) -> Iterator[tuple[object, str]]:
            read.append(len(text))
            yield from lexer.get_tokens(text)

    lexer = get_lexer_by_name("python", stripnl=False, ensurenl=False)
    monkeypatch.setattr(code, "_lexer", lambda _language: Counting())
    growing = MarkdownDocument("```python\n")
    for number in range(1500):
        growing.append(f"variable_{number} = {number}\n")
        if number % 10 == 0:
            read.clear()
            render_block(growing.live[0], 80, PALETTE)
            assert sum(read) <= 4100


def test_code_of_any_length_is_shown_whole_while_it_grows() -> None:
    source = "x" * 5000 + "\n" + "def f():\n    return '中文'\n" * 2000 + "    y\n" * 1000 + '"""\nnever closed\n' * 300
    shown_code = [drawn(line) for line in render("```python\n" + source, 100, PALETTE)[1:]]
    assert "".join(shown_code) == source.replace("\n", "")


def test_code_that_would_take_long_to_colour_stays_plain() -> None:
    assert styled("```python\n" + " \n" * 500 + "def f(): pass\n```", "def").color is None


def test_long_code_is_cut_and_copied_whole() -> None:
    lines = render_block(MarkdownDocument("```\n" + "x" * 50 + "\n```").blocks[0], 22, PALETTE, code=0)[1:]
    assert [line.width for line in lines] == [22, 22, 22]
    assert [line.glue for line in lines] == ["", "", None]


def test_code_blocks_are_found_wherever_they_are() -> None:
    text = "```sh\nls\n```\n- item\n\n  ```\n  inner\n  ```"
    blocks = [code for block in MarkdownDocument(text).blocks for code in code_in(block)]
    assert blocks == [CodeBlock("sh", "ls\n"), CodeBlock("", "inner\n")]


def test_a_table_is_aligned_by_display_width() -> None:
    text = "| 名称 | n |\n|:--|--:|\n| 一 | 1 |\n| three | 22 |"
    assert shown(text) == ["名称  │  n", "━━━━━━┿━━━", "一    │  1", "three │ 22"]


def test_a_table_is_fitted_by_wrapping_cells() -> None:
    text = "| a | b |\n|--|--|\n| short | " + "long words here " * 5 + "|\n| x | y |"
    lines = shown(text, 40)
    assert all(cell_len(line) <= 40 for line in lines)
    assert lines[2].startswith("short │ long words") and lines[3].startswith("      │ ")
    assert any(set(line) <= set("─┼") for line in lines[3:])


def test_a_column_is_not_narrower_than_its_words_while_others_can_give_way() -> None:
    text = (
        "| model | licence | a | what |\n|--|--|--|--|\n| 57b-a14b:q4_k_m | Apache-2.0 | 查询，键 | "
        + "more words " * 9
        + "|"
    )
    lines = shown(text, 50)
    assert lines[2].startswith("57b-a14b:q4_k_m │ Apache-2.0 │ ")
    assert all(cell_len(line) <= 50 for line in lines)
    assert shown(text, 40)[0].startswith("model: 57b-a14b:q4_k_m")


def test_a_table_that_fits_nowhere_becomes_records() -> None:
    text = "|" + "name|" * 6 + "\n|" + "-|" * 6 + "\n|" + "value|" * 6
    assert shown(text, 20) == ["name: value"] * 6


def test_mathematics_is_readable_and_money_is_money() -> None:
    assert shown("Euler: $e^{i\\pi}=-1$ and \\(a_b\\)") == ["Euler: e^(iπ) = −1 and a_b"]
    assert shown("it costs $5 and $6, or US$7/$8") == ["it costs $5 and $6, or US$7/$8"]
    assert shown("$HOME/bin:$PATH and $x$") == ["$HOME/bin:$PATH and x"]
    assert shown("$$\nx^2\n$$") == ["  x²"]
    assert shown("\\[ \\frac{1}{2} \\]") == ["  1/2"]
    assert shown("so \\[1\\] is") == ["so 1 is"]
    assert shown("`$x^2$`") == ["$x^2$"]


def test_lines_break_where_chinese_may() -> None:
    assert shown("最后一段：这里需要换行，标点不在行首。", 20) == ["最后一段：这里需要换", "行，标点不在行首。"]
    assert shown("abcdef（中文）", 8) == ["abcdef", "（中文）"]


def test_words_wider_than_the_line_are_cut_between_graphemes() -> None:
    family = "👨‍👩‍👧"
    assert shown(family * 6, 8) == [family * 4, family * 2]
    assert [cell_len(line) for line in shown("x" * 20, 8)] == [8, 8, 4]


def test_wrapped_lines_know_how_they_were_one() -> None:
    lines = render("some words here 中文中文", 10, PALETTE)
    assert "".join(line.text + (line.glue or "") for line in lines) == "some words here 中文中文"


def test_control_characters_never_get_through() -> None:
    hostile = "a\x1b]52;c;Zm9v\x07b \x9b31m `\x1b[2J` [\x1bx](http://a.b/\x1b) \u202etxt\r\n```\x1b\n\x07\n```\n"
    hostile += "<http://a/%1b]52;c;Zm9v%07> &#13;&#10;&#x202e;&#x2066; ![&#x202e;](http://a)\n\n```&#x202e;x&#13;y\n```"
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 or c == "\u202e" for line in shown(hostile) for c in line)


def test_a_formula_too_long_to_read_is_shown_as_its_source() -> None:
    assert "\\sqrt[" in "".join(shown("$$\n" + "\\sqrt[" * 1000 + "\n$$"))


def test_a_list_does_not_break_the_names_of_its_rows() -> None:
    rows = [["model", "name"], ["coder-0.5b:q4_k_m", "Qwen2.5 Coder 0.5B Instruct"]]
    lines = table_lines([[[(cell, Style())] for cell in row] for row in rows], (), 36, PALETTE, ruled=False)
    assert drawn(lines[1]).startswith("coder-0.5b:q4_k_m  Qwen2.5")


@pytest.mark.parametrize("width", [40, 8])
def test_a_list_on_a_terminal_shows_nothing_of_what_is_empty(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", str(width))
    terminal = Terminal()
    Output(terminal, io.StringIO(), colour=False).table(["model", "size", ""], [["a", "", ""], ["bbbbb", "1 GB", ""]])
    lines = [line.rstrip() for line in re.sub(r"\x1b\[\d*m", "", terminal.getvalue()).splitlines()]
    records = ["model: a", "────────", "model:", "bbbbb", "size: 1", "GB"]
    assert lines == (["model  size", "a", "bbbbb  1 GB"] if width == 40 else records)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.text("ab 中文，。", max_size=30), min_size=3, max_size=3), min_size=2, max_size=5), st.data()
)
def test_a_table_loses_nothing_at_any_width(rows: list[list[str]], data: st.DataObject) -> None:
    width = data.draw(st.integers(8, 60))
    ruled = data.draw(st.booleans())
    cells = [[[(cell, Style())] for cell in row] for row in rows]
    lines = table_lines(cells, (), width, PALETTE, ruled=ruled)
    assert all(line.width <= width for line in lines)
    text = "".join(drawn(line) for line in lines)
    body = rows[1:]
    for letter in "ab中文，。":
        count = sum(cell.count(letter) for row in body for cell in row)
        assert text.count(letter) >= count
    assert "…" not in text
