"""A loaded model through llama.cpp's C interface: prefill, decode, save and restore the KV cache.

Only the worker imports this. It has one model, one context and one sequence, and always knows which tokens are in the
KV cache. It prints nothing, samples nothing, and runs no Python inside a decode.

The number of tokens that are decoded together changes the last bits of every result, and so, sooner or later, a token
of the answer. A prompt whose answer must be repeatable is therefore decoded in exact steps: EXACT_STEP tokens each,
counted from the beginning of the prompt, then the rest. Of the KV cache it reuses only what came from such steps.
"""

import ctypes
import math
import os
import time
from array import array
from collections.abc import Callable, Iterator
from typing import Any

from qwenchat.engines.local.protocol import CHUNK, LoadPlan
from qwenchat.engines.worker.c_api import Abort, DecodeFailed, LoadFailed
from qwenchat.engines.worker.ggml import Ggml
from qwenchat.engines.worker.vocabulary import Vocabulary

FIRST_CHUNK = 32
"""Tokens of the first step, which measures the model's speed, and the minimum for other steps."""
EFFICIENT = 128
"""Steps of this many tokens are about as efficient as longer ones; in a step of 32, each token takes 1.35 times as long
(Qwen2-0.5B, 2 cores)."""
EXACT_STEP = EFFICIENT
"""Tokens of one exact step. A change makes answers differ from those of earlier versions."""
_STEP_S, _LONG_STEP_S = 2, 4
_KV_TYPES = {"f16": 1, "q8_0": 8}
_FLASH_AUTO = -1
_NO_SCALING, _YARN = 0, 2
"""LLAMA_ROPE_SCALING_TYPE_NONE and _YARN; unset, it is what the file says."""
_ABORTED = 2
_MMAP = 1
"""LLAMA_LOAD_MODE_MMAP; 0 reads the file."""


