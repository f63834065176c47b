"""Predicts whether a model fits this machine, in bytes, and how fast it would be, in tokens per second.

Pure computation: the resources of the machine and of its peers are measured elsewhere. Peers add memory, but no speed
that could be predicted, so a model that fits this machine well is never spread over them.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol, TypeVar

from msgspec import Struct, structs

KV_BYTES = {"f16": 2.0, "q8_0": 34 / 32}
"""Bytes of one element in the KV cache. q8_0 stores 32 elements in 34 bytes."""
CONTEXT_STEP = 256
"""llama.cpp pads a context window to a multiple of this many tokens."""
NATIVE_CONTEXT = 32_768
"""The largest window, in tokens, that is chosen when the user asks for none."""
LEAST_CONTEXT, USUAL_CONTEXT = 4096, 8192
"""Tokens: a window for short questions, and one with room for a chat."""
READING_SPEED = 5.0
"""Tokens per second; below this, readers wait for the text."""
_OTHERS_SHARE, _OTHERS_MOST = 0.4, 8 << 30
"""The RAM that the system and other programs usually take: this share of it, and no more than these bytes."""
DISK_RESERVE = 512 << 20
"""Bytes that a download leaves free on the disk."""
_COMPUTE = 320 << 20
"""Bytes; `memory_needed` explains the measurement."""
COMFORT = 0.8
"""The share of available RAM that a model may take without crowding other programs."""
_GPU_SHARE = 0.9
"""The share of an accelerator's free memory that a model may take."""
_EFFICIENCY = 0.5
"""The ratio of the speed at which decoding reads weights to that of copying memory on all cores. 0.42 to 0.6 were
measured with q4_k_m of 0.5B and 1.5B on 2 cores."""


class Loadable(Protocol):
    """The facts about a model that a prediction needs. `gguf.ModelHeader` and `catalogue.PublishedModel` have them."""

    @property
    def file_size(self) -> int:
        """Bytes of all parts."""
        ...

    @property
    def active_bytes(self) -> int:
        """Bytes that decoding one token reads."""
        ...

    @property
    def layers(self) -> int: ...

    @property
    def kv_heads(self) -> int: ...

    @property
    def key_length(self) -> int: ...

    @property
    def value_length(self) -> int: ...


class Memory(Struct, frozen=True):
    """Bytes that a loaded model takes."""

    weights: int
    kv: int
    compute: int

    @property
    def total(self) -> int:
        """The sum of all three."""
        return self.weights + self.kv + self.compute


class PeerMemory(Struct, frozen=True):
    """The memory of one device of a peer, in bytes."""

    endpoint: str
    """Host and port of the peer."""
    free: int
    """What llama.cpp reports; for a processor, all of its RAM."""
    total: int

    @property
    def usable(self) -> int:
        """Bytes that a model may take: of a processor, not what its system and other programs usually take."""
        free = self.total - _taken_by_others(self.total) if self.free == self.total else self.free
        return round(free * _GPU_SHARE)


class Resources(Struct, frozen=True):
    """The resources of a machine, in bytes and bytes per second; 0 if missing or not measured."""

    ram_total: int
    ram_available: int
    gpu_available: int = 0
    """Free memory of all accelerators that have their own; llama.cpp spreads a model over them."""
    disk_free: int = 0
    """On the disk to which models are downloaded."""
    bandwidth: float = 0.0
    """The speed of copying memory on all cores; bytes read and bytes written both count."""
    gpu_bandwidth: float = 0.0
    gpu_total: int = 0
    """Memory of all accelerators that have their own, free or not."""
    gpu_of_ram: int = 0
    """RAM that an accelerator without its own memory may use; it counts once, as RAM."""
    peers: tuple[PeerMemory, ...] = ()
    """The devices of other machines over which a model may be spread, in llama.cpp's order."""

    @property
    def comfortable(self) -> int:
        """Bytes that a model may take without crowding other programs, peers included."""
        own = round(self.ram_available * COMFORT + self.gpu_available * _GPU_SHARE)
        return own + sum(peer.usable for peer in self.peers)

    @property
    def usual(self) -> "Resources":
        """The same machine with as much free memory as it usually has, whatever runs on it at this moment."""
        gpu = self.gpu_total or self.gpu_available
        return structs.replace(self, ram_available=self.ram_total - _taken_by_others(self.ram_total), gpu_available=gpu)

    @property
    def alone(self) -> "Resources":
        """The same machine without its peers."""
        return structs.replace(self, peers=())


def _taken_by_others(ram: int) -> int:
    """Return the bytes of a machine's RAM that its system and other programs usually take."""
    return min(round(ram * _OTHERS_SHARE), _OTHERS_MOST)


class Verdict(StrEnum):
    """How well a model fits, best first."""

    COMFORTABLE = "comfortable"
    PARTLY_ON_GPU = "partly on GPU"
    WITH_PEERS = "with peers"
    """Spread over this machine and others."""
    TIGHT = "tight"
    TOO_LARGE = "too large"

    @property
    def rank(self) -> int:
        """0 for the best."""
        return list(Verdict).index(self)


