"""Initials of Chinese words, against words whose reading is known."""

import pytest

from qwenchat.text.pinyin import initials


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("新建会话", "xjhh"),
        ("新建对话", "xjdh"),
        ("模型", "mx"),
        ("主题", "zt"),
        ("啊座", "az"),
        ("北京欢迎你", "bjhyn"),
        ("导出 Markdown", "dc Markdown"),
        ("plain text", "plain text"),
        ("鼹鼠", "鼹s"),
        ("東京", "東j"),
        ("カナ。", "カナ。"),
    ],
)
def test_common_characters_have_their_first_letter_and_all_else_stays(text: str, read: str) -> None:
    assert initials(text) == read


def test_every_letter_that_begins_a_syllable() -> None:
    words = "阿八擦大饿发改好就卡拉马那哦怕七然三他挖西呀再"
    assert initials(words) == "abcdefghjklmnopqrstwxyz"