class LlamaModel:
    """One loaded model with its context."""

    def __init__(self, c: Any, plan: LoadPlan, abort: Abort, progress: Callable[[float], object]) -> None:
        self.c, self.abort = c, abort
        c.llama_backend_init()
        self._model = self._load(plan, progress)
        # Left open until this process ends, to show other programs that the file is in use even if it is not mapped.
        os.open(plan.path, os.O_RDONLY)
        self.vocabulary = Vocabulary(c, self._model)
        self.ctx = self._context(plan)
        self._memory = c.llama_get_memory(self.ctx)
        self.n_ctx: int = c.llama_n_ctx(self.ctx)
        self._step: int = min(CHUNK, c.llama_n_batch(self.ctx))  # llama.cpp aborts on a batch larger than the context's
        self._prefill_tps = 0.0
        """Tokens per second of the last prefill step; 0 before the first."""
        self._add_loras(plan)
        c.llama_set_abort_callback(self.ctx, ctypes.cast(abort.callback, c.ggml_abort_callback), abort.data)
        self.cached = array("i")
        """The tokens in the KV cache."""
        self.exact_tokens = 0
        """How many of them, from the beginning, were decoded in exact steps."""

    def _load(self, plan: LoadPlan, progress: Callable[[float], object]) -> Any:
        params = self.c.llama_model_default_params()
        params.n_gpu_layers = plan.gpu_layers
        params.load_mode = _MMAP if plan.mmap else 0
        params.use_extra_bufts = plan.extra_buffers
        if plan.split is not None:
            devices = Ggml.beside(self.c).handles([share.device for share in plan.split])
            params.devices = ctypes.cast(devices, ctypes.c_void_p)
            shares = (share.layers for share in plan.split)
            params.tensor_split = (ctypes.c_float * self.c.llama_max_devices())(*shares)

        def report(fraction: float, _data: object) -> bool:
            progress(fraction)
            return True

        self._progress = self.c.llama_progress_callback(report)
        params.progress_callback = self._progress
        model = self.c.llama_model_load_from_file(plan.path, params)
        if not model:
            raise LoadFailed("model")
        return model

    def _context(self, plan: LoadPlan) -> Any:
        params = self.c.llama_context_default_params()
        params.n_ctx = plan.n_ctx
        params.n_batch = params.n_ubatch = CHUNK
        params.n_outputs_max = 1
        params.n_threads = params.n_threads_batch = plan.threads
        params.type_k = params.type_v = _KV_TYPES[plan.kv_type]
        params.flash_attn_type = _FLASH_AUTO
        params.no_perf = True
        if plan.yarn_factor == 1:
            params.rope_scaling_type = _NO_SCALING
        elif plan.yarn_factor > 1:
            params.rope_scaling_type = _YARN
            params.rope_freq_scale = 1 / plan.yarn_factor
            params.yarn_orig_ctx = plan.native_ctx
        context = self.c.llama_init_from_model(self._model, params)
        if not context:
            raise LoadFailed("context")
        return context

    def _add_loras(self, plan: LoadPlan) -> None:
        if not plan.loras:
            return
        adapters = [self.c.llama_adapter_lora_init(self._model, lora.path) for lora in plan.loras]
        if not all(adapters):
            raise LoadFailed("adapter")
        handles = (self.c.llama_adapter_lora_p_ctypes * len(adapters))(*adapters)
        scales = (ctypes.c_float * len(adapters))(*(lora.scale for lora in plan.loras))
        if self.c.llama_set_adapters_lora(self.ctx, handles, len(adapters), scales):
            raise LoadFailed("adapter")

    @property
    def description(self) -> str:
        """llama.cpp's description of the model."""
        buffer = ctypes.create_string_buffer(128)
        self.c.llama_model_desc(self._model, buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace")

    @property
    def tensor_bytes(self) -> int:
        """Bytes of all tensors."""
        return int(self.c.llama_model_size(self._model))

    @property
    def parameters(self) -> int:
        """The number of weights."""
        return int(self.c.llama_model_n_params(self._model))

    def reuse(self, tokens: "array[int]", *, exact: bool = False) -> int:
        """Truncate the KV cache to the prefix that it shares with a prompt, and return its length.

        At least the last token of the prompt is left to decode, for its logits. If `exact`, only exact steps are left.
        """
        shared = min(common_prefix(self.cached, tokens), len(tokens) - 1)
        self._truncate(min(self.exact_tokens, _whole_steps(shared)) if exact else shared)
        return len(self.cached)  # 0 if the memory of this model can't be truncated partially

    def replace_cache(self, tokens: "array[int]") -> bool:
        """Make these tokens the content of the KV cache; False when aborted. Raises DecodeFailed."""
        self._truncate(common_prefix(self.cached, tokens))
        return self.decode_all(tokens[len(self.cached) :])

    def decode_all(self, tokens: "array[int]") -> bool:
        """Decode any number of tokens after those in the cache; False when aborted. Raises DecodeFailed."""
        steps = range(0, len(tokens), self._step)
        return all(self.decode(tokens[start : start + self._step]) for start in steps)

    def prefill(self, tokens: "array[int]", start: int, *, exact: bool = False) -> Iterator[int]:
        """Decode `tokens[start:]` in chunks, yielding the number of tokens in the cache; ends early if aborted."""
        while start < len(tokens) and not self.abort:
            rest = len(tokens) - start
            size = min(EXACT_STEP, self._step) if exact else chunk_size(rest, self._prefill_tps, self._step)
            chunk, began = tokens[start : start + size], time.perf_counter()
            if not self.decode(chunk):
                return
            start += len(chunk)
            yield start
            if len(chunk) >= FIRST_CHUNK:
                self._prefill_tps = len(chunk) / (time.perf_counter() - began)

    def decode(self, tokens: "array[int]") -> bool:
        """Decode tokens, at most one batch, after those in the cache; False when aborted. Raises DecodeFailed."""
        buffer = (ctypes.c_int32 * len(tokens)).from_buffer(tokens)
        code = self.c.llama_decode(self.ctx, self.c.llama_batch_get_one(buffer, len(tokens)))
        if code == 0:
            self.c.llama_synchronize(self.ctx)
            if len(tokens) == EXACT_STEP and self.exact_tokens == len(self.cached):
                self.exact_tokens += EXACT_STEP
            self.cached.extend(tokens)
            return True
        in_memory = self.c.llama_memory_seq_pos_max(self._memory, 0) + 1
        before = len(self.cached)
        self.cached.extend(tokens[: max(0, in_memory - before)])
        self._truncate(min(in_memory, len(self.cached)))
        if code == _ABORTED:
            return False
        raise DecodeFailed(f"llama_decode returned {code} at {before} tokens")

    def _truncate(self, length: int) -> None:
        if not self.c.llama_memory_seq_rm(self._memory, 0, length, -1):
            self.c.llama_memory_clear(self._memory, False)
            length = 0
        del self.cached[length:]
        self.exact_tokens = min(self.exact_tokens, _whole_steps(length))

    def save(self, path: bytes) -> int:
        """Write the KV cache to a file and return its number of tokens, 0 if it could not be written."""
        tokens = (ctypes.c_int32 * len(self.cached))(*self.cached)
        saved = self.c.llama_state_save_file(self.ctx, path, tokens, len(tokens))
        return len(tokens) if saved else 0

    def restore(self, path: bytes, exact_tokens: int) -> int:
        """Read the KV cache from a file and return its number of tokens, 0 if it could not be used.

        `exact_tokens` is what it was when the file was saved.
        """
        tokens, count = (ctypes.c_int32 * self.n_ctx)(), ctypes.c_size_t()
        self._truncate(0)
        if not self.c.llama_state_load_file(self.ctx, path, tokens, self.n_ctx, ctypes.byref(count)):
            self.c.llama_memory_clear(self._memory, True)
            return 0
        self.cached = array("i", memoryview(tokens)[: count.value].tobytes())
        self.exact_tokens = exact_tokens
        return count.value


def _whole_steps(length: int) -> int:
    """Return how many of the first `length` tokens are whole exact steps."""
    return length - length % EXACT_STEP


def common_prefix(one: "array[int]", other: "array[int]") -> int:
    """Return the length of the longest common prefix, by binary search over slices, which are compared in C."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def chunk_size(rest: int, tokens_per_second: float, most: int) -> int:
    """Return how many of the `rest` tokens of a prefill to decode in one step, at most `most`.

    `tokens_per_second` is the speed of the last step, 0 if it is unknown. A step takes about two seconds, so that
    progress shows on slow machines too, and up to four if that makes it efficient. Steps are about equal, so that no
    short one is left at the end.
    """
    if not tokens_per_second:
        return min(most, FIRST_CHUNK if rest > 2 * FIRST_CHUNK else rest)
    wanted = max(_STEP_S * tokens_per_second, min(EFFICIENT, _LONG_STEP_S * tokens_per_second), FIRST_CHUNK)
    steps = math.ceil(rest / min(most, wanted))
    return math.ceil(rest / steps)