class Fit(Struct, frozen=True, kw_only=True):
    """How one model fits one machine with one context window."""

    verdict: Verdict
    memory: Memory
    n_ctx: int
    kv_type: str
    available: int
    """Bytes of RAM and accelerator memory together, that of peers included, that the model may use."""
    gpu_layers: int
    """Layers on the accelerator; all of them if the whole model fits there."""
    decode_tps: float | None
    """Predicted tokens per second in a short chat; None if the memory bandwidth was not measured, or with peers."""
    peer_layers: tuple[int, ...] = ()
    """Layers on each of `Resources.peers`; empty where all of them are on this machine."""

    @property
    def is_roomy(self) -> bool:
        """Whether it leaves room for other programs."""
        return self.verdict.rank < Verdict.TIGHT.rank


def memory_needed(model: Loadable, n_ctx: int, kv_bytes_per_element: float) -> Memory:
    """Return the memory that a model takes with a window of `n_ctx` tokens.

    Weights take as much memory as their files. llama.cpp repacks some of them for the processor (all of q4_0, most of
    q4_k_m), but the copy costs extra only while the mapped file also stays in memory, from which the system may evict
    it; a file that is read instead of mapped is in memory once (373.7 MiB were measured either way for a file of
    379 MiB). Each token of the window takes one key and one value per layer and KV head. Compute buffers and the
    process itself take 320 MiB: 300 to 385 MiB were measured with llama-cpp-python 0.3.36 on Qwen2 of 0.5B to 7B with
    flash attention on CPU, and 38 to 94 MiB with n_outputs_max=1. Stored attention scores take up to 256 MiB beside
    these 94 (480 MiB with 7B and 32,768 tokens), and that only once the window is full.
    """
    per_token = model.layers * model.kv_heads * (model.key_length + model.value_length)
    return Memory(model.file_size, round(n_ctx * per_token * kv_bytes_per_element), _COMPUTE)


