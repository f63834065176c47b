"""The one loaded model: what is counted with it, and how it is loaded again after a failure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from msgspec.structs import replace

from qwenchat.chat.events import LoadEvent
from qwenchat.chat.message import Message, Role, Status, text_parts
from qwenchat.chat.ports import Engine, Mode, ModelInfo, TokenCounts
from qwenchat.chat.prompt import Turn
from qwenchat.chat.session import Session
from qwenchat.chat.tools import ToolSpec
from qwenchat.errors import EngineDied, NotFound, Recovery, RecoveryKind
from qwenchat.runtime.events import ChatEvent
from qwenchat.runtime.load_options import LoadOptions
from qwenchat.runtime.model_manager import ModelManager
from tests.fakes.scripted import ScriptedEngine

SESSION = Session(id="s", created=1, updated=1, model="guide", system="Be brief.")


@dataclass
class Counting(ScriptedEngine):
    """Keeps what it counted; a token that was sampled counts ten times a letter."""

    counted: list[Turn] = field(default_factory=list)

    async def count(self, turns: Sequence[Turn], mode: Mode = Mode.ANSWER) -> TokenCounts:
        self.counted += turns
        return TokenCounts(values=tuple(10 * len(turn.token_ids) or len(turn.text) for turn in turns))


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


async def anywhere(_session: Session) -> bool:
    return True


async def no_tools(_session: Session) -> tuple[ToolSpec, ...]:
    return ()


async def test_the_gauge_counts_what_the_model_will_read() -> None:
    engine = Counting(file="this")
    told: list[ChatEvent] = []
    model = ModelManager(lambda _reference, _options: engine, told.append, anywhere, no_tools)
    await model.load(SESSION)
    branch = [question("one"), answer("own", (1, 2), "this"), question("two"), answer("other", (1, 2), "that")]
    plan = await model.plan(SESSION, [*branch, question("three"), answer("")], "four")
    assert plan is not None
    system = SESSION.system
    assert plan.used == len(system) + len("one") + 20 + len("two") + len("other") + len("three") + len("four")


@dataclass
class OnGPU(ScriptedEngine):
    """Loads only where few enough layers lie on the GPU."""

    layers: int = 25
    most: int = 99

    async def load(self, progress: Callable[[LoadEvent], object] | None = None) -> ModelInfo:
        if self.layers > self.most:
            fewer = Recovery(RecoveryKind.FEWER_LAYERS, self.layers // 2)
            raise EngineDied("The engine process ended.", recoveries=(fewer,))
        return await super().load(progress)


@dataclass
class Engines:
    """Makes engines and remembers what was asked of them."""

    most: int
    asked: list[LoadOptions] = field(default_factory=list)

    def engine(self, _reference: str, wishes: LoadOptions) -> Engine:
        self.asked.append(wishes)
        return OnGPU(layers=25 if wishes.gpu_layers is None else wishes.gpu_layers, most=self.most)


async def test_fewer_layers_are_offered_until_the_model_loads() -> None:
    engines, told = Engines(most=6), list[ChatEvent]()
    model = ModelManager(engines.engine, told.append, anywhere, no_tools)
    for _time in range(2):
        with pytest.raises(EngineDied) as died:
            await model.load(SESSION)
        [fewer] = model.recoveries(died.value)
        model.limit_layers(SESSION, fewer.value)
    await model.load(SESSION)
    assert [wishes.gpu_layers for wishes in engines.asked] == [None, 12, 6]
    assert model.is_for(SESSION)


async def test_another_model_is_offered_where_one_is_not_found() -> None:
    model = ModelManager(lambda _reference, _options: ScriptedEngine(), list[ChatEvent]().append, anywhere, no_tools)
    with pytest.raises(NotFound) as missing:
        await model.load(replace(SESSION, model=""))
    assert model.recoveries(missing.value) == (Recovery(RecoveryKind.OTHER_MODEL),)


async def test_a_session_has_its_own_context_window() -> None:
    engines = Engines(most=99)
    model = ModelManager(engines.engine, list[ChatEvent]().append, anywhere, no_tools)
    narrow = replace(SESSION, context=2048)
    await model.load(narrow)
    assert model.is_for(narrow) and not model.is_for(SESSION)
    await model.load(SESSION)
    await model.load(SESSION)
    assert [wishes.ctx for wishes in engines.asked] == [2048, None]


async def test_a_model_is_loaded_without_peers_once_that_was_chosen() -> None:
    engines = Engines(most=99)
    model = ModelManager(engines.engine, list[ChatEvent]().append, anywhere, no_tools)
    for avoid in (False, True):
        if avoid:
            model.avoid_peers(SESSION)
        await model.load(SESSION)
    assert [wishes.with_peers for wishes in engines.asked] == [True, False]
