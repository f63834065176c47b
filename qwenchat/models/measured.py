"""Measurements on this machine: memory bandwidth, the speeds of models, and whether there is an accelerator.

They are saved in one small JSON file in the data folder. If it is damaged or can't be written, they are repeated.
"""

import ctypes
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from qwenchat.files import save_if_possible

_MOST, _LEAST = 64 << 20, 16 << 20
"""Bytes that a core copies at a time, more than fits into caches: copying fewer would not measure the memory."""
_SHARE = 8
"""All cores together copy at most 1/_SHARE of the free memory; with the copies, they use twice that."""
_BANDWIDTH_RUNS = 5
_CLEARLY = 1.5
"""A later bandwidth replaces the saved one only if it is this many times as high: less is noise."""
_WEIGHT = 0.3
"""The weight of the newest run in a model's speed."""


class ModelSpeed(Struct, frozen=True):
    """How fast a model ran on this machine, in tokens per second; 0 if not measured."""

    prefill_tps: float = 0.0
    decode_tps: float = 0.0


class _Figures(Struct, frozen=True):
    bandwidth: float = 0.0
    bandwidth_runs: int = 0
    speeds: dict[str, ModelSpeed] = field(default_factory=dict)
    build: str = ""
    """The last build of llama.cpp that was found to use no accelerator."""


class Measurements:
    """The measurements saved in one file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def speed(self, identity: str) -> ModelSpeed | None:
        """Return the speed of the model with this identity (`gguf.identity`); None if it was never measured."""
        return self._read().speeds.get(identity)

    def speeds(self) -> dict[str, ModelSpeed]:
        """Return the speeds of all models by identity."""
        return self._read().speeds

    def record(self, identity: str, *, prefill_tps: float = 0.0, decode_tps: float = 0.0) -> None:
        """Save the speed of a run, averaged with earlier ones. Only runs over enough tokens give useful speeds."""
        figures = self._read()
        before = figures.speeds.get(identity, ModelSpeed())
        speed = ModelSpeed(_mean(before.prefill_tps, prefill_tps), _mean(before.decode_tps, decode_tps))
        self._write(replace(figures, speeds=figures.speeds | {identity: speed}))

    def bandwidth(self, cores: int, available: int) -> float:
        """Return the memory bandwidth in bytes per second, which stays the same from call to call.

        Each of the first few calls measures for about a second, so that a machine that was busy once is not considered
        slow from then on: a clearly higher bandwidth replaces the saved one. Nothing is measured if too little memory
        is `available` (bytes).
        """
        figures = self._read()
        if figures.bandwidth_runs < _BANDWIDTH_RUNS and (found := copy_bandwidth(cores, available)):
            best = found if found > figures.bandwidth * _CLEARLY else figures.bandwidth
            figures = replace(figures, bandwidth=best, bandwidth_runs=figures.bandwidth_runs + 1)
            self._write(figures)
        return figures.bandwidth

    def uses_no_accelerator(self, build: str) -> bool:
        """Return whether a build of llama.cpp is known to use no accelerator, which saves looking for one."""
        return bool(build) and self._read().build == build

    def record_no_accelerator(self, build: str) -> None:
        """Save that a build of llama.cpp can use no accelerator."""
        self._write(replace(self._read(), build=build))

    def _read(self) -> _Figures:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=_Figures)
        except (OSError, ValueError):
            return _Figures()

    def _write(self, figures: _Figures) -> None:
        save_if_possible(self._file, msgspec.json.encode(figures))


def copy_bandwidth(cores: int, available: int, seconds: float = 0.1, bursts: int = 4, pause: float = 0.1) -> float:
    """Return the bytes per second, read and written, when all cores copy memory.

    The result is the best of a few bursts of `seconds` each, with a `pause` between them, because other programs can
    only slow it down; 0 if too little memory is `available` (bytes) to measure.
    """
    size = min(_MOST, available // (_SHARE * cores))
    if size < _LEAST:
        return 0.0

    def copy(buffers: tuple[ctypes.Array[ctypes.c_char], ctypes.Array[ctypes.c_char]]) -> float:
        start, copied, spent = time.perf_counter(), 0, 0.0
        while spent < seconds:
            ctypes.memmove(*buffers, size)
            copied += 2 * size
            spent = time.perf_counter() - start
        return copied / spent

    buffers = [((ctypes.c_char * size)(), (ctypes.c_char * size)()) for _core in range(cores)]
    for source, _target in buffers:
        ctypes.memset(source, 1, size)  # pages that were never written share one physical page
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(copy, buffers))
        best = 0.0
        for _burst in range(bursts):
            time.sleep(pause)
            best = max(best, sum(pool.map(copy, buffers)))
        return best


def _mean(before: float, now: float) -> float:
    return before + _WEIGHT * (now - before) if before and now else now or before
