"""Does a model fit this machine, and how fast would it be: predictions in bytes and tokens a second.

Plain numbers in, plain numbers out: what the machine has is looked up elsewhere.
"""

from dataclasses import dataclass

from qwenchat.models.gguf import Header

KV_BYTES = {"f16": 2.0, "q8_0": 34 / 32}
"""Bytes of one element in the KV cache. q8_0 stores 32 elements in 34 bytes."""
CONTEXT_STEP = 256
"""llama.cpp pads a context window to a multiple of this many tokens."""
NATIVE_CONTEXT = 32_768
_COMPUTE = 320 << 20


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that a loaded model takes."""

    weights: int
    kv: int
    compute: int

    @property
    def total(self) -> int:
        """All together."""
        return self.weights + self.kv + self.compute


def memory_needed(header: Header, n_ctx: int, kv_bytes_per_element: float) -> Memory:
    """Return the memory that a model takes with a window of `n_ctx` tokens.

    Weights take what their files take; each token of the window one key and one value a layer and KV head;
    buffers for computing 320 MiB, the middle of 300 to 385 MiB measured with llama-cpp-python 0.3.36 on Qwen2
    of 0.5B to 7B with flash attention on CPU.
    """
    per_token = header.layers * header.kv_heads * (header.key_length + header.value_length)
    return Memory(header.file_size, round(n_ctx * per_token * kv_bytes_per_element), _COMPUTE)


def largest_context(header: Header, available: int, kv_bytes_per_element: float, limit: int) -> int:
    """Return the largest window of at most `limit` tokens with which the model takes `available` bytes or less.

    A multiple of CONTEXT_STEP; 0 when not even the smallest fits.
    """
    fixed = memory_needed(header, 0, kv_bytes_per_element).total
    step = memory_needed(header, CONTEXT_STEP, kv_bytes_per_element).kv
    steps = min((available - fixed) // step if step else limit, limit // CONTEXT_STEP)
    return max(0, steps) * CONTEXT_STEP
