"""How a prefill is divided into steps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenchat.engines.worker.cache_slot import EFFICIENT
from qwenchat.engines.worker.llama import FIRST_CHUNK, chunk_size

CHUNK = 512


def steps(total: int, tokens_per_second: float) -> list[int]:
    made = []
    while total:
        made.append(chunk_size(total, tokens_per_second, CHUNK))
        total -= made[-1]
    return made


def test_the_first_step_is_short_unless_little_is_left() -> None:
    assert chunk_size(1000, 0, CHUNK) == FIRST_CHUNK
    assert chunk_size(64, 0, CHUNK) == 64
    assert chunk_size(64, 0, 16) == 16


@pytest.mark.parametrize(
    ("total", "tokens_per_second", "expected"),
    [
        (996, 175, [332] * 3),  # two seconds each, no short one at the end
        (2000, 10_000, [500] * 4),  # as many as a step can hold
        (40, 175, [40]),
        (256, 20, [64] * 4),  # more than three seconds, because shorter steps would cost more a token
        (48, 3, [24] * 2),  # as short as steps get
        (64, 0.5, [32] * 2),
    ],
)
def test_steps(total: int, tokens_per_second: float, expected: list[int]) -> None:
    assert steps(total, tokens_per_second) == expected


@given(total=st.integers(1, 200_000), tokens_per_second=st.floats(0.01, 1e6), most=st.integers(1, CHUNK))
def test_a_step_stays_within_its_time_limit(total: int, tokens_per_second: float, most: int) -> None:
    size = chunk_size(total, tokens_per_second, most)
    assert 0 < size <= min(most, total)
    assert size <= FIRST_CHUNK or size <= 4 * tokens_per_second + 1
    assert size >= min(total, most, EFFICIENT, max(FIRST_CHUNK, 4 * tokens_per_second)) // 2
