"""Requests to a server get their turn in order, models are exchanged between them, and nobody waits for ever."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import pytest

from qwenchat.chat.events import LoadEvent
from qwenchat.chat.ports import Engine, ModelInfo
from qwenchat.errors import CannotLoad, Interrupted, NotFound, QueueFull
from qwenchat.runtime.load_options import LoadOptions
from qwenchat.runtime.served_models import ServedModels
from tests.fakes.scripted import ScriptedEngine


@dataclass
class Loading(ScriptedEngine):
    """An engine whose load waits until the test lets it go on."""

    may_load: asyncio.Event = field(default_factory=asyncio.Event)
    loads: int = 0
    is_open: bool = True
    may_close: asyncio.Event | None = None
    """What closing waits for."""
    error: CannotLoad | None = None

    async def load(self, progress: Callable[[LoadEvent], object] | None = None) -> ModelInfo:
        self.loads += 1
        await self.may_load.wait()
        if self.error:
            raise self.error
        return await super().load(progress)

    async def close(self, *, at_once: bool = False) -> None:
        if self.may_close:
            await self.may_close.wait()
        self.is_open = False
        self.may_load.set()


@dataclass
class Models:
    """Makes engines and remembers them."""

    made: list[tuple[str, Loading]] = field(default_factory=list)
    waits: bool = False

    def __call__(self, reference: str, options: LoadOptions) -> Engine:
        if reference == "missing":
            raise NotFound("There is none.")
        assert not any(engine.is_open for _reference, engine in self.made), "one model at a time"
        engine = Loading()
        if not self.waits:
            engine.may_load.set()
        self.made.append((reference, engine))
        return engine

    @property
    def references(self) -> list[str]:
        return [reference for reference, _engine in self.made]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0)


def has(served: ServedModels, requests: int) -> bool:
    return served.running + served.waiting == requests


async def test_requests_for_other_models_wait_and_keep_their_order() -> None:
    models, done = Models(), list[str]()
    served = ServedModels(models, LoadOptions(parallel=2))
    may_end = asyncio.Event()

    async def ask(reference: str) -> None:
        async with served.grant(reference):
            await may_end.wait()
            done.append(reference)

    asked = []
    for place, reference in enumerate("aabab"):
        asked.append(asyncio.create_task(ask(reference)))
        await until(partial(has, served, place + 1))
    await until(lambda: served.running == 2)
    assert served.waiting == 3 and models.references == ["a"] and served.reference == "a"
    may_end.set()
    await asyncio.gather(*asked)
    assert done == [*"aabab"] and models.references == [*"abab"]
    assert served.running == served.waiting == 0
    await served.close()
    assert not models.made[-1][1].is_open


async def test_more_than_the_queue_holds_are_refused() -> None:
    served = ServedModels(Models(), LoadOptions(), most_waiting=1)
    async with served.grant("a"):
        waiting = asyncio.create_task(served.grant("a").__aenter__())
        await until(lambda: served.waiting == 1)
        with pytest.raises(QueueFull):
            async with served.grant("a"):
                pass
        waiting.cancel()
        await asyncio.wait({waiting})
    assert served.running == served.waiting == 0
    async with served.grant("a"):
        assert served.running == 1


async def test_a_load_goes_on_where_its_client_leaves() -> None:
    models = Models(waits=True)
    served = ServedModels(models, LoadOptions())
    leaving = asyncio.create_task(served.grant("a").__aenter__())
    await until(lambda: bool(models.made) and models.made[0][1].loads == 1)
    leaving.cancel()
    await asyncio.wait({leaving})
    models.made[0][1].may_load.set()
    async with served.grant("a") as granted:
        assert granted.info.name == "Scripted"
    assert models.references == ["a"]


async def test_what_can_t_be_loaded_fails_its_request_alone() -> None:
    models = Models(waits=True)
    served = ServedModels(models, LoadOptions())
    failing = asyncio.create_task(served.grant("a").__aenter__())
    await until(lambda: bool(models.made))
    models.made[0][1].error = CannotLoad("It is too large.")
    models.made[0][1].may_load.set()
    with pytest.raises(CannotLoad):
        await failing
    with pytest.raises(NotFound):
        await served.grant("missing").__aenter__()
    models.waits = False
    async with served.grant("b"):
        assert served.reference == "b"


async def test_an_idle_model_is_unloaded_and_loaded_again() -> None:
    models = Models()
    served = ServedModels(models, LoadOptions(), keep_alive_s=0.0)
    async with served.grant("a"):
        for _round in range(100):
            await asyncio.sleep(0)
        assert served.info is not None, "it is in use"
    await until(lambda: not models.made[0][1].is_open)
    assert served.reference == ""
    async with served.grant("a"):
        assert models.references == ["a", "a"]
    await served.close()


async def test_a_model_whose_client_left_while_it_was_loaded_is_unloaded_when_idle() -> None:
    models = Models(waits=True)
    served = ServedModels(models, LoadOptions(), keep_alive_s=0.0)
    leaving = asyncio.create_task(served.grant("a").__aenter__())
    await until(lambda: bool(models.made) and models.made[0][1].loads == 1)
    leaving.cancel()
    await asyncio.wait({leaving})
    models.made[0][1].may_load.set()
    await asyncio.wait_for(until(lambda: not models.made[0][1].is_open), 10)
    assert served.reference == "" and served.info is None
    await served.close()


async def test_a_model_is_loaded_once_the_last_one_is_closed_although_its_client_left() -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    models = Models()
    served = ServedModels(models, LoadOptions())
    async with served.grant("a"):
        closing = models.made[0][1].may_close = asyncio.Event()
    leaving = asyncio.create_task(served.grant("b").__aenter__())
    await until(lambda: served.engine is None and served.info is None)
    leaving.cancel()
    await asyncio.wait({leaving})
    staying = asyncio.create_task(served.grant("b").__aenter__())
    for _round in range(100):
        await asyncio.sleep(0)
    await asyncio.to_thread(int)  # behind what it would have begun in the only thread
    assert not staying.done()
    closing.set()
    assert (await staying).info.name == "Scripted" and models.references == ["a", "b"]


async def test_a_turn_of_another_door_loads_nothing() -> None:
    models = Models()
    served = ServedModels(models, LoadOptions())
    async with served.turn():
        assert served.running == 1 and models.made == [] and served.engine is None


async def test_closing_ends_those_that_wait() -> None:
    models = Models(waits=True)
    served = ServedModels(models, LoadOptions())
    waiting = [asyncio.create_task(served.grant("a").__aenter__()) for _request in range(3)]
    await until(lambda: served.waiting == 3 and bool(models.made))
    await served.close()
    for each in waiting:
        with pytest.raises(Interrupted):
            await each
