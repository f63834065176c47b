"""Decides how a model is loaded on this machine: context window, KV type, YaRN, GPU layers, threads.

What would not fit is refused here, before llama.cpp meets the operating system's killer. Numbers are predictions
of `models.fit`; the person's `--force` overrides them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from qwenchat.chat.sampling import qwen2_defaults
from qwenchat.config import ModelSettings
from qwenchat.engine.hardware import Machine
from qwenchat.engine.local import Planned
from qwenchat.engine.protocol import Device, LoadPlan, Lora
from qwenchat.errors import CannotLoad
from qwenchat.i18n import _
from qwenchat.models.fit import KV_BYTES, NATIVE_CONTEXT, Memory, largest_context, memory_needed
from qwenchat.models.gguf import Header

COMFORT = 0.8
"""The share of free memory that a model may take unasked."""
LEAST_CONTEXT = 512
_GPU_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the person asked for on the command line; None follows the settings."""

    ctx: int | None = None
    threads: int | None = None
    gpu_layers: int | None = None
    kv_type: str | None = None
    loras: tuple[Lora, ...] = ()
    force: bool = False
    complete: bool = False


def plan(
    header: Header,
    *,
    identity: str,
    name: str,
    machine: Machine,
    devices: Sequence[Device],
    wishes: Wishes,
    settings: ModelSettings,
) -> Planned:
    """Return how to load a model. Raises CannotLoad when it does not fit, with the numbers."""
    gpu = max((device.memory_free for device in devices), default=0)
    free = machine.memory_available + gpu
    native, limit = context_limits(header)
    asked = wishes.ctx or min(settings.context, limit)
    if asked > limit:
        raise CannotLoad(
            _("{name} has a context window of at most {limit:,} tokens; {asked:,} were asked for.").format(
                name=name, limit=limit, asked=asked
            ),
            _("Use --ctx {limit} or less.").format(limit=limit),
        )
    wanted = wishes.kv_type or settings.kv_type
    kv_type, n_ctx = _context(header, asked, native, wanted, round(free * COMFORT))
    memory = memory_needed(header, max(n_ctx, LEAST_CONTEXT), KV_BYTES[kv_type])
    if memory.total > free and not wishes.force:
        raise _too_large(header, name, memory, free, asked)
    n_ctx = max(n_ctx, LEAST_CONTEXT) if not asked else n_ctx
    layers = wishes.gpu_layers if wishes.gpu_layers is not None else settings.gpu_layers
    load = LoadPlan(
        path=str(header.path),
        identity=identity,
        n_ctx=n_ctx,
        threads=wishes.threads or settings.threads or machine.cores,
        gpu_layers=_gpu_layers(header, memory, gpu) if layers < 0 else layers,
        kv_type=kv_type,
        mmap=settings.mmap,
        yarn_factor=max(1.0, n_ctx / native),
        native_ctx=native,
        loras=wishes.loras,
    )
    return Planned(load, name, qwen2_defaults(header.layers, header.width), _warnings(load))


def context_limits(header: Header) -> tuple[int, int]:
    """Return the native window and the largest one, YaRN included, in tokens.

    YaRN factors as Qwen2's makers published them: 7B and 72B reach 131,072, 57B-A14B 65,536, the small ones none.
    """
    native = min(header.context_length or NATIVE_CONTEXT, NATIVE_CONTEXT)
    if not header.architecture.startswith("qwen2"):
        return header.context_length or native, header.context_length or native
    if header.width < 3584 or native < NATIVE_CONTEXT:
        return native, native
    return native, native * (2 if header.experts else 4)


def _context(header: Header, asked: int, native: int, wanted: str, comfortable: int) -> tuple[str, int]:
    """Return KV type and window: as asked, else the most that fits comfortably up to the native window."""
    types = ["f16", "q8_0"] if wanted == "auto" else [wanted]
    full = asked or min(native, NATIVE_CONTEXT)
    for kv_type in types:
        if memory_needed(header, full, KV_BYTES[kv_type]).total <= comfortable:
            return kv_type, full
    smallest = types[-1]
    return smallest, asked or largest_context(header, comfortable, KV_BYTES[smallest], full)


def _gpu_layers(header: Header, memory: Memory, gpu: int) -> int:
    """Return how many layers fit the accelerator with their KV cache; all of them (and the output) where possible."""
    if not gpu:
        return 0
    room = gpu * _GPU_SHARE - memory.compute
    per_layer = (memory.weights + memory.kv) / (header.layers + 1)
    return max(0, min(header.layers + 1, int(room / per_layer)))


def _warnings(load: LoadPlan) -> tuple[str, ...]:
    if load.yarn_factor <= 1:
        return ()
    return (
        _("YaRN stretches the context window {factor:.1f} times; short texts suffer a little.").format(
            factor=load.yarn_factor
        ),
    )


def _too_large(header: Header, name: str, memory: Memory, free: int, asked: int) -> CannotLoad:
    message = _("{name} needs {needed:.1f} GiB of memory and {free:.1f} GiB are free.").format(
        name=name, needed=memory.total / 2**30, free=free / 2**30
    )
    fits = largest_context(header, free, KV_BYTES["q8_0"], asked or NATIVE_CONTEXT)
    if fits >= LEAST_CONTEXT:
        hint = _("Use --ctx {fits} --kv-type q8_0 or less, a smaller quantisation, or --force to try all the same.")
        return CannotLoad(message, hint.format(fits=fits))
    return CannotLoad(message, _("Use a smaller model or quantisation, or --force to try all the same."))
