"""In which steps a prompt is prefilled: long ones, unless something else is promised."""

from array import array
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from qwenchat.chat.sampling import Sampling
from qwenchat.engines.local.protocol import CHUNK, Generate, Scored, WorkerReply
from qwenchat.engines.worker.c_api import Abort, bindings
from qwenchat.engines.worker.cache_slot import EXACT_STEP, CacheSlot
from qwenchat.engines.worker.generation import FIRST_STEP, SHARED_STEP, GenerationJob
from qwenchat.engines.worker.llama import LlamaModel
from qwenchat.engines.worker.schedule import Schedule
from qwenchat.engines.worker.step_costs import MOST_OUTPUTS
from tests.fakes.engines import planned

FREE = Sampling(temperature=1.0, max_tokens=1)


@pytest.fixture(scope="module")
def model(tiny: Path) -> Iterator[LlamaModel]:
    yield LlamaModel(bindings(), planned(tiny, n_ctx=2048, scores=True).plan, Abort(), lambda fraction: True)


def steps(
    model: LlamaModel, count: int, request: Generate, *, beside: bool = False, scored_from: int | None = None
) -> list[int]:
    """Prefill `count` tokens, and return the tokens of each step."""
    replies: list[WorkerReply] = []
    model.slots[0].truncate(0)
    prompt = array("i", [token % 300 for token in range(count)])
    job = GenerationJob(model, model.slots[0], request, prompt, report=replies.append, scored_from=scored_from)
    running = job.run()
    found: list[int] = []
    job.is_alone = not beside
    step = next(running)
    while step and sum(found) < count:
        found.append(len(step.tokens))
        (output,) = model.decode(step)
        try:
            step = running.send(output)
        except StopIteration:
            break
    running.close()
    return found


def test_the_first_step_after_loading_is_short_and_all_others_are_long(model: LlamaModel) -> None:
    model.has_prefilled = False
    request = Generate(1, [], FREE)
    assert steps(model, 2 * FIRST_STEP, request) == [2 * FIRST_STEP]
    model.has_prefilled = False
    assert steps(model, 1100, request) == [FIRST_STEP, 346, 345, 345]  # none of a few tokens at the end
    assert steps(model, 1100, request) == [367, 367, 366]
    assert steps(model, 2 * CHUNK, request) == [CHUNK, CHUNK]


def test_what_is_promised_needs_shorter_steps(model: LlamaModel) -> None:
    assert steps(model, 200, Generate(1, [], FREE), beside=True) == [SHARED_STEP] * 3 + [200 - 3 * SHARED_STEP]
    model.has_prefilled = False  # which makes no difference to a repeatable answer
    repeatable = replace(FREE, temperature=0.0)
    assert steps(model, 300, Generate(1, [], repeatable)) == [EXACT_STEP, EXACT_STEP, 300 - 2 * EXACT_STEP]
    assert steps(model, 70, Generate(1, [], FREE), scored_from=0) == [MOST_OUTPUTS, MOST_OUTPUTS, 70 - 2 * MOST_OUTPUTS]
    assert steps(model, 300, Generate(1, [], FREE), scored_from=261) == [260, MOST_OUTPUTS, 40 - MOST_OUTPUTS]


@pytest.mark.parametrize("scored_from", [0, 1, 2])
def test_the_tokens_that_are_asked_for_are_scored_and_no_other(model: LlamaModel, scored_from: int) -> None:
    replies: list[WorkerReply] = []
    prompt = array("i", range(50))
    model.slots[0].truncate(0)
    schedule = Schedule(model, lambda number: False, lambda number, error: None)
    slot, request = schedule.take_slot(prompt), Generate(1, [], FREE)
    schedule.start(GenerationJob(model, slot, request, prompt, report=replies.append, scored_from=scored_from))
    while not schedule.is_idle:
        schedule.step()
    scored = [token for reply in replies if isinstance(reply, Scored) for token in reply.ids]
    assert scored == prompt[scored_from:].tolist()


def test_steps_are_short_where_peers_compute_which_can_not_be_stopped_within_one(tiny: Path) -> None:
    plan = msgspec.structs.replace(planned(tiny, n_ctx=1024).plan, peers=("host:1",))
    with_peers = LlamaModel(bindings(), plan, Abort(), lambda fraction: True)
    assert max(steps(with_peers, 500, Generate(1, [], FREE))) == 64


def test_a_step_is_stopped_in_the_middle(model: LlamaModel) -> None:
    model.abort.set()
    running = GenerationJob(
        model, model.slots[0], Generate(1, [], FREE), array("i", range(300)), report=lambda reply: None
    ).run()
    model.slots[0].truncate(0)
    step = next(running)
    assert step and model.decode(step) == [] and not model.slots[0].cached
    model.abort.clear()
    running.close()


def test_a_step_that_another_job_stopped_is_finished_and_nothing_of_it_decoded_twice(tiny: Path) -> None:
    """Where attention is stored, llama.cpp computes a long step in parts, and keeps those before it was stopped."""
    plan = planned(tiny, n_ctx=65_536, parallel=2).plan
    model, ended = LlamaModel(bindings(), plan, Abort(), lambda fraction: True), list[int]()
    model.has_prefilled = True
    cancelled, nodes, stops_at = set[int](), 0, 0

    def is_stopped(_data: object) -> bool:
        """Count the nodes of llama.cpp's graphs; at one of them, the second job is cancelled."""
        nonlocal nodes
        nodes += 1
        if nodes == stops_at:
            cancelled.add(2)
        return nodes == stops_at

    callback = model.c.ggml_abort_callback(is_stopped)
    model.c.llama_set_abort_callback(model.ctx, callback, None)
    schedule = Schedule(model, cancelled.__contains__, lambda number, error: ended.append(number))
    prompt = array("i", [place % 300 for place in range(CHUNK)])

    def start(number: int) -> CacheSlot:
        slot = schedule.take_slot(prompt)
        schedule.start(GenerationJob(model, slot, Generate(number, [], FREE), prompt, report=lambda reply: None))
        return slot

    model.decode_all(prompt)
    model.slots[0].truncate(0)
    stops_at = nodes + nodes * 3 // 4
    slot = start(1)
    start(2)
    while 1 not in ended:
        schedule.step()
    assert ended == [2, 1] and slot.cached == prompt
