"""The running side without a screen: what is counted, and what is loaded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest

from qwenchat.chat.events import Loading
from qwenchat.chat.message import Message, Role, Status, text_parts
from qwenchat.chat.ports import Engine, ModelInfo
from qwenchat.chat.prompt import Turn
from qwenchat.chat.session import Session
from qwenchat.errors import CannotLoad, EngineDied
from qwenchat.runtime.events import ChatEvent, Offer
from qwenchat.runtime.load_planner import LoadOptions
from qwenchat.runtime.model_manager import LoadedModel
from tests.fakes.scripted import ScriptedEngine

SESSION = Session(id="s", created=1, updated=1, model="guide")


@dataclass
class Counting(ScriptedEngine):
    """Keeps what it counted; a token that was sampled counts ten times a letter."""

    counted: list[Turn] = field(default_factory=list)

    async def count(self, turns: Sequence[Turn]) -> list[int]:
        self.counted += turns
        return [10 * len(turn.token_ids) or len(turn.text) for turn in turns]


def question(text: str) -> Message:
    return Message(id=f"q{text}", session="s", parent=None, role=Role.USER, parts=text_parts(text), created=1)


def answer(text: str, tokens: tuple[int, ...] = (), file: str = "") -> Message:
    return Message(
        id=f"a{text}",
        session="s",
        parent=None,
        role=Role.ASSISTANT,
        parts=text_parts(text, tokens),
        created=1,
        status=Status.COMPLETE,
        model_file=file,
    )


async def test_the_gauge_counts_what_the_model_will_read() -> None:
    engine = Counting(file="this")
    told: list[ChatEvent] = []
    model = LoadedModel(lambda _reference, _wishes: engine, told.append)
    await model.load(SESSION)
    branch = [question("one"), answer("own", (1, 2), "this"), question("two"), answer("other", (1, 2), "that")]
    fill = await model.count(SESSION, [*branch, question("three"), answer("")], "four")
    assert fill is not None
    system = engine.counted[0].text
    assert fill.used == len(system) + len("one") + 20 + len("two") + len("other") + len("three") + len("four")


@dataclass
class OnGPU(ScriptedEngine):
    """Loads only where few enough layers lie on the GPU."""

    layers: int = 25
    most: int = 99

    async def ready(self, loading: Callable[[Loading], object] | None = None) -> ModelInfo:
        if self.layers > self.most:
            error = EngineDied("The engine process ended.")
            error.gpu_layers = self.layers
            raise error
        return replace(await super().ready(loading), gpu_layers=self.layers)


@dataclass
class Machine:
    """Makes engines and keeps what was asked of them."""

    most: int
    asked: list[LoadOptions] = field(default_factory=list)

    def engine(self, _reference: str, wishes: LoadOptions) -> Engine:
        self.asked.append(wishes)
        return OnGPU(layers=25 if wishes.gpu_layers is None else wishes.gpu_layers, most=self.most)


async def test_fewer_layers_are_offered_until_the_model_loads() -> None:
    machine, told = Machine(most=6), list[ChatEvent]()
    model = LoadedModel(machine.engine, told.append)
    for _time in range(2):
        with pytest.raises(EngineDied) as died:
            await model.load(SESSION)
        assert Offer.FEWER_LAYERS in model.offers(died.value)
        model.take_layers(Offer.FEWER_LAYERS, SESSION)
    await model.load(SESSION)
    assert [wishes.gpu_layers for wishes in machine.asked] == [None, 12, 6]
    assert model.is_for(SESSION)


async def test_without_a_gpu_none_is_offered() -> None:
    model = LoadedModel(lambda _reference, _wishes: ScriptedEngine(), list[ChatEvent]().append)
    await model.load(SESSION)
    assert model.offers(EngineDied("It died.")) == (Offer.AGAIN, Offer.SMALLER_CONTEXT)
    assert model.offers(CannotLoad("Too large.")) == (Offer.SMALLER_CONTEXT, Offer.OTHER_MODEL)


async def test_a_session_has_its_own_context_window() -> None:
    machine = Machine(most=99)
    model = LoadedModel(machine.engine, list[ChatEvent]().append)
    narrow = replace(SESSION, context=2048)
    await model.load(narrow)
    assert model.is_for(narrow) and not model.is_for(SESSION)
    await model.load(SESSION)
    await model.load(SESSION)
    assert [wishes.ctx for wishes in machine.asked] == [2048, None]


async def test_a_smaller_context_is_half_of_what_failed() -> None:
    model = LoadedModel(lambda _reference, _wishes: ScriptedEngine(n_ctx=4096), list[ChatEvent]().append)
    assert model.smaller_context(replace(SESSION, context=32768)) == 16384
    await model.load(SESSION)
    model.offers(EngineDied("It died."))
    assert model.smaller_context(SESSION) == 2048
