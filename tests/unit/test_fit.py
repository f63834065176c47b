"""Memory is predicted before it is taken."""

from dataclasses import replace

import pytest

from qwenchat.models.fit import KV_BYTES, largest_context, memory_needed
from qwenchat.models.gguf import Header, read_header
from tests.ggufs import write_model

GIB = 1 << 30


@pytest.fixture(scope="module")
def header(tmp_path_factory: pytest.TempPathFactory) -> Header:
    return read_header(write_model(tmp_path_factory.mktemp("fit") / "m.gguf"))


@pytest.mark.parametrize(
    ("shape", "size", "n_ctx", "gib"),
    [
        ((24, 2, 64), 397_805_248, 4096, 0.71),
        ((28, 2, 128), 986_045_824, 32768, 1.69),
        ((28, 4, 128), 4_683_071_264, 131072, 8.4),
        ((80, 8, 128), 47_415_712_640, 4096, 45.1),
    ],
)
def test_the_sizes_of_the_family(
    header: Header, shape: tuple[int, int, int], size: int, n_ctx: int, gib: float
) -> None:
    layers, kv_heads, head = shape
    shaped = replace(header, layers=layers, kv_heads=kv_heads, key_length=head, value_length=head, file_size=size)
    assert memory_needed(shaped, n_ctx, KV_BYTES["q8_0"]).total / GIB == pytest.approx(gib, rel=0.02)


def test_the_largest_context_just_fits(header: Header) -> None:
    available = memory_needed(header, 10_000, 2.0).total
    n_ctx = largest_context(header, available, 2.0, 32_768)
    assert n_ctx == 9_984
    assert memory_needed(header, n_ctx, 2.0).total <= available < memory_needed(header, n_ctx + 256, 2.0).total
    assert largest_context(header, 100 * GIB, 2.0, 32_768) == 32_768
    assert largest_context(header, header.file_size, 2.0, 32_768) == 0
