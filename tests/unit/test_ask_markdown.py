"""An answer drawn on a terminal: complete, clean, and never so busy drawing that nothing else is done."""

import io
import re
import time

import pytest
from msgspec.structs import replace
from rich.cells import cell_len

from qwenchat.chat.events import PartGrew, Reading, TurnEnded
from qwenchat.chat.message import Message, Role, Text
from qwenchat.cli.ask_markdown import MarkdownReport
from qwenchat.cli.output import Output
from tests.fakes.sources import passage


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(text: str, size: int = 7) -> str:
    output = Output(Terminal(), Terminal(), colour=False)
    with MarkdownReport(output, verbose=False) as report:
        for i in range(0, len(text), size):
            report.show(PartGrew(0, i, Text(text[i : i + size])))
    assert isinstance(output.out, Terminal)
    return output.out.getvalue()


def test_sources_are_printed_below_the_answer() -> None:
    output = Output(Terminal(), Terminal(), colour=False)
    passages = (passage(1, "Owls."), replace(passage(2, "Crows."), document="a\x1b[31m.pdf"))
    answer = Message(
        id="a", session="s", parent="q", role=Role.ASSISTANT, parts=(*passages, Text("At night [2].")), created=0
    )
    with MarkdownReport(output, verbose=False) as report:
        report.show(Reading(level=2, done=3, total=10, seconds_left=5.0, found=1))
        report.show(PartGrew(2, 0, Text("At night [2].")))
        report.show(TurnEnded(answer))
    assert isinstance(output.out, Terminal)
    sent = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", output.out.getvalue())
    assert sent.index("Reading the documents: 3 of 10") < sent.index("At night [2].\n") < sent.index("[2] a[31m.pdf")
    assert "page 2 · Birds" in sent and "[1]" not in sent


def test_a_character_written_as_an_entity_is_cleaned_too() -> None:
    sent = shown("a &#x202e;b &#27;]0;c&#7; &#x9b;d &amp; e\n")
    assert "\u202e" not in sent and "\x1b]" not in sent and "\x9b" not in sent and "\x07" not in sent
    assert "& e" in sent


def test_the_longer_an_open_block_the_more_seldom_it_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    now, drawn = 0.0, 0

    def draw_slowly(report: MarkdownReport) -> None:
        nonlocal now, drawn
        now, drawn = now + 0.5, drawn + 1

    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(MarkdownReport, "_print_complete", draw_slowly)
    output = Output(Terminal(), Terminal(), colour=False)
    with MarkdownReport(output, verbose=False) as report:
        for _piece in range(1000):
            now += 0.01
            report.show(PartGrew(0, 0, Text("word\n")))
    assert drawn * 0.5 <= now / 3
    assert isinstance(output.out, Terminal)
    assert len(re.findall("word", output.out.getvalue())) >= 1000


def test_lines_of_code_are_printed_whole_and_others_are_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    code = "print(" + ", ".join(f"argument_{number}" for number in range(20)) + ")"
    sent = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", shown(f"- a\n\n  ```py\n  {code}\n  ```\n\n{'word ' * 20}\n", 500))
    assert re.search(rf"^  {re.escape(code)}$", sent, re.MULTILINE)
    assert max(cell_len(line) for line in re.split(r"[\r\n]+", sent) if "word" in line) <= 30


@pytest.mark.parametrize("columns", [60, 30, 12])
def test_a_table_is_wrapped_or_made_records_and_loses_nothing(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    cell = "查询与每一个键相比较，得到一个分数。"
    sent = shown(f"| 名称 | 说明 | a | b |\n|--|--|--|--|\n| 注意力 | {cell} | 1 | 22 |\n\nend\n", 500)
    last = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", sent)
    assert "…" not in last
    assert all(cell_len(line) <= columns for line in re.split(r"[\r\n]+", last))
    assert set(cell) <= set(last)
    assert not re.search(r"^[ │]*[，。]", last, re.MULTILINE)
    assert ("名称: 注意力" in last) == (columns == 12)
