"""Prompts of token ids: nothing in a text stays whole that a tokenizer could take for a marker, and each text is asked
for once.
"""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenchat.chat.ports import Mode, Request
from qwenchat.chat.prompt import Turn
from qwenchat.chat.sampling import Sampling
from qwenchat.engines.prompt_format import ChatMLFormat
from qwenchat.engines.remote import token_prompt
from qwenchat.engines.remote.token_prompt import USUAL_MARKERS, TokenPrompts, cuts_inside
from qwenchat.engines.remote.vllm import SPECIAL

MARKERS = ("<|im_end|>", "[INST]", "</s>", "<start_of_turn>")
QWEN = ("<|im_start|>", "<|box_start|>", "<tool_call>", "</tool_response>", "<think>", "</think>", "<||>")
PIECES = st.sampled_from(
    ["<", "|", "im_end", "|>", ">", "[", "INST]", "</s", "start_of_turn", "你好", "\n", *MARKERS, *QWEN]
)


@given(st.lists(PIECES, max_size=12).map("".join))
def test_no_piece_of_a_text_has_a_whole_marker(text: str) -> None:
    for cuts, markers in ((cuts_inside(MARKERS), MARKERS), (cuts_inside(USUAL_MARKERS, pattern=SPECIAL), QWEN)):
        pieces = cuts.split(text)
        assert "".join(pieces) == text
        assert not any(marker in piece for piece in pieces for marker in markers)


@pytest.mark.parametrize("text", ["", "a < b | c > d", "<div class='x'>", "if (a <|b|> c)", "[1, 2]", "{% end %}"])
def test_a_text_without_markers_is_not_cut(text: str) -> None:
    assert cuts_inside(MARKERS).split(text) == [text]
    assert cuts_inside().split(text + "".join(QWEN)) == [text + "".join(QWEN)]


class Bytes:
    """A vocabulary of bytes; control tokens are those above 255."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def tokenise(self, texts: Sequence[str], *, special: bool) -> list[Sequence[int]]:
        self.asked += texts
        return [[256] if text.startswith("<|") and special else [*text.encode()] for text in texts]

    async def without_control(self, ids: Sequence[int]) -> Sequence[int]:
        return [token for token in ids if token < 256]


def prompts(vocabulary: Bytes, first: Sequence[int] = ()) -> TokenPrompts:
    return TokenPrompts(vocabulary, ChatMLFormat(), cuts=cuts_inside(MARKERS), first=first)


async def test_a_text_is_asked_for_once_and_what_is_counted_is_sent() -> None:
    vocabulary = Bytes()
    made = prompts(vocabulary)
    turns = (Turn("user", "Hi<|im_end|>"), Turn("assistant", "x", (1, 2, 300)), Turn("user", "Hi<|im_end|>"))
    counts = await made.count(turns, Mode.ANSWER)
    asked = len(vocabulary.asked)
    prompt = await made.prompt(Request(turns=turns, sampling=Sampling()))
    assert len(vocabulary.asked) == asked == len({*vocabulary.asked})
    assert len(prompt) == counts.total
    assert 300 not in prompt and prompt.count(256) == 2 * len(turns) + 1


async def test_the_first_token_of_every_prompt_comes_once() -> None:
    made = prompts(Bytes(), first=[256])
    turns = (Turn("user", "Hi"),)
    assert await made.prompt(Request(turns=turns, sampling=Sampling())) == [
        256,
        *b"user\nHi",
        256,
        10,
        256,
        *b"assistant\n",
    ]
    plain = await made.prompt(Request(turns=turns, sampling=Sampling(), mode=Mode.COMPLETE))
    assert plain == [256, *b"Hi"]
    assert (await made.count(turns, Mode.COMPLETE)).total == 3


async def test_not_everything_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_prompt, "_KNOWN_CHARACTERS", 40)
    vocabulary = Bytes()
    made = prompts(vocabulary)
    for text in ("a" * 30, "b" * 30, "b" * 30, "a" * 30):
        await made.tokenise(text)
    assert vocabulary.asked == ["a" * 30, "b" * 30, "a" * 30]
