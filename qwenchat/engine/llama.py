"""llama.cpp through its C interface: load, tokenise, prefill, decode, keep and restore the KV cache.

Only the worker imports this. It holds one model, one context and one sequence, and knows at any moment which
tokens the KV cache holds. It never prints, never decides what to say, and lets no Python run inside a decode.
"""

import ctypes
import importlib.util
import os
import re
import sys
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from qwenchat.engine.protocol import CHUNK, Device, LoadPlan

FIRST_CHUNK = 32
"""Tokens of the first step and the least of the others."""
_KV_TYPES = {"f16": 1, "q8_0": 8}
_FLASH_AUTO = -1
_YARN = 2
_GPU, _INTEGRATED_GPU = 1, 2
"""GGML_BACKEND_DEVICE_TYPE_GPU and _IGPU."""
_ABORTED = 2
_USER_DEFINED = 16
"""LLAMA_TOKEN_ATTR_USER_DEFINED: llama.cpp recognises such a token in any text."""
_MARKER = re.compile(r"<[^<>\s]+>|\[/?[A-Z_]+\]")
"""What may part the turns in a chat template."""
_USUAL_MARKERS = tuple(f"<|{name}|>" for name in ("im_start", "im_end", "endoftext", "system", "user", "assistant"))
"""ChatML's, and those that a template may put together from a role."""
_MMAP = 1
"""LLAMA_LOAD_MODE_MMAP; 0 reads the file."""


class LoadFailed(Exception):
    """llama.cpp refused the model; the reason is in the log."""


class LoadCancelled(Exception):
    """The progress callback said no."""


class DecodeFailed(Exception):
    """llama.cpp could not compute."""


def bindings() -> Any:
    """Return the C bindings without what their package imports besides (0.2 s and 23 MB)."""
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")
    if "llama_cpp" not in sys.modules:
        spec = importlib.util.find_spec("llama_cpp")
        if spec is None:
            raise ImportError("llama-cpp-python is not installed")
        sys.modules["llama_cpp"] = importlib.util.module_from_spec(spec)
    return importlib.import_module("llama_cpp.llama_cpp")


def devices(c: Any) -> list[Device]:
    """Return the accelerators that this build can use."""
    if not c.llama_supports_gpu_offload():
        return []
    folder = Path(c.__file__).parent / "lib"
    load = importlib.import_module("llama_cpp._ctypes_extensions").load_shared_library
    registry, base = load("ggml", folder), load("ggml-base", folder)
    registry.ggml_backend_dev_count.restype = ctypes.c_size_t
    registry.ggml_backend_dev_get.restype = ctypes.c_void_p
    for name in ("name", "description"):
        getattr(base, f"ggml_backend_dev_{name}").restype = ctypes.c_char_p
    found = []
    for i in range(registry.ggml_backend_dev_count()):
        device = ctypes.c_void_p(registry.ggml_backend_dev_get(ctypes.c_size_t(i)))
        kind = base.ggml_backend_dev_type(device)
        if kind in (_GPU, _INTEGRATED_GPU):
            free, total = ctypes.c_size_t(), ctypes.c_size_t()
            base.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
            name, description = base.ggml_backend_dev_name(device), base.ggml_backend_dev_description(device)
            shared = kind == _INTEGRATED_GPU or sys.platform == "darwin"
            found.append(Device(name.decode(), description.decode(), free.value, total.value, shared))
    return found


class Abort:
    """A flag that llama.cpp polls between graph nodes without taking the GIL.

    The callback is the C library's `strlen` on a buffer: 0 while it is empty, 1 (true) when it holds a character.
    """

    def __init__(self) -> None:
        self._buffer = ctypes.create_string_buffer(2)
        library = ctypes.CDLL("msvcrt" if sys.platform == "win32" else None)
        self.callback = ctypes.cast(library.strlen, ctypes.c_void_p)
        self.data = ctypes.cast(self._buffer, ctypes.c_void_p)

    def set(self) -> None:
        """Ask the running decode to stop."""
        self._buffer[0] = b"!"

    def clear(self) -> None:
        """Allow the next decode to run."""
        self._buffer[0] = b"\0"

    def __bool__(self) -> bool:
        return bool(self._buffer[0] != b"\0")


