"""Questions that wait: they say so, can be taken back, and go on when the user says so or a model is chosen."""

from functools import partial

import pytest
from textual.widgets import Button

from qwenchat.chat.message import Status
from qwenchat.runtime import session_access
from qwenchat.tui.app import Start
from qwenchat.tui.dialogs.model import WelcomeScreen
from tests.tui.chatting import Chatting, chatting
from tests.tui.screens import is_open, until

LONG = "slow " * 400


def rows(it: Chatting) -> list[str]:
    view = it.transcript
    return [view.render_line(y).text.strip() for y in range(view.size.height)]


def shows(it: Chatting, words: str) -> bool:
    return words in " ".join(rows(it))


def begins_with(it: Chatting, words: str) -> bool:
    return it.chat.prompt.text.startswith(words)


async def queued(it: Chatting) -> None:
    """Ask three questions at once; the first is being answered."""
    for number, text in enumerate(("First", "Second", "Third")):
        it.write(text)
        await it.pilot.press("enter")
        if not number:
            await until(lambda: it.messages and it.messages[-1].status is Status.STREAMING)
    await until(lambda: len(it.chat.context.open.view.waiting.places) == 2)
    await until(lambda: shows(it, "number 2 in the queue"))


async def test_a_queued_question_has_its_place_and_is_taken_back_into_the_prompt() -> None:
    async with chatting(LONG, "Two.", delay_s=0.01) as it:
        await queued(it)
        assert shows(it, "… waiting, number 1 in the queue take back") or shows(it, "number 1 in the queue  take back")
        it.write("draft")
        it.transcript.select(it.messages[-2].id)
        await it.do("withdraw")
        await until(lambda: it.chat.prompt.text == "Second\ndraft" or it.chat.prompt.text.startswith("Second"))
        assert "draft" in it.chat.prompt.text
        await until(lambda: it.texts[2:] == ["Third"] and shows(it, "number 1 in the queue"))
        await it.do("edit")
        await until(lambda: it.chat.prompt.text.startswith("Third"))
        await until(lambda: len(it.texts) == 2)
        assert it.app.program.store.waiting(it.chat.session.id) == []
        await it.pilot.press("escape")


@pytest.mark.parametrize("how", ["key", "button", "click"])
async def test_a_stopped_queue_offers_to_ask_it(how: str) -> None:
    async with chatting(LONG, "Two.", "Three.", delay_s=0.01) as it:
        await queued(it)
        await it.pilot.press("escape")
        await until(lambda: it.messages[1].status is Status.STOPPED and it.chat.query("#notice Button"))
        assert "2 questions are waiting to be asked." in it.notice
        assert shows(it, "■ Not asked: the queue was stopped")
        assert [message.text for message in it.kept()][2:] == ["Second", "Third"]
        if how == "key":
            await it.pilot.press("ctrl+r")
        elif how == "button":
            it.chat.query("#notice Button").first(Button).press()
        else:
            await it.click_on("ask  take back")
        await until(lambda: it.texts[2:] == ["Second", "Two.", "Third", "Three."])
        await it.idle()
        assert not it.notice and not shows(it, "Not asked")


async def test_a_stopped_queue_is_taken_back_from_the_last_one_on() -> None:
    async with chatting(LONG, delay_s=0.01) as it:
        await queued(it)
        await it.pilot.press("escape")
        for begins in ("Third", "Second"):
            await until(lambda: it.chat.query("#notice Button"))
            it.chat.query("#notice Button").last(Button).press()
            await until(partial(begins_with, it, begins))
        assert it.chat.prompt.text.split() == ["Second", "Third"]
        await until(lambda: "wait" not in it.notice)


async def test_a_question_without_a_model_stays_in_view_and_is_sent_once_one_is_chosen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_access, "opening_model", lambda _program: "")
    async with chatting("Answer.", start=Start()) as it:
        await until(lambda: is_open(it.app, WelcomeScreen))
        await it.pilot.press("escape")
        await until(lambda: it.app.screen is it.chat)
        it.write("Question")
        await it.pilot.press("enter")
        await until(lambda: is_open(it.app, WelcomeScreen))
        await it.pilot.press("escape")
        await until(lambda: it.app.screen is it.chat and it.texts == ["Question"])
        await until(lambda: shows(it, "… waiting for a model") and "as soon as you choose a model" in it.notice)
        assert it.chat.prompt.text == ""
        assert [message.text for message in it.kept()] == ["Question"]
        it.chat.session_actions.use_model("guide")
        await until(lambda: it.texts == ["Question", "Answer."])
        await it.idle()
        assert not it.notice and not shows(it, "waiting for a model")


async def test_a_question_that_nobody_answered_says_so_and_can_be_answered() -> None:
    async with chatting("Answer.") as it:
        store, chats = it.app.program.store, it.chat.context.chats
        await it.ask("First")
        session = it.chat.session.id
        waiting = await chats.send(session, "Second")
        await until(lambda: len(it.engine.requests) == 2 and not chats.running)
        answer = store.branch(store.session(session).leaf)[-1]
        store.trash.remove_message(answer.id)
        await it.chat.context.open.reload()
        assert it.messages[-1].id == waiting.id
        await until(lambda: shows(it, "■ Not answered"))
        await it.click_on("answer now")
        await until(lambda: it.texts[2:] == ["Second", "Answer."])
        await it.idle()
        assert not shows(it, "Not answered")
