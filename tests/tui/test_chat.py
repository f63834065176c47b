"""Questions, answers and their variants on the whole screen, over a scripted engine."""

import pytest
from textual.widgets import Button

from qwenchat.chat.message import Message, Status
from qwenchat.chat.tree import VariantPlace
from qwenchat.errors import CannotLoad, StoreError
from qwenchat.sessions.store import Store
from qwenchat.tui.palette import ChatPalette
from tests.tui.chatting import Chatting, chatting
from tests.tui.screens import is_open, until

SLOW = 0.02


async def ask_and_stop(it: Chatting) -> None:
    """Ask for an answer of many words, and stop it once it has some."""
    it.write("Go on")
    await it.pilot.press("enter")
    await until(lambda: "word word" in it.texts[-1])
    await it.pilot.press("escape")
    await it.idle()


async def test_a_question_is_answered_and_kept() -> None:
    async with chatting("It is **blue**.") as it:
        await it.ask("What colour is the sky?")
        assert it.texts == ["What colour is the sky?", "It is **blue**."]
        assert [message.text for message in it.kept()] == it.texts
        assert it.chat.prompt.text == ""
        assert it.chat.session.title == "What colour is the sky?"


async def test_escape_stops_and_keeps_the_text() -> None:
    async with chatting("word " * 500, delay_s=SLOW) as it:
        await ask_and_stop(it)
        assert it.messages[-1].status is Status.STOPPED
        assert it.messages[-1].text == it.kept()[-1].text
        assert it.messages[-1].text.startswith("word word")


async def test_what_was_stopped_can_be_continued() -> None:
    async with chatting("word " * 500, "and the rest.", delay_s=SLOW) as it:
        await ask_and_stop(it)
        await it.do("carry_on")
        await until(lambda: it.texts and it.texts[-1].endswith("and the rest."))
        await it.idle()
        assert len(it.messages) == 2
        assert it.texts[-1].startswith("word")


async def test_what_is_carried_on_is_shown_as_it_comes() -> None:
    async with chatting("word " * 500, "more " * 500, delay_s=SLOW) as it:
        await ask_and_stop(it)
        await it.do("carry_on")
        await until(lambda: "more more" in it.texts[-1])
        assert it.messages[-1].status is Status.STREAMING
        await it.pilot.press("escape")


async def test_answering_again_makes_a_variant_and_the_arrows_go_between() -> None:
    async with chatting("First.", "Second.") as it:
        await it.ask("Q")
        await it.pilot.press("ctrl+r")
        await until(lambda: it.texts == ["Q", "Second."])
        await it.idle()
        assert it.transcript.column.layouts[1].variant == VariantPlace(2, 2, 1)
        await it.pilot.press("f6")
        await until(lambda: it.transcript.selected is not None)
        it.transcript.select(it.messages[1].id)
        await it.pilot.press("left")
        await until(lambda: it.texts == ["Q", "First."])
        assert [message.text for message in it.kept()] == ["Q", "First."]


async def test_editing_a_question_keeps_the_old_one_beside() -> None:
    async with chatting("First.", "Second.") as it:
        await it.ask("Old")
        await it.do("edit")
        await until(lambda: it.chat.prompt.text == "Old")
        await it.ask("New")
        assert it.texts == ["New", "Second."]
        assert it.transcript.column.layouts[0].variant == VariantPlace(2, 2, 2)


async def test_escape_leaves_an_edited_question_as_it_was() -> None:
    async with chatting() as it:
        await it.ask("Old")
        await it.do("edit")
        await until(lambda: it.chat.drafts.editing)
        await it.pilot.press("escape")
        assert it.chat.prompt.text == ""
        assert it.chat.drafts.editing is None


async def test_deleting_the_question_that_is_edited_ends_that() -> None:
    async with chatting() as it:
        await it.ask("A")
        await it.ask("B")
        await it.pilot.press(*"half")
        it.transcript.select(it.messages[2].id)
        await it.do("edit")
        await until(lambda: it.chat.drafts.editing)
        await it.do("delete")
        await until(lambda: it.texts == ["A", "Hello."])
        assert it.chat.drafts.editing is None
        assert it.chat.prompt.text == "half"
        it.chat.gauge.usage = None
        it.chat.counts.count_soon()
        await until(lambda: it.chat.gauge.usage)


