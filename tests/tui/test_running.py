"""The running side without a screen: what is counted, and what is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from qwenchat.chat.conversation import Message, Role, Session, Status
from qwenchat.chat.prompt import Turn
from qwenchat.chat.scripted import ScriptedEngine
from qwenchat.tui.running.model import LoadedModel
from qwenchat.tui.running.told import ChatEvent

SESSION = Session("s", 1, 1, model="guide")


@dataclass
class Counting(ScriptedEngine):
    """Keeps what it counted; a token that was sampled counts ten times a letter."""

    counted: list[Turn] = field(default_factory=list)

    async def count(self, turns: Sequence[Turn]) -> list[int]:
        self.counted += turns
        return [10 * len(turn.token_ids) or len(turn.text) for turn in turns]


def question(text: str) -> Message:
    return Message(f"q{text}", "s", None, Role.USER, text, 1)


def answer(text: str, tokens: tuple[int, ...] = (), file: str = "") -> Message:
    return Message(f"a{text}", "s", None, Role.ASSISTANT, text, 1, Status.COMPLETE, model_file=file, token_ids=tokens)


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
