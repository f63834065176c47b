"""What a chat amounts to: words in both scripts, reading time, and speeds as a chart."""

import pytest
from msgspec.structs import replace

from qwenchat.chat.message import Message, Reasoning, Role, Text, Timings, Usage, text_parts
from qwenchat.chat.ports import ModelInfo
from qwenchat.chat.sampling import UNSET
from qwenchat.chat.statistics import WordCount, count_words, statistics_of
from qwenchat.tui.dialogs.statistics import rows, sparkline


def message(role: Role, text: str) -> Message:
    return Message(id="m", session="s", parent=None, role=role, parts=text_parts(text), created=0)


@pytest.mark.parametrize(
    ("text", "words", "han"),
    [
        ("", 0, 0),
        ("Don't count it twice: well-known words, 3.", 7, 0),
        ("量子计算，是什么？", 0, 7),
        ("用 Python 写一个 B-tree", 2, 4),
        ("𠮷野家 ☃ …", 0, 3),
    ],
)
def test_words_and_chinese_characters_are_counted(text: str, words: int, han: int) -> None:
    assert count_words(text) == WordCount(words, han)


def test_a_branch_is_counted_by_who_wrote_it_and_without_reasoning() -> None:
    answer = replace(
        message(Role.ASSISTANT, ""),
        parts=(Reasoning("so many words here"), Text("Two words.")),
        usage=Usage(1, 0, 12),
        timings=Timings(decode_tps=20.0),
    )
    counted = statistics_of([message(Role.USER, "为什么？"), answer, message(Role.USER, "Why?")])
    assert (counted.questions, counted.answers) == (2, 1)
    assert (counted.asked, counted.answered) == (WordCount(1, 3), WordCount(2, 0))
    assert (counted.tokens, counted.speeds) == (12, {"": (20.0,)})


def test_reading_takes_as_long_in_chinese_as_in_english() -> None:
    assert WordCount(228, 0).minutes == pytest.approx(WordCount(0, 255).minutes) == pytest.approx(1.0)


def test_bars_begin_at_zero_so_that_equal_speeds_look_equal() -> None:
    assert sparkline([40.0]) == "█"
    assert sparkline([40.0, 39.9]) in ("██", "█▇")
    assert sparkline([1.0, 20.0, 40.0]) == "▁▅█"


def test_a_stretched_window_is_said() -> None:
    info = ModelInfo(reference="7b", name="7B", file="0", n_ctx=65536, yarn_factor=2.0, defaults=UNSET, load_s=0.0)
    shown = dict(rows(statistics_of([]), info))
    assert shown["Context window"] == "65,536 tokens · extended 2.0 times with YaRN"
    assert "Speed" not in shown
