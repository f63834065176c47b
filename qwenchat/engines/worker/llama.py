"""A loaded model through llama.cpp's C interface: decodes tokens, saves and restores the KV cache.

Only the worker imports this. It has one model and one context with one sequence, or several that are decoded together;
a draft model has its own. It prints nothing, samples nothing, and runs no Python inside a decode.
"""

import ctypes
import os
import struct
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from qwenchat.engines.local.protocol import CHUNK, DraftFault, DraftModel, LoadPlan
from qwenchat.engines.worker.c_api import Abort, DecodeFailed, LoadFailed
from qwenchat.engines.worker.cache_slot import CacheSlot, common_prefix
from qwenchat.engines.worker.draft_account import DraftPause
from qwenchat.engines.worker.ggml import Ggml
from qwenchat.engines.worker.step_costs import MOST_OUTPUTS, StepCosts
from qwenchat.engines.worker.threads import DecodeThreads
from qwenchat.engines.worker.vocabulary import Vocabulary

_PEERS_STEP = 64
"""Tokens of a step of a prefill where peers compute, as they can't be stopped in the middle of one."""
_KV_TYPES = {"f16": 1, "q8_0": 8}
_FLASH_AUTO, _FLASH_OFF = -1, 0
_SCORES_BYTES = 256 << 20
"""What the attention scores of one layer may take, where they are stored."""
_SHORTEST_STORED = 128
"""Tokens that are computed at once at least, whatever their scores take: in shorter steps, a token costs more."""
_NO_SCALING, _YARN = 0, 2
"""LLAMA_ROPE_SCALING_TYPE_NONE and _YARN; unset, it is what the file says."""
_ABORTED = 2
_MMAP = 1
"""LLAMA_LOAD_MODE_MMAP; 0 reads the file."""
_STATE_HEAD = struct.Struct("=III")