def largest_context(model: Loadable, available: int, kv_bytes_per_element: float, limit: int) -> int:
    """Return the largest window of at most `limit` tokens with which the model fits into `available` bytes.

    It is a multiple of CONTEXT_STEP; 0 if not even the smallest window fits.
    """
    fixed = memory_needed(model, 0, kv_bytes_per_element).total
    step = memory_needed(model, CONTEXT_STEP, kv_bytes_per_element).kv
    steps = min((available - fixed) // step if step else limit, limit // CONTEXT_STEP)
    return max(0, steps) * CONTEXT_STEP


def assess(model: Loadable, resources: Resources, n_ctx: int, kv_type: str, *, most_layers: int | None = None) -> Fit:
    """Return how a model with a window of `n_ctx` tokens and a KV cache of type `kv_type` fits.

    `most_layers` limits the layers on accelerators and peers even if more would fit. Peers take the layers that do not
    fit this machine comfortably, or as many as `most_layers` leaves them.
    """
    memory = memory_needed(model, n_ctx, KV_BYTES[kv_type])
    on_gpu = _layers_on_gpu(model, memory, resources)
    on_gpu = on_gpu if most_layers is None else min(on_gpu, most_layers)
    beside_ram = on_gpu if resources.gpu_available else 0
    wanted = model.layers - beside_ram - _layers_in(model, memory, resources.ram_available * COMFORT)
    wanted = wanted if most_layers is None else min(most_layers, model.layers) - on_gpu
    on_peers = _on_peers(model, memory, resources, wanted)
    beside_ram += sum(on_peers)
    on_gpu = min(on_gpu, model.layers - sum(on_peers))
    in_ram = memory.total - memory.total * beside_ram // max(1, model.layers)
    if in_ram > resources.ram_available * COMFORT:
        verdict = Verdict.TIGHT if in_ram <= resources.ram_available else Verdict.TOO_LARGE
    elif on_peers:
        verdict = Verdict.WITH_PEERS
    else:
        verdict = Verdict.COMFORTABLE if on_gpu in (0, model.layers) else Verdict.PARTLY_ON_GPU
    return Fit(
        verdict=verdict,
        memory=memory,
        n_ctx=n_ctx,
        kv_type=kv_type,
        available=round(min(_all_memory(resources), _size_limit(resources.ram_available, model, most_layers))),
        gpu_layers=on_gpu,
        decode_tps=None if on_peers else _decode_tps(model, resources, on_gpu),
        peer_layers=on_peers,
    )


def beside(model: Loadable, fit: Fit, resources: Resources) -> Resources:
    """Return what a model that is loaded like `fit` leaves of a machine to another one, if both are to fit comfortably.

    Peers are left out.
    """
    on_gpu = fit.memory.total * fit.gpu_layers // max(1, model.layers)
    in_ram = fit.memory.total - (on_gpu if resources.gpu_available else 0)
    return structs.replace(
        resources.alone,
        ram_available=max(0, round(resources.ram_available - in_ram / COMFORT)),
        gpu_available=max(0, round(resources.gpu_available - on_gpu / _GPU_SHARE)),
        gpu_of_ram=max(0, round(resources.gpu_of_ram - on_gpu / _GPU_SHARE)),
    )


def plan(
    model: Loadable,
    resources: Resources,
    limit: int = NATIVE_CONTEXT,
    kv_type: str = "auto",
    *,
    most_layers: int | None = None,
) -> Fit:
    """Return the fit with the largest comfortable window, of at most `limit` tokens.

    `auto` chooses f16, or q8_0 if that allows a larger window. If the largest comfortable window is smaller than
    USUAL_CONTEXT, the fit with LEAST_CONTEXT is returned instead, comfortable or not. Peers are used only where this
    machine alone has no room for such a window, or where `most_layers` asks for them.
    """
    if resources.peers and most_layers is None:
        alone = plan(model, resources.alone, limit, kv_type)
        if alone.is_roomy:
            return alone
    kinds = list(KV_BYTES) if kv_type == "auto" else [kv_type]
    for kind in kinds:
        fit = assess(model, resources, limit, kind, most_layers=most_layers)
        if fit.is_roomy:
            return fit
    steps = range(1, limit // CONTEXT_STEP + 1)

    def is_too_long(step: int) -> bool:
        return not assess(model, resources, step * CONTEXT_STEP, kinds[-1], most_layers=most_layers).is_roomy

    n_ctx = min(limit, LEAST_CONTEXT)
    if limit >= USUAL_CONTEXT and not is_too_long(USUAL_CONTEXT // CONTEXT_STEP):
        n_ctx = bisect_left(steps, True, key=is_too_long) * CONTEXT_STEP
    return assess(model, resources, n_ctx, kinds[-1], most_layers=most_layers)


AnyLoadable = TypeVar("AnyLoadable", bound=Loadable)


def choose(models: Sequence[AnyLoadable], resources: Resources, limit: int = NATIVE_CONTEXT) -> AnyLoadable | None:
    """Return the largest model that fits comfortably, here or else with peers, otherwise the smallest that fits.

    None if none does.
    """
    by_size = sorted(models, key=lambda model: model.file_size)
    fits = [(model, plan(model, resources, limit).verdict) for model in by_size]
    for wanted in (Verdict.COMFORTABLE, Verdict.WITH_PEERS):
        suitable = [model for model, verdict in fits if verdict is wanted]
        if suitable:
            return suitable[-1]
    return next((model for model, verdict in fits if verdict is not Verdict.TOO_LARGE), None)


def disk_missing(size: int, free: int) -> int:
    """Return the bytes that a disk with `free` bytes lacks for a download of `size`, DISK_RESERVE included."""
    return max(0, size + DISK_RESERVE - free)


def _size_limit(ram: float, model: Loadable, most_layers: int | None) -> float:
    """Return the bytes that a model may take if all its layers beyond `most_layers` must fit into `ram`."""
    in_ram = 0 if most_layers is None else model.layers - most_layers
    return ram * model.layers / in_ram if in_ram > 0 else math.inf


def _all_memory(resources: Resources) -> int:
    peers = sum(peer.usable for peer in resources.peers)
    return resources.ram_available + resources.gpu_available + peers


def _layers_on_gpu(model: Loadable, memory: Memory, resources: Resources) -> int:
    room = (resources.gpu_available or resources.gpu_of_ram) * _GPU_SHARE
    if memory.total <= room:
        return model.layers
    return min(model.layers - 1, _layers_in(model, memory, room))


def _layers_in(model: Loadable, memory: Memory, room: float) -> int:
    """Return how many layers, with their part of the KV cache, fit into `room` bytes beside the compute buffers."""
    bytes_per_layer = (memory.weights + memory.kv) / max(1, model.layers)
    return max(0, min(model.layers, int((room - memory.compute) / bytes_per_layer))) if bytes_per_layer else 0


def _on_peers(model: Loadable, memory: Memory, resources: Resources, wanted: int) -> tuple[int, ...]:
    """Return the layers on each peer's device, `wanted` in all if they fit; empty if there are none.

    The largest device is filled first: each further machine on the way of a token costs time.
    """
    layers = [0] * len(resources.peers)
    for index in sorted(range(len(layers)), key=lambda number: -resources.peers[number].usable):
        layers[index] = max(0, min(wanted - sum(layers), _layers_in(model, memory, resources.peers[index].usable)))
    return tuple(layers) if any(layers) else ()


def _decode_tps(model: Loadable, resources: Resources, on_gpu: int) -> float | None:
    """Predict the decoding speed. Memory bandwidth limits it, because each token reads every active weight once."""
    share = on_gpu / max(1, model.layers) if resources.gpu_available else 0.0
    if (
        not model.active_bytes
        or (share < 1 and not resources.bandwidth)
        or (share == 1 and not resources.gpu_bandwidth)
    ):
        return None
    seconds = (1 - share) * model.active_bytes / (resources.bandwidth or 1)
    if resources.gpu_bandwidth:
        seconds += share * model.active_bytes / resources.gpu_bandwidth
    return _EFFICIENCY / seconds
