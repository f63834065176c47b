"""Answers made in this process by a real model, as the worker makes them: what was decoded for them can be seen."""

import ctypes
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from qwenchat.chat.message import FinishReason
from qwenchat.chat.sampling import Sampling
from qwenchat.engines.local.protocol import Done, Generate, Piece, WorkerReply
from qwenchat.engines.worker.c_api import Abort, bindings
from qwenchat.engines.worker.cache_slot import CacheSlot
from qwenchat.engines.worker.constraint import Constraints
from qwenchat.engines.worker.generation import GenerationJob
from qwenchat.engines.worker.llama import LlamaModel, Step
from qwenchat.engines.worker.sampler import Sampler
from qwenchat.engines.worker.schedule import Schedule
from tests.fakes.engines import GREEDY, planned

NOISE = 0.01
"""Two logits that are closer are equal but for rounding."""


def load(path: Path, **plan: Any) -> LlamaModel:
    plain = planned(path, extra_buffers=False, **plan).plan  # AMX of some builds ends the process
    return LlamaModel(bindings(), plain, Abort(), lambda fraction: True)


@dataclass
class Run:
    """One answer, and what was decoded for it."""

    ids: tuple[int, ...]
    text: str
    done: Done
    steps: list[Step] = field(default_factory=list)


def answered(
    model: LlamaModel,
    prompt: "array[int]",
    sampling: Sampling = GREEDY,
    *,
    watch: Callable[[Step], bool] = lambda step: False,
) -> Run:
    """Answer a prompt as the worker does; it is cancelled before a step for which `watch` returns True."""
    replies, steps = list[WorkerReply](), list[Step]()
    cancelled, ends = set[int](), list[Exception | None]()
    schedule = Schedule(model, lambda number: number in cancelled, lambda number, error: ends.append(error))
    slot = schedule.take_slot(prompt)
    bound = Constraints(model.vocabulary).of_schema(sampling.schema, "") if sampling.schema else None
    request = Generate(1, [], sampling)
    with noting_samples() as sampled:
        schedule.start(GenerationJob(model, slot, request, prompt, report=replies.append, constraint=bound))
        while not schedule.is_idle:
            if step := schedule._running[0].next:
                steps.append(step)
                if watch(step):
                    cancelled.add(1)
            schedule.step()
    if error := ends[0]:
        raise error
    pieces = [reply for reply in replies if isinstance(reply, Piece)]
    done = replies[-1]
    assert isinstance(done, Done)
    ids = tuple(token for piece in pieces for token in piece.ids)
    check_cache(slot, prompt, sampled)
    return Run(ids, "".join(piece.text for piece in pieces), done, steps)


@contextmanager
def noting_samples() -> Iterator[list[int]]:
    """Yield a list that gets every token that is sampled."""
    sampled, take = list[int](), Sampler.next

    def taking(sampler: Sampler, output: int) -> int:
        sampled.append(take(sampler, output))
        return sampled[-1]

    with patch.object(Sampler, "next", taking):
        yield sampled


def check_cache(slot: CacheSlot, prompt: "array[int]", sampled: list[int]) -> None:
    """Check that the KV cache holds the prompt and the answer, but perhaps for its last token, and nothing else."""
    whole = [*prompt, *sampled]
    assert slot.cached.tolist() in (whole, whole[:-1])
    assert slot._c.llama_memory_seq_pos_max(slot._memory, slot.number) + 1 == len(slot.cached)


def logits(model: LlamaModel, tokens: "array[int]") -> list[float]:
    """Return the logits after these tokens, decoded afresh."""
    model.slots[0].truncate(0)
    assert model.decode_all(tokens)
    return last_logits(model)


def last_logits(model: LlamaModel) -> list[float]:
    pointer = model.c.llama_get_logits_ith(model.ctx, -1)
    return list(ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float * model.vocabulary.size)).contents)


def is_same_but_for_noise(model: LlamaModel, prompt: "array[int]", one: Run, other: Run) -> bool:
    """Return whether two greedy answers are the same, or differ first where two logits differ by rounding alone."""
    (end,) = model.vocabulary.tokenise("<|im_end|>", special=True)
    first, second = ([*run.ids, *([end] if run.done.reason is FinishReason.STOP else [])] for run in (one, other))
    place = next((place for place, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1]), None)
    if place is None:
        return len(first) == len(second)
    at = logits(model, prompt + array("i", first[:place]))
    return abs(at[first[place]] - at[second[place]]) < NOISE
