"""The worker's side of `qwenchat bench`: random tokens decoded as llama-bench does it, and the time that took.

Like llama-bench it counts nothing but llama.cpp's own work: no sampling, no text. What lies before (`depth`) is
read before the clock starts and stays in the cache for the next run.
"""

import random
import time
from array import array

from qwenchat.engines.local.protocol import Failed, Measure, Measured
from qwenchat.engines.worker.llama import Model


def measured(model: Model, request: Measure) -> Measured | Failed:
    """Carry out a run and return its time, or Failed when it was aborted. Raises DecodeFailed."""
    if not model.hold(_random(model, request.depth, seed=0)):
        return Failed(request.id, "cancelled")
    prompt, generated = _random(model, request.prompt, seed=1), _random(model, request.generate, seed=2)
    started = time.perf_counter_ns()
    complete = model.read(prompt) and all(model.decode(array("i", [token])) for token in generated)
    spent = time.perf_counter_ns() - started
    return Measured(request.id, spent) if complete else Failed(request.id, "cancelled")


def _random(model: Model, count: int, *, seed: int) -> "array[int]":
    """Return as many tokens, the same ones for the same seed: which they are hardly matters to the speed."""
    return array("i", random.Random(seed).choices(range(model.vocabulary.size), k=count))  # noqa: S311
