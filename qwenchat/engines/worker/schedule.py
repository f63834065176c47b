"""Runs jobs side by side: each step of llama.cpp decodes what all of them need next, so that none waits for another.

With a single job it is a plain loop. Which requests there are, and how replies are sent, is decided elsewhere.
"""

from array import array
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, wait

from msgspec import Struct, structs

from qwenchat.engines.schema.refusal import SchemaRefused
from qwenchat.engines.worker.c_api import DecodeFailed
from qwenchat.engines.worker.cache_slot import CacheSlot
from qwenchat.engines.worker.generation import SHARED_STEP, GenerationJob, Steps
from qwenchat.engines.worker.llama import LlamaModel, Step

_WAIT_S = 0.05
"""How long nothing is decoded, at most, while all jobs wait."""


class _ActiveJob(Struct, eq=False):
    """A job and what it needs next."""

    job: GenerationJob
    steps: Steps[None]
    next: Step | None = None

    def next_after(self, decoded: int) -> Step | None:
        """Return what is left of the step where only so many of its tokens were decoded."""
        rest = self.next.tokens[decoded:] if self.next else None
        return structs.replace(self.next, tokens=rest) if self.next and rest else None


class Schedule:
    """The jobs that run on one model."""

    def __init__(
        self, model: LlamaModel, is_cancelled: Callable[[int], bool], ended: Callable[[int, Exception | None], None]
    ) -> None:
        """`ended` is called with the number of each job that ends, and the error that it ended with."""
        self._model, self._is_cancelled, self._ended = model, is_cancelled, ended
        self._running: list[_ActiveJob] = []
        """Those that wait longest for their next step come first."""
        self._idle = list(model.slots)
        """Those that were used longest ago come first."""
        self.must_get_on = False
        """Whether the last step was stopped for a job that was cancelled, so that the others have waited in vain.

        The next step is then a short one, and is stopped only if none of its jobs goes on.
        """

    @property
    def is_idle(self) -> bool:
        """Whether no job runs."""
        return not self._running

    @property
    def has_room(self) -> bool:
        """Whether one more job can run."""
        return bool(self._idle)

    def take_slot(self, prompt: "array[int]") -> CacheSlot:
        """Take a free slot for a prompt; it is free again when its job ends.

        It is the one that has most of the prompt in it, unless more than that would be dropped from it, such as a chat
        that has only the system prompt in common: then the one that was used longest ago.
        """
        slot = max(self._idle, key=lambda each: each.shared_with(prompt))
        if 2 * slot.shared_with(prompt) < len(slot.cached):
            slot = self._idle[0]
        self._idle.remove(slot)
        return slot

    def start(self, job: GenerationJob) -> None:
        """Run a job beside the others, in the slot that was taken for it."""
        running = _ActiveJob(job, job.run())
        self._running.append(running)
        self._go_on(running, None)

    def step(self) -> None:
        """Decode what the jobs need next, and let them go on."""
        self._model.abort.clear()
        for each in [each for each in self._running if self._is_cancelled(each.job.id)]:
            self._go_on(each, None)
        for each in [each for each in self._running if each.job.awaited and each.job.awaited.done()]:
            self._go_on(each, 0)
        ready = self._batch()
        if not ready:
            self._wait()
            return
        before = [len(step.slot.cached) for _each, step in ready]
        try:
            outputs = self._model.decode(*(step for _each, step in ready))
        except DecodeFailed as error:
            for each, _step in ready:
                self._go_on(each, error)
            return
        self.must_get_on = not outputs
        for place, (each, step) in enumerate(ready):
            if outputs:
                self._running.remove(each)
                self._running.append(each)
            if rest := each.next_after(len(step.slot.cached) - before[place]):
                each.next = rest
            else:
                self._go_on(each, outputs[place])

    def _batch(self) -> list[tuple[_ActiveJob, Step]]:
        """Return the steps that are decoded together; of a step that is long for that, the first part."""
        is_shared = len(self._running) > 1
        room = SHARED_STEP if is_shared and self.must_get_on else self._model.longest_step
        outputs, chosen = self._model.most_outputs, []
        for each in self._running:
            step = each.next
            if step and is_shared and not step.all_logits:
                step = structs.replace(step, tokens=step.tokens[:SHARED_STEP])
            if step and len(step.tokens) <= room and step.outputs <= outputs:
                room -= len(step.tokens)
                outputs -= step.outputs
                chosen.append((each, step))
        return chosen

    def _wait(self) -> None:
        """Wait for what one of the jobs waits for."""
        wait([each.job.awaited for each in self._running if each.job.awaited], _WAIT_S, FIRST_COMPLETED)

    def _go_on(self, running: _ActiveJob, result: int | DecodeFailed | None) -> None:
        """Let a job go on with the result of its step: the place of its logits, None where it is cancelled."""
        running.job.is_alone = len(self._running) == 1
        failure: Exception | None = None
        try:
            if isinstance(result, DecodeFailed):
                running.next = running.steps.throw(result)
            else:
                running.next = running.steps.send(result)
            return
        except StopIteration:
            pass
        except (DecodeFailed, SchemaRefused) as error:
            failure = error
        self._running.remove(running)
        self._idle.append(running.job.slot)
        self._ended(running.job.id, failure)
