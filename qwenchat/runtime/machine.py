"""The machine that models run on: memory, disk and accelerators as they are now, and its speed, measured once."""

# ruff: noqa: PLC0415

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct, field

from qwenchat.chat.message import Message
from qwenchat.runtime.lazy import MadeOnce

if TYPE_CHECKING:
    from qwenchat.engines.local.devices import PeerSurvey
    from qwenchat.engines.local.protocol import Device
    from qwenchat.models.fit import Resources
    from qwenchat.models.measured import Measurements, ModelSpeed

_ASK_AGAIN_S = 30.0
"""Seconds after which peers that did not answer are asked again."""
_ENOUGH_TOKENS = 64
"""Shorter answers say little about speed."""


class Machine(Struct, frozen=True, dict=True):
    """Everything is looked up on first use."""

    known: Path
    """The folder where measurements are stored."""
    downloads: Path
    """The folder whose disk new models go to."""
    _peers: "dict[tuple[str, ...], PeerSurvey]" = field(default_factory=dict)
    """What peers had when they were last asked."""
    _asked: dict[tuple[str, ...], float] = field(default_factory=dict)
    """When that was, by the monotonic clock."""
    _peers_lock: threading.Lock = field(default_factory=threading.Lock)
    _speeds_elsewhere: "dict[str, ModelSpeed]" = field(default_factory=dict)
    """Of models in which other machines took part, as they answered last."""

    @MadeOnce
    def measured(self) -> "Measurements":
        """How fast this machine and its models are."""
        from qwenchat.models.measured import Measurements

        return Measurements(self.known / "measured.json")

    @MadeOnce
    def devices(self) -> "tuple[Device, ...]":
        """The accelerators that a worker sees.

        That an installation can use none is recorded for later processes; others are asked once by each process, as a
        graphics card may come, go, and be full.
        """
        from qwenchat.engines.local import devices

        build = devices.llama_cpp_build()
        if self.measured.uses_no_accelerator(build):
            return ()
        hello = devices.ask_worker()
        if hello and not hello.offload:
            self.measured.record_no_accelerator(build)
        return tuple(hello.devices) if hello else ()

    def survey_peers(self, peers: tuple[str, ...]) -> "PeerSurvey":
        """Return what peers (`host:port`) have; once all of them have answered, they are not asked again.

        A peer serves one program at a time, so it does not answer while it holds a part of this program's model. The
        others are asked again after a while.
        """
        from qwenchat.engines.local.devices import survey_peers

        with self._peers_lock:
            found = self._peers.get(peers)
            if found is None or (found.faults and time.monotonic() - self._asked[peers] > _ASK_AGAIN_S):
                found = self._peers[peers] = survey_peers(peers)
                self._asked[peers] = time.monotonic()
            return found

    def resources(
        self, found: "Sequence[Device] | None" = None, *, peers: tuple[str, ...] = (), measure: bool = False
    ) -> "Resources":
        """Return what the machine has now, with the accelerators `found`, if they are known already.

        Otherwise this machine and its `peers` are asked. With `measure` also its bandwidth, which takes about a second,
        a few times in all.
        """
        from qwenchat.engines.local.devices import this_host
        from qwenchat.files import free_bytes
        from qwenchat.models.fit import PeerMemory, Resources

        machine = this_host()
        if found is None:
            found = (*self.devices, *(self.survey_peers(peers).devices if peers else ()))
        own = [device for device in found if not (device.shares_ram or device.peer)]
        shared = [device.memory_free for device in found if device.shares_ram and not own]
        return Resources(
            ram_total=machine.memory_total,
            ram_available=machine.memory_available,
            gpu_available=sum(device.memory_free for device in own),
            gpu_total=sum(device.memory_total for device in own),
            gpu_of_ram=max(shared, default=0),
            disk_free=free_bytes(self.downloads),
            peers=tuple(
                PeerMemory(device.peer, device.memory_free, device.memory_total) for device in found if device.peer
            ),
            bandwidth=self.measured.bandwidth(machine.cores, machine.memory_available) if measure else 0.0,
        )

    def note_speed(self, answer: Message) -> None:
        """Record how fast a model read and answered, for estimates; that of other machines until the program ends."""
        timings, usage = answer.timings, answer.usage
        if not timings or not usage:
            return
        fresh = usage.prompt_tokens - usage.cached_tokens
        prefill_tps = timings.prefill_tps if fresh >= _ENOUGH_TOKENS else 0.0
        sampled = usage.completion_tokens - usage.accepted_tokens  # what was guessed comes several times as fast
        share = sampled / max(1, usage.completion_tokens)
        decode_tps = timings.decode_tps * share if sampled >= _ENOUGH_TOKENS else 0.0
        if answer.host:
            from qwenchat.models.measured import ModelSpeed

            before = self._speeds_elsewhere.get(answer.model_file, ModelSpeed())
            self._speeds_elsewhere[answer.model_file] = ModelSpeed(
                prefill_tps or before.prefill_tps, decode_tps or before.decode_tps
            )
        elif prefill_tps or decode_tps:
            self.measured.record(answer.model_file, prefill_tps=prefill_tps, decode_tps=decode_tps)

    def speed_of(self, model_file: str) -> "ModelSpeed | None":
        """Return how fast a model was, given its identity; None where that is not known."""
        return self._speeds_elsewhere.get(model_file) or self.measured.speed(model_file)
