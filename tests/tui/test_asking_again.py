"""What is asked again and what is not: questions that wait, and those that another model answers."""

import pytest
from textual.widgets import Button

from qwenchat.chat.message import Status
from qwenchat.chat.ports import Engine
from qwenchat.errors import CannotLoad, Recovery, RecoveryKind
from qwenchat.runtime.load_options import LoadOptions
from qwenchat.tui.dialogs.model import ModelScreen
from tests.tui.chatting import Chatting, chatting
from tests.tui.screens import is_open, until

OTHER_MODEL = Recovery(RecoveryKind.OTHER_MODEL)
LONG = "slow " * 400


async def test_a_question_that_waits_is_not_asked_again() -> None:
    async with chatting(LONG, "Two.", delay_s=0.01) as it:
        it.write("First")
        await it.pilot.press("enter")
        await until(lambda: it.messages and it.messages[-1].status is Status.STREAMING)
        it.write("Second")
        await it.pilot.press("enter")
        await until(lambda: it.chat.context.open.view.queue.waiting)
        await it.pilot.press("ctrl+r")
        await until(lambda: any("already waiting for its answer" in said for said in it.said))
        await it.idle()
        assert it.texts == ["First", LONG, "Second", "Two."]
        assert len(it.engine.requests) == 2


def cannot_load_the_guide(it: Chatting, monkeypatch: pytest.MonkeyPatch) -> None:
    def new_engine(reference: str, _options: LoadOptions) -> Engine:
        if reference == "guide":
            raise CannotLoad("It is too large.", "Take a smaller one.", recoveries=(OTHER_MODEL,))
        return it.engine

    monkeypatch.setattr(it.chat.context.chats.model, "_new_engine", new_engine)


async def test_another_model_answers_what_failed_and_till_then_the_notice_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with chatting("One.") as it:
        cannot_load_the_guide(it, monkeypatch)
        it.write("First")
        await it.pilot.press("enter")
        await until(lambda: it.chat.query("#notice Button"))
        it.chat.query("#notice Button").last(Button).press()
        await until(lambda: is_open(it.app, ModelScreen))
        await it.pilot.press("escape")
        await until(lambda: it.app.screen is it.chat)
        assert "too large" in it.notice
        it.chat.session_actions.use_model("7b")
        await until(lambda: it.texts == ["First", "One."])
        await it.idle()
        assert it.notice == "" and len(it.engine.requests) == 1
