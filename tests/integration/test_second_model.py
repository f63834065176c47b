"""A question that a second model answers too: one model in memory, and the session's own for all that follows."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from qwenchat.chat.message import Message, Role, Status
from qwenchat.chat.ports import Engine
from qwenchat.errors import CannotLoad, Recovery, RecoveryKind
from qwenchat.runtime.chat_service import ChatService
from qwenchat.runtime.events import ChatEvent, QueueChanged, TurnFailed
from qwenchat.runtime.load_options import LoadOptions
from qwenchat.runtime.program import Program
from tests.fakes.scripted import ScriptedEngine
from tests.tui.screens import until


class Engines:
    """Makes an engine for each model that is asked for; `too_large` can't be loaded."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def new(self, reference: str, _options: LoadOptions) -> Engine:
        if reference == "too_large":
            recovery = Recovery(RecoveryKind.SMALLER_CONTEXT, 2048)
            raise CannotLoad("It does not fit.", "Take a smaller context.", recoveries=(recovery,))
        self.made.append(reference)
        return ScriptedEngine((f"By {reference}.",), reference=reference, file=reference * 8)


@pytest.fixture
def program(home: Path) -> Iterator[Program]:
    program = Program.here()
    yield program
    program.close()


def answers(program: Program, question: Message) -> list[tuple[str, str, Status]]:
    children = program.store.tree(question.session).children(question.id)
    return [(each.model, each.text, each.status) for each in children if each.role is Role.ASSISTANT]


async def test_a_second_model_answers_once_and_the_sessions_own_is_loaded_again(program: Program) -> None:
    engines, told = Engines(), list[ChatEvent]()
    chats = ChatService(program, told.append, engines.new)
    session = chats.sessions.new("guide").id
    question = await chats.send(session, "Why?")
    await until(lambda: told[-1:] == [QueueChanged("", ())])
    chats.regenerate(question, model="7b")
    await until(lambda: len(answers(program, question)) == 2 and told[-1] == QueueChanged("", ()))
    assert answers(program, question) == [
        ("guide", "By guide.", Status.COMPLETE),
        ("7b", "By 7b.", Status.COMPLETE),
    ]
    assert program.store.session(session).model == "guide"
    later = await chats.send(session, "And?")
    await until(lambda: answers(program, later) == [("guide", "By guide.", Status.COMPLETE)])
    assert engines.made == ["guide", "7b", "guide"]
    await chats.close()


async def test_a_second_model_that_does_not_load_changes_nothing_and_offers_nothing_about_the_first(
    program: Program,
) -> None:
    engines, told = Engines(), list[ChatEvent]()
    chats = ChatService(program, told.append, engines.new)
    session = chats.sessions.new("guide").id
    question = await chats.send(session, "Why?")
    await until(lambda: told[-1:] == [QueueChanged("", ())])
    chats.regenerate(question, model="too_large")
    await until(lambda: any(isinstance(event, TurnFailed) for event in told) and told[-1] == QueueChanged("", ()))
    assert [event.recoveries for event in told if isinstance(event, TurnFailed)] == [()]
    assert answers(program, question) == [("guide", "By guide.", Status.COMPLETE)]
    await chats.send(session, "And?")
    await until(lambda: engines.made == ["guide", "guide"] and told[-1] == QueueChanged("", ()))
    await chats.close()
