"""Answers that say nothing."""

import random
from pathlib import Path

import pytest

from qwenchat.chat.quality import QualityFault, fault_of


@pytest.mark.parametrize(
    "text", ["the same again. " * 20, "好的，" * 40, "Intro.\n\n" + "- item one\n" * 30, "ha" * 60]
)
def test_loops(text: str) -> None:
    assert fault_of("It begins well. " + text) is QualityFault.LOOP


def test_noise() -> None:
    letters = "aжب한字アΩ"
    chosen = random.Random(1)
    assert fault_of("".join(chosen.choice(letters) for _ in range(300))) is QualityFault.NOISE
    assert fault_of("\ufffd" * 30 + "abc " * 5 + "defgh ijk lmn") is QualityFault.NOISE


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Yes.",
        "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12",
        "| a | b |\n|---|---|\n| 1 | 2 |\n" + "-" * 200,
        "中文和 English 混合的句子，日本語もあります。" * 2,
        "\n".join(f"line {number}: x = {number * 7}" for number in range(40)),
    ],
)
def test_text_that_says_something(text: str) -> None:
    assert fault_of(text) is None


def test_our_samples_are_fine() -> None:
    for name in ("sample.md", "sample_zh.md"):
        assert fault_of((Path(__file__).parents[1] / "tui" / name).read_text("utf-8")) is None