async def test_a_selected_message_is_regenerated_quoted_and_deleted_by_mouse() -> None:
    async with chatting("First.", "Second.", size=(140, 30)) as it:
        await it.ask("Q")
        await it.click_on("First.")
        await it.click_on("answer again")
        await until(lambda: it.texts == ["Q", "Second."])
        await it.idle()
        await it.click_on("Second.")
        await it.click_on("quote")
        await until(lambda: "> Second." in it.chat.prompt.text)
        await it.click_on("…")
        await until(lambda: is_open(it.app, ChatPalette))
        await it.pilot.press("escape")
        await until(lambda: it.app.screen is it.chat)
        await it.click_on("delete")
        await until(lambda: it.texts == ["Q", "First."])


async def test_a_deleted_message_can_be_taken_back() -> None:
    async with chatting("One.", "Two.") as it:
        await it.ask("A")
        await it.ask("B")
        it.transcript.select(it.messages[2].id)
        await it.do("delete")
        await until(lambda: it.texts == ["A", "One."])
        await it.pilot.press("f8")
        await until(lambda: it.texts == ["A", "One.", "B", "Two."])


async def test_what_could_not_be_taken_back_can_be_later(monkeypatch: pytest.MonkeyPatch) -> None:
    async with chatting("One.", "Two.") as it:
        await it.ask("A")
        await it.ask("B")
        it.transcript.select(it.messages[2].id)
        await it.do("delete")
        await until(lambda: it.texts == ["A", "One."])

        def busy(message_id: str) -> None:
            raise StoreError("The database is busy.", "Try again.")

        with monkeypatch.context() as patched:
            patched.setattr(it.app.program.store.trash, "restore_message", busy)
            await it.do("undo")
            await until(lambda: any("is busy" in said for said in it.said))
        await it.do("undo")
        await until(lambda: it.texts == ["A", "One.", "B", "Two."])


async def test_a_dead_engine_keeps_the_answer_and_offers_to_go_on() -> None:
    async with chatting("one two three four", "four.", die="three") as it:
        it.write("Count")
        await it.pilot.press("enter")
        await until(lambda: it.messages and it.messages[-1].status is Status.FAILED)
        await until(
            lambda: (
                "Restart the model" in [str(button.label) for button in it.chat.query("#notice Button").results(Button)]
            )
        )
        assert it.texts[-1] == "one two "
        it.engine.die = ""
        it.chat.query("#notice Button").first(Button).press()
        await until(lambda: it.texts and it.texts[-1] == "one two four.")
        await it.idle()
        assert it.notice == ""


async def test_a_model_that_fails_to_load_leaves_the_chat_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    async with chatting("One.") as it:
        await it.ask("A")
        good = it.chat.context.chats.model._new_engine

        def fails(reference: str, wishes: object) -> object:
            raise CannotLoad("It is damaged.", "Take another.")

        monkeypatch.setattr(it.chat.context.chats.model, "_new_engine", fails)
        it.chat.session_actions.use_model("7b")
        await until(lambda: any("It is damaged." in said for said in it.said))
        assert it.chat.session.model == "guide"
        assert it.texts == ["A", "One."]
        monkeypatch.setattr(it.chat.context.chats.model, "_new_engine", good)
        await it.ask("B")
        assert it.texts[-1] == "One."


async def test_the_end_of_an_answer_that_loops_warns() -> None:
    async with chatting("the same words again. " * 30) as it:
        await it.ask("A")
        await until(lambda: "repeats itself" in it.notice)


async def test_a_chat_that_another_program_deleted_forever_is_told_of_and_ends_nothing() -> None:
    async with chatting() as it:
        await it.ask("A")
        it.app.program.store.trash.delete_forever(it.chat.session.id)
        await it.pilot.press("ctrl+r")
        await until(lambda: any("There is no session" in said for said in it.said))
        await it.do("new")
        await until(lambda: it.texts == [])
        await it.ask("B")
        assert it.texts == ["B", "Hello."]


async def test_an_answer_whose_end_could_not_be_kept_can_be_carried_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async with chatting("one " * 80, "and two", delay_s=SLOW) as it:
        full = False
        amend = Store.amend

        def refuses(store: Store, answer: Message) -> None:
            if full:
                raise StoreError("The disk is full.", "Make room.")
            amend(store, answer)

        monkeypatch.setattr(Store, "amend", refuses)
        it.write("Count")
        await it.pilot.press("enter")
        await until(lambda: it.texts and it.texts[-1].startswith("one"))
        full = True
        await until(lambda: it.messages[-1].status is Status.INTERRUPTED)
        assert it.texts[-1] == "one " * 80
        await it.idle()
        full = False
        await it.do("carry_on")
        await until(lambda: it.texts and it.texts[-1] == "one " * 80 + "and two")
        await it.idle()
        assert it.messages[-1].status is Status.COMPLETE
