"""What `ask` says of documents: how they are read, how far that is, which sources the answer names."""

import io
from collections.abc import Sequence

import pytest

from qwenchat.chat.events import Loading, PartGrew, Reading, TurnEnded
from qwenchat.chat.message import Attachment, Message, Role, Text
from qwenchat.chat.passages import cited
from qwenchat.cli.ask_documents import ReadingTalk, citation_object, settled, sources_words
from qwenchat.cli.ask_output import JsonReport, TextReport
from qwenchat.cli.output import Output
from qwenchat.runtime.forecast import Forecast
from tests.fakes.sources import passage
from tests.unit.test_ask_markdown import Terminal

PASSAGES = (passage(1, "Owls hunt."), passage(2, "Crows think."), passage(12, "Gulls shout."))
READING = Reading(level=2, done=0, total=1954, seconds_left=700.0)


def answer(text: str) -> Message:
    return Message(id="a", session="s", parent="q", role=Role.ASSISTANT, parts=(*PASSAGES, Text(text)), created=0)


def talked(output: Output, *events: Reading | Loading | PartGrew, draws: bool = True) -> str:
    talk = ReadingTalk(output, draws=draws)
    for event in events:
        talk.show(event)
    assert isinstance(output.err, io.StringIO)
    return output.err.getvalue()


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("At night [1].", [1]),
        ("Both [2][ 1 ], and [12].", [1, 2, 12]),
        ("夜里【1】，见[2，12]。", [1, 2, 12]),
        ("None of it [7] or [x]", [1, 2, 12]),
        ("a[0]", [1, 2, 12]),
    ],
)
def test_an_answer_names_its_sources(text: str, numbers: Sequence[int]) -> None:
    assert [each.number for each in cited(answer(text))] == numbers


def test_sources_are_lines_below_the_text() -> None:
    output = Output(io.StringIO(), io.StringIO(), colour=False)
    with TextReport(output, verbose=False) as report:
        report.show(PartGrew(3, 0, Text("At night [1].")))
        report.show(TurnEnded(answer("At night [1].")))
    assert isinstance(output.out, io.StringIO)
    assert output.out.getvalue() == "At night [1].\n\n[1] book.pdf, page 1 · Birds\n"
    assert sources_words(answer("Nothing.")).count("\n") == 2


def test_events_have_progress_and_passages() -> None:
    output = Output(io.StringIO(), io.StringIO(), colour=False)
    report = JsonReport(output, lambda: None, streams=True)
    report.show(READING)
    report.show(PartGrew(0, 0, PASSAGES[0]))
    assert isinstance(output.out, io.StringIO)
    first, second = output.out.getvalue().splitlines()
    assert first.startswith('{"event": "reading", "level": 2, "done": 0, "total": 1954, "seconds_left": 700.0, "found"')
    assert second.startswith('{"event": "citation", "number": 1, "document": "book.pdf", "page": 1, "heading": "Birds"')
    assert list(citation_object(PASSAGES[0])) == ["number", "document", "page", "heading", "text"]


def test_long_readings_are_announced_once_and_progress_is_for_terminals() -> None:
    later = Reading(level=2, done=5, total=1954, seconds_left=690.0, found=1)
    said = talked(Output(io.StringIO(), io.StringIO(), colour=False), READING, later, Loading(0.5))
    assert said.startswith("1,954 parts of the documents are read, which takes about 12 minutes.")
    assert said.count("\n") == 1 and "5 of" not in said
    short = Reading(level=2, done=0, total=9, seconds_left=3.0)
    assert talked(Output(io.StringIO(), io.StringIO(), colour=False), short) == ""
    seen = talked(Output(io.StringIO(), Terminal(), colour=False), READING, later, PartGrew(0, 0, Text("x")))
    assert "5 of 1,954, 1 found, 690 s left" in seen and seen.endswith("\x1b[K")
    assert "5 of" not in talked(Output(io.StringIO(), Terminal(), colour=False), READING, later, draws=False)


def test_what_does_not_fit_well_is_read_in_parts_and_said() -> None:
    output = Output(io.StringIO(), io.StringIO(), colour=False)
    files = [Attachment(name, "text/plain", b"x", in_parts=name == "c") for name in ("a\x1b[1m", "b", "c")]
    whole = Forecast(tokens=1200, is_exact=True, room=9, fits_well=True, whole_s=None, level_s={})
    long = Forecast(tokens=7000, is_exact=False, room=9, fits_well=False, whole_s=None, level_s={})
    assert [each.in_parts for each in settled(output, files, [long, whole, long])] == [True, False, True]
    assert isinstance(output.err, io.StringIO)
    assert output.err.getvalue().startswith("a[1m has ~7,000 tokens, too many for") and "c has" not in (
        output.err.getvalue()
    )
