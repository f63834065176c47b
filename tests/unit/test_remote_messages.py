"""Messages for chat APIs: control tokens in texts are broken up, and nothing else changes."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenchat.chat.message import FinishReason, Usage
from qwenchat.chat.ports import Mode
from qwenchat.chat.prompt import Turn
from qwenchat.chat.sampling import Sampling
from qwenchat.engines.remote.estimates import TokenEstimates
from qwenchat.engines.remote.messages import (
    WORD_JOINER,
    ChatAnswer,
    as_messages,
    chat_messages,
    limit_reached,
    plain_prompt,
    without_control,
)
from qwenchat.errors import WrongUse
from qwenchat.text.token_estimate import estimated_tokens
from tests.fakes.standin_chat import asked

FAMILIES: dict[str, list[str]] = json.loads((Path(__file__).parents[1] / "data" / "control_tokens.json").read_text())
TOKENS = sorted({token for tokens in FAMILIES.values() for token in tokens})
COUNTED = json.loads((Path(__file__).parents[1] / "data" / "qwen2_counts.json").read_text())


@pytest.mark.parametrize("family", FAMILIES)
def test_no_control_token_of_a_family_passes(family: str) -> None:
    for token in FAMILIES[family]:
        broken = without_control(f"say {token} now")
        assert token not in broken, token
        assert broken.replace(WORD_JOINER, "") == f"say {token} now"


@given(st.lists(st.sampled_from(TOKENS) | st.sampled_from(["<", "|", ">", "[", "]", "/", "s", " ", "\n", "好"])))
def test_no_control_token_is_left_or_made(pieces: list[str]) -> None:
    text = "".join(pieces)
    broken = without_control(text)
    assert not [token for token in TOKENS if token in broken]
    assert broken.replace(WORD_JOINER, "") == text
    assert without_control(broken) == broken


@pytest.mark.parametrize(
    "text",
    [
        "a < b | c > d, x |> f <| y, Maybe <|> Just",
        "<think>so</think> <tool_call> <div class='a'> List<String> <b>s</b>",
        "xs[0] [x] [link](url) [args] [1] a[i][j] # [INFO] [ ] todo",
        "1 << 2 >> 3; cin >> name << endl",
        "“你好”，世界 <你好>",
    ],
)
def test_ordinary_text_is_sent_as_it_is(text: str) -> None:
    assert without_control(text) == text


def test_neighbours_of_one_speaker_are_one_message() -> None:
    turns = [Turn("system", ""), Turn("user", "one"), Turn("user", "two <|im_end|>"), Turn("assistant", "three")]
    assert as_messages(turns) == [
        {"role": "user", "content": f"one\n\ntwo <{WORD_JOINER}|im_end|>"},
        {"role": "assistant", "content": "three"},
    ]


def test_what_is_completed_is_plain_text() -> None:
    assert plain_prompt([Turn("system", "S"), Turn("user", "Once </s>"), Turn("assistant", " upon")]) == (
        f"Once <{WORD_JOINER}/s> upon"
    )


def test_an_answer_is_continued_without_its_reasoning() -> None:
    messages = chat_messages(asked("Why?", "<think>hm</think>\n\nBecause", mode=Mode.CONTINUE))
    assert messages[-1] == {"role": "assistant", "content": "Because"}
    with pytest.raises(WrongUse, match="inside its reasoning"):
        chat_messages(asked("Why?", "<think>hm", mode=Mode.CONTINUE))


def test_reasoning_comes_between_markers() -> None:
    answer = ChatAnswer()
    pieces = [
        answer.delta(None, "so"),
        answer.delta("", " it is"),
        answer.delta("42", None),
        answer.delta("."),
        answer.delta(None),
    ]
    assert [piece.text for piece in pieces if piece] == ["<think>so", " it is", "</think>\n\n42", "."]
    assert answer.text == "<think>so it is</think>\n\n42."


def test_a_word_joiner_that_a_model_repeats_is_dropped() -> None:
    answer = ChatAnswer()
    assert answer.delta(WORD_JOINER) is None
    delta = answer.delta(without_control("It is <|im_end|>."))
    assert delta and delta.text == "It is <|im_end|>."


@pytest.mark.parametrize(
    ("prompt", "completion", "most", "n_ctx", "reason"),
    [
        (10, 5, 5, 4096, FinishReason.LENGTH),
        (10, 3, 5, 13, FinishReason.CONTEXT),
        (10, 5, None, 4096, FinishReason.LENGTH),  # the server has a limit of its own
        (4000, 96, None, 4096, FinishReason.CONTEXT),
        (4000, 96, None, 0, FinishReason.LENGTH),
    ],
)
def test_which_limit_ended_an_answer(
    prompt: int, completion: int, most: int | None, n_ctx: int, reason: FinishReason
) -> None:
    assert limit_reached(Usage(prompt, 0, completion), Sampling(max_tokens=most), n_ctx) is reason


@pytest.mark.parametrize("kind", COUNTED)
def test_estimates_are_near_what_qwen2_counts(kind: str) -> None:
    for text, tokens in COUNTED[kind]:
        assert 0.8 * tokens <= estimated_tokens(text) <= 1.25 * tokens, text


def test_an_estimate_is_corrected_by_what_the_server_counted() -> None:
    estimates = TokenEstimates()
    turns = [Turn("user", "word " * 4000)]
    first = estimates.count(turns, Mode.ANSWER)
    assert not first.exact and first.values[0] > 4000
    estimates.learn(turns, Mode.ANSWER, 6000)
    corrected = estimates.count([*turns, Turn("assistant", "yes")], Mode.ANSWER)
    assert corrected.values[0] == pytest.approx(6000, rel=0.02)
    estimates.learn(turns, Mode.ANSWER, 10**12)  # whatever a server claims
    assert estimates.count(turns, Mode.ANSWER).total <= 2 * first.total
    estimates.learn(turns, Mode.ANSWER, 1)
    assert estimates.count(turns, Mode.ANSWER).total >= 0.75 * first.total


def test_a_prompt_that_was_thought_to_fit_and_did_not() -> None:
    estimates, turns = TokenEstimates(), [Turn("user", "word " * 4000)]
    before = estimates.count(turns, Mode.ANSWER).total
    estimates.learn_too_long(turns, Mode.ANSWER, before + 500)
    assert estimates.count(turns, Mode.ANSWER).total > before + 500


def test_a_system_prompt_counts_nothing_where_it_is_not_sent() -> None:
    counts = TokenEstimates().count([Turn("system", "Be kind."), Turn("user", "Once")], Mode.COMPLETE)
    assert counts.values[0] == counts.around == 0
    assert counts.values[1] > 0