class Model:
    """One loaded model with its context."""

    def __init__(self, c: Any, plan: LoadPlan, abort: Abort, progress: Callable[[float], bool]) -> None:
        self.c, self.abort = c, abort
        c.llama_backend_init()
        self._model = self._load(plan, progress)
        os.open(plan.path, os.O_RDONLY)  # for as long as this process lives: a model in use is seen to be, unmapped too
        self.vocab = c.llama_model_get_vocab(self._model)
        self.n_vocab: int = c.llama_vocab_n_tokens(self.vocab)
        self.ctx = self._context(plan)
        self._memory = c.llama_get_memory(self.ctx)
        self.n_ctx: int = c.llama_n_ctx(self.ctx)
        self._step: int = min(CHUNK, c.llama_n_batch(self.ctx))  # a larger batch than the context's own aborts
        self._add_loras(plan)
        c.llama_set_abort_callback(self.ctx, ctypes.cast(abort.callback, c.ggml_abort_callback), abort.data)
        self.cached = array("i")
        """The tokens that the KV cache holds."""
        self._piece_buffer = ctypes.create_string_buffer(256)
        self._forgeable = dict(self._find_forgeable())
        """Markers between turns, and their tokens, that llama.cpp would find in plain text too."""

    def _load(self, plan: LoadPlan, progress: Callable[[float], bool]) -> Any:
        params = self.c.llama_model_default_params()
        params.n_gpu_layers = plan.gpu_layers
        params.load_mode = _MMAP if plan.mmap else 0
        self._progress = self.c.llama_progress_callback(lambda fraction, _data: progress(fraction))
        params.progress_callback = self._progress
        model = self.c.llama_model_load_from_file(plan.path, params)
        if not model:
            raise LoadCancelled if self.abort else LoadFailed("model")
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
        if plan.yarn_factor > 1:
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
        """What llama.cpp calls the model."""
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

    @property
    def chat_template(self) -> str:
        """The model's own Jinja template, empty where it has none."""
        template = self.c.llama_model_chat_template(self._model, None)
        return template.decode("utf-8", "replace") if template else ""

    def tokenise(self, text: str, *, special: bool) -> "array[int]":
        """Return the tokens of a text; special tokens are recognised only where `special`."""
        if not special and (inside := [marker for marker in self._forgeable if marker in text]):
            cuts = "|".join(f"(?<={re.escape(marker[0])})(?={re.escape(marker[1:])})" for marker in inside)
            return array("i", chain.from_iterable(map(self._tokens, re.split(cuts, text), repeat(False))))
        return self._tokens(text, special)

    def _tokens(self, text: str, special: bool) -> "array[int]":
        data = text.encode()
        room = len(data) + 2
        tokens = (ctypes.c_int32 * room)()
        count = self.c.llama_tokenize(self.vocab, data, len(data), tokens, room, False, special)
        if count < 0:
            raise DecodeFailed("tokenise")
        return array("i", memoryview(tokens)[:count].tobytes())

    def _find_forgeable(self) -> Iterator[tuple[str, int]]:
        for marker in {*_USUAL_MARKERS, *_MARKER.findall(self.chat_template)}:
            tokens = self._tokens(marker, special=True)
            if len(tokens) == 1 and self.c.llama_vocab_get_attr(self.vocab, tokens[0]) & _USER_DEFINED:
                yield marker, tokens[0]

    def harmless(self, ids: Sequence[int]) -> "array[int]":
        """Return the tokens of an earlier answer without those that could end it or open another speaker's turn.

        An answer as it was sampled hardly holds any; one from an imported file may hold what someone put there.
        """
        allowed = {
            token
            for token in set(ids).difference(self._forgeable.values())
            if 0 <= token < self.n_vocab and not self.c.llama_vocab_is_control(self.vocab, token)
        }
        return array("i", (token for token in ids if token in allowed))

    def piece(self, token: int) -> bytes:
        """Return a token's bytes, however many; control tokens have none."""
        size = self.c.llama_token_to_piece(self.vocab, token, self._piece_buffer, len(self._piece_buffer), 0, False)
        if size < 0:
            self._piece_buffer = ctypes.create_string_buffer(-size)
            size = self.c.llama_token_to_piece(self.vocab, token, self._piece_buffer, -size, 0, False)
        return self._piece_buffer.raw[:size]

    def special(self, token: int) -> str:
        """Return the text of a special token, empty for none (-1)."""
        text = self.c.llama_vocab_get_text(self.vocab, token) if token >= 0 else b""
        return str(text.decode("utf-8", "replace"))

    def reuse(self, tokens: "array[int]") -> int:
        """Cut the KV cache back to what it shares with a prompt and return how many tokens that is.

        At least the last token of the prompt is left to decode, for its logits.
        """
        shared = min(common_prefix(self.cached, tokens), len(tokens) - 1)
        self._truncate(shared)
        return shared

    def hold(self, tokens: "array[int]") -> bool:
        """Make the KV cache hold just these tokens; False when aborted. Raises DecodeFailed."""
        self._truncate(common_prefix(self.cached, tokens))
        return self.read(tokens[len(self.cached) :])

    def read(self, tokens: "array[int]") -> bool:
        """Decode any number of tokens behind those in the cache; False when aborted. Raises DecodeFailed."""
        steps = range(0, len(tokens), self._step)
        return all(self.decode(tokens[start : start + self._step]) for start in steps)

    def prefill(self, tokens: "array[int]", start: int) -> Iterator[int]:
        """Decode `tokens[start:]` in chunks, yielding how many tokens the cache then holds; ends early if aborted.

        Chunks take about a second, so that progress shows on slow machines too: a short one first, to see how fast
        it goes, then as many tokens as fit a second, CHUNK at most.
        """
        size = min(FIRST_CHUNK, self._step)
        while start < len(tokens) and not self.abort:
            chunk, began = tokens[start : start + size], time.perf_counter()
            if not self.decode(chunk):
                return
            start += len(chunk)
            yield start
            a_second = int(len(chunk) / (time.perf_counter() - began))
            size = min(self._step, max(FIRST_CHUNK, a_second // FIRST_CHUNK * FIRST_CHUNK))

    def decode(self, tokens: "array[int]") -> bool:
        """Decode tokens behind those in the cache; False when aborted. Raises DecodeFailed."""
        buffer = (ctypes.c_int32 * len(tokens)).from_buffer(tokens)
        code = self.c.llama_decode(self.ctx, self.c.llama_batch_get_one(buffer, len(tokens)))
        if code == 0:
            self.c.llama_synchronize(self.ctx)
            self.cached.extend(tokens)
            return True
        held = self.c.llama_memory_seq_pos_max(self._memory, 0) + 1
        reached = len(self.cached)
        self.cached.extend(tokens[: max(0, held - reached)])
        self._truncate(min(held, len(self.cached)))
        if code == _ABORTED:
            return False
        raise DecodeFailed(f"llama_decode returned {code} at {reached} tokens")

    def _truncate(self, length: int) -> None:
        if not self.c.llama_memory_seq_rm(self._memory, 0, length, -1):
            self.c.llama_memory_clear(self._memory, False)
            length = 0
        del self.cached[length:]

    def save(self, path: bytes) -> int:
        """Write the KV cache to a file and return its tokens, 0 where it could not be written."""
        tokens = (ctypes.c_int32 * len(self.cached))(*self.cached)
        saved = self.c.llama_state_save_file(self.ctx, path, tokens, len(tokens))
        return len(tokens) if saved else 0

    def restore(self, path: bytes) -> int:
        """Read the KV cache from a file and return its tokens, 0 where it could not be used."""
        tokens, count = (ctypes.c_int32 * self.n_ctx)(), ctypes.c_size_t()
        self._truncate(0)
        if not self.c.llama_state_load_file(self.ctx, path, tokens, self.n_ctx, ctypes.byref(count)):
            self.c.llama_memory_clear(self._memory, True)
            return 0
        self.cached = array("i", memoryview(tokens)[: count.value].tobytes())
        return count.value


def common_prefix(one: "array[int]", other: "array[int]") -> int:
    """Return the length of the longest common prefix, by halves compared in C."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