class Step(Struct, frozen=True):
    """Tokens of one sequence that are decoded together."""

    slot: CacheSlot
    tokens: "array[int]"
    all_logits: bool = False
    """Whether the logits of all tokens are needed, not only those of the last."""
    is_exact: bool = False
    """Whether the result must be the same again, to the last bit."""

    @property
    def outputs(self) -> int:
        """The number of tokens whose logits are needed."""
        return len(self.tokens) if self.all_logits else 1


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
        self.n_ctx: int = c.llama_n_ctx_seq(self.ctx)
        """Tokens that one sequence may take."""
        self.longest_step: int = min(CHUNK, c.llama_n_batch(self.ctx))
        """Tokens; llama.cpp aborts on a larger batch."""
        self.prefill_step = min(_PEERS_STEP if plan.peers else CHUNK, self.longest_step)
        """Tokens of a step of a prefill, if nothing else limits it."""
        self.decoded = 0
        """Batches that were decoded: each overwrites the logits of the one before."""
        self.has_prefilled = False
        """Whether a prompt was prefilled, so that the parent knows how fast that is."""
        self.most_outputs = _most_outputs(plan)
        """How many tokens of a batch may have logits."""
        self.slots = tuple(CacheSlot(c, self._memory, number) for number in range(plan.parallel))
        self.can_draft = plan.drafts and not (
            c.llama_model_is_recurrent(self._model) or c.llama_model_is_hybrid(self._model)
        )
        """Whether several tokens may be guessed and decoded at once: the wrong ones must be removed from the memory."""
        self.step_costs = StepCosts()
        self._batch = c.llama_batch_init(self.longest_step, 0, 1)
        self._threads = DecodeThreads(plan.threads, beside_screen=plan.beside_screen)
        self._used_threads = plan.threads
        self._add_loras(plan)
        c.llama_set_abort_callback(self.ctx, ctypes.cast(abort.callback, c.ggml_abort_callback), abort.data)
        self.draft_model: LlamaModel | None = None
        """The small model that guesses what this one will say."""
        self.draft_pause = DraftPause()
        self.draft_name = plan.draft.name if plan.draft else ""
        self.draft_fault: DraftFault | None = None
        """Why it is not used, where the plan has one."""
        if plan.draft:
            self._add_draft_model(plan, plan.draft)

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
        params.n_ctx = plan.n_ctx * plan.parallel
        params.n_seq_max = plan.parallel
        params.kv_unified = plan.parallel == 1
        params.n_batch = params.n_ubatch = CHUNK
        if not plan.flash_attention:
            params.n_ubatch = _computed_at_once(self.c.llama_model_n_head(self._model), plan.n_ctx)
        params.n_outputs_max = _most_outputs(plan)
        params.n_threads = params.n_threads_batch = plan.threads
        params.type_k = params.type_v = _KV_TYPES[plan.kv_type]
        params.flash_attn_type = _FLASH_AUTO if plan.flash_attention else _FLASH_OFF
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

    def _add_draft_model(self, plan: LoadPlan, draft: DraftModel) -> None:
        """Load the draft model beside this one, unless it fails or has other tokens."""
        own = msgspec.structs.replace(
            plan,
            path=draft.path,
            gpu_layers=draft.gpu_layers,
            kv_type="f16",
            parallel=1,
            scores=False,
            drafts=False,
            draft=None,
            loras=(),
        )
        try:
            small = LlamaModel(self.c, own, self.abort, lambda fraction: None)
        except LoadFailed:
            self.draft_fault = "load"
            return
        if small.vocabulary.agrees_with(self.vocabulary):
            small._threads = self._threads
            self.draft_model = small
        else:
            self.draft_fault = "vocabulary"
            self.c.llama_free(small.ctx)
            self.c.llama_model_free(small._model)

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

    def decode(self, *steps: Step) -> list[int]:
        """Decode steps of different sequences together, at most one batch.

        Returns for each step where its last token stands in the batch, which has its logits; nothing when aborted.
        Raises DecodeFailed.
        """
        batch, place, ends = self._batch, 0, []
        for step in steps:
            self._put(step, place)
            place += len(step.tokens)
            ends.append(place - 1)
        batch.n_tokens = place
        threads = self._threads.begin(place, exact=any(step.is_exact for step in steps))
        if threads != self._used_threads:  # each call writes a line to the log
            self.c.llama_set_n_threads(self.ctx, threads, threads)
            self._used_threads = threads
        self.decoded += 1
        started = time.perf_counter()
        code = self.c.llama_decode(self.ctx, batch)
        if code == 0:
            self.c.llama_synchronize(self.ctx)
        seconds = time.perf_counter() - started
        self._threads.end()
        is_alone = len(steps) == 1
        if code == 0:
            if is_alone and (place == 1 or steps[0].all_logits):
                self.step_costs.learn(place, seconds)
            for step in steps:
                step.slot.add(step.tokens, alone=is_alone)
            return ends
        for step in steps:
            step.slot.after_failure(step.tokens if is_alone else array("i"))
        if code == _ABORTED:
            return []
        raise DecodeFailed(f"llama_decode returned {code} for {place} tokens")

    def _put(self, step: Step, place: int) -> None:
        """Write a step into the batch."""
        batch, count, start = self._batch, len(step.tokens), len(step.slot.cached)
        positions = array("i", range(start, start + count))
        ctypes.memmove(ctypes.byref(batch.token.contents, 4 * place), step.tokens.buffer_info()[0], 4 * count)
        ctypes.memmove(ctypes.byref(batch.pos.contents, 4 * place), positions.buffer_info()[0], 4 * count)
        ctypes.memset(ctypes.byref(batch.logits.contents, place), step.all_logits, count)
        batch.logits[place + count - 1] = 1
        for each in range(place, place + count):
            batch.n_seq_id[each] = 1
            batch.seq_id[each][0] = step.slot.number

    def replace_cache(self, tokens: "array[int]") -> bool:
        """Make these tokens the content of the first slot; False when aborted. Raises DecodeFailed."""
        slot = self.slots[0]
        slot.truncate(slot.shared_with(tokens))
        return self.decode_all(tokens[len(slot.cached) :])

    def decode_all(self, tokens: "array[int]") -> bool:
        """Decode any number of tokens in the first slot; False when aborted. Raises DecodeFailed."""
        starts = range(0, len(tokens), self.longest_step)
        return all(self.decode(Step(self.slots[0], tokens[start : start + self.longest_step])) for start in starts)

    def save(self, path: bytes) -> int:
        """Write the first slot to a file and return its number of tokens, 0 if it could not be written."""
        cached = self.slots[0].cached
        tokens = (ctypes.c_int32 * len(cached))(*cached)
        saved = self.c.llama_state_save_file(self.ctx, path, tokens, len(tokens))
        return len(tokens) if saved else 0

    def saved_with(self, prompt: "array[int]", path: bytes) -> int:
        """Return how many of the first tokens of a prompt are in a file that `save` wrote; 0 if it can't be restored.

        llama.cpp's own function reads the whole file. Its `llama_context::state_save_file` writes three 32-bit numbers
        first: a mark, a version, and how many tokens follow.
        """
        tokens = array("i")
        try:
            with Path(os.fsdecode(path)).open("rb") as file:
                _mark, _version, count = _STATE_HEAD.unpack(file.read(_STATE_HEAD.size))
                if count <= self.n_ctx:
                    tokens.frombytes(file.read(tokens.itemsize * min(count, len(prompt))))
        except (OSError, ValueError, struct.error):
            return 0
        return common_prefix(tokens, prompt)

    def restore(self, path: bytes, exact_tokens: int) -> int:
        """Read the first slot from a file and return its number of tokens, 0 if it could not be used.

        `exact_tokens` is what it was when the file was saved.
        """
        tokens, count = (ctypes.c_int32 * self.n_ctx)(), ctypes.c_size_t()
        slot = self.slots[0]
        slot.truncate(0)
        if not self.c.llama_state_load_file(self.ctx, path, tokens, self.n_ctx, ctypes.byref(count)):
            self.c.llama_memory_clear(self._memory, True)
            return 0
        slot.replace(array("i", memoryview(tokens)[: count.value].tobytes()), exact_tokens)
        return count.value


def _computed_at_once(heads: int, n_ctx: int) -> int:
    """Return how many tokens of a step are computed at once: their scores are 32-bit floats, by head and KV cell."""
    tokens = _SCORES_BYTES // (4 * heads * n_ctx)
    return max(_SHORTEST_STORED, min(CHUNK, tokens // _SHORTEST_STORED * _SHORTEST_STORED))


def _most_outputs(plan: LoadPlan) -> int:
    """Return how many logits are computed at once: one of each sequence, and all of a step of one of them."""
    return plan.parallel + (MOST_OUTPUTS - 1 if plan.scores or plan.drafts else 0)
