"""Several chats: the list of them, searching, going from one to another while an answer comes."""

import asyncio
from pathlib import Path

import pytest
from textual.widgets import Input

from qwenchat.chat.message import Message, Role, Status, text_parts
from qwenchat.chat.session import Session
from qwenchat.errors import StoreError
from qwenchat.runtime.program import Program
from qwenchat.tui.actions import Where
from tests.tui.chatting import Chatting, chatting, kept_session
from tests.tui.screens import until

SLOW = 0.02


async def busy_elsewhere(it: Chatting, text: str) -> str:
    """Ask a question whose slow answer streams on in its chat, which is returned, and open another chat."""
    it.write(text)
    await it.pilot.press("enter")
    await until(lambda: "slow" in it.texts[-1])
    asked = it.chat.session.id
    await it.pilot.press("ctrl+n")
    await until(lambda: it.chat.session.id != asked)
    return asked


async def test_another_chat_is_no_place_to_edit_the_question() -> None:
    async with chatting() as it:
        await it.ask("Old")
        first = it.chat.session.id
        await it.pilot.press(*"half")
        await it.do("edit")
        await until(lambda: it.chat.drafts.editing)
        await it.pilot.press("ctrl+n")
        await until(lambda: it.chat.session.id != first)
        assert it.chat.drafts.editing is None
        assert not it.chat.prompt.has_class("editing")
        assert it.chat.prompt.text == ""
        await until(lambda: it.chat.gauge.usage)  # counted without the question
        await it.chat.navigation.open(first)
        assert it.chat.prompt.text == "half"


async def test_other_chats_wait_their_turn_and_typing_stays_possible() -> None:
    async with chatting("slow " * 100, "Quick.", delay_s=SLOW) as it:
        first = await busy_elsewhere(it, "First")
        it.write("Second")
        await it.pilot.press("enter")
        await until(lambda: "Waiting for" in it.notice)
        await it.pilot.press(*"typed")
        assert it.chat.prompt.text == "typed"
        await it.chat.context.chats.stop(first)
        await until(lambda: it.texts == ["Second", "Quick."])
        await it.idle()
        await it.chat.navigation.open(first)
        assert it.texts[0] == "First"
        assert it.messages[1].status is Status.STOPPED


async def test_a_question_that_waits_follows_the_answer_to_the_one_before() -> None:
    async with chatting("slow " * 100, "A1.", "A2.", delay_s=SLOW) as it:
        elsewhere = await busy_elsewhere(it, "Elsewhere")
        it.write("First")
        await it.pilot.press("enter")
        await until(lambda: it.texts == ["First"])
        it.write("Second")
        await it.pilot.press("enter")
        await until(lambda: it.texts == ["First", "Second"])
        assert [message.text for message in it.kept()] == it.texts
        await it.chat.context.chats.stop(elsewhere)
        await until(lambda: it.texts == ["First", "A1.", "Second", "A2."])
        await it.idle()
        assert [message.text for message in it.kept()] == it.texts
        assert [turn.text for turn in it.engine.requests[-1].turns] == ["First", "A1.", "Second"]


async def test_coming_back_in_mid_answer_misses_nothing() -> None:
    words = " ".join(f"w{number}" for number in range(120))
    async with chatting(words, delay_s=0.01) as it:
        it.write("Count")
        await it.pilot.press("enter")
        await until(lambda: "w5" in it.texts[-1])
        first = it.chat.session.id
        await it.chat.navigation.open(it.chat.context.chats.sessions.new().id)
        await it.chat.navigation.open(first)
        await until(lambda: "w40 " in it.texts[-1])
        assert words.startswith(it.texts[-1])
        await it.idle()
        assert it.texts[-1] == words


async def test_a_private_chat_is_written_nowhere(home: Path) -> None:
    async with chatting("Secret answer.") as it:
        await it.pilot.press("f7")
        await until(lambda: it.chat.context.chats.sessions.is_private(it.chat.session.id))
        assert "PRIVATE" in str(it.chat.query_one("#header").render())
        await it.ask("Very secret question")
        it.write("a secret draft")
        await it.chat.drafts.save()
        assert it.app.program.store.listing.count() == 0
    found = [file for file in home.rglob("*") if file.is_file() and b"secret" in file.read_bytes().lower()]
    assert found == []


@pytest.mark.parametrize("waits", ["variant", "branches", "change", "load"])
async def test_what_ends_after_the_chat_was_left_does_not_bring_it_back(
    waits: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with chatting("One.", "Two.") as it:
        await it.ask("A")
        await it.ask("B")
        first, go, waiting = it.chat.session.id, asyncio.Event(), asyncio.Event()
        owner = it.chat.context.chats.model if waits == "load" else it.chat.context.chats.sessions
        real = getattr(owner, waits)

        async def held(*given: object, **fields: object) -> object:
            result = await real(*given, **fields)
            waiting.set()
            await go.wait()
            return result

        monkeypatch.setattr(owner, waits, held)
        message = it.messages[1]
        it.transcript.select(message.id)
        match waits:
            case "variant":
                it.transcript.post_message(it.transcript.VariantChosen(it.transcript, message, 1))
            case "branches":
                await it.do("branches")
            case "change":
                it.write("/set temperature 0.2")
                await it.pilot.press("enter")
            case "load":
                it.chat.session_actions.use_model("guide")
        await waiting.wait()
        await it.pilot.press("ctrl+n")
        await until(lambda: it.chat.session.id != first)
        second = it.chat.session.id
        go.set()
        await until(lambda: not [worker for worker in it.app.workers if worker.group in ("doing", "load")])
        assert it.chat.session.id == second
        assert it.texts == []
        assert "New chat" in str(it.chat.query_one("#header").render())


async def test_the_end_of_an_answer_does_not_bring_a_chat_back_that_was_left(monkeypatch: pytest.MonkeyPatch) -> None:
    async with chatting("word " * 30, delay_s=SLOW) as it:
        it.write("A")
        await it.pilot.press("enter")
        await until(lambda: "word" in it.texts[-1] and it.chat.session.title)
        first, go, waiting = it.chat.session.id, asyncio.Event(), asyncio.Event()
        real = it.chat.context.chats.sessions.labels

        async def held(session_id: str) -> Session:
            if session_id == first:
                waiting.set()
                await go.wait()
            return await real(session_id)

        monkeypatch.setattr(it.chat.context.chats.sessions, "labels", held)
        await waiting.wait()
        second = it.chat.context.chats.sessions.new("guide").id
        it.chat.context.run(it.chat.navigation.open(second))
        await until(lambda: it.chat.session.id == second)
        go.set()
        await it.idle()
        assert it.chat.session.id == second
        assert it.texts == []


async def test_what_failed_is_told_in_its_chat_until_it_is_tried_again() -> None:
    async with chatting("slow " * 20 + "die", "One.", "Two.", die="die", delay_s=SLOW) as it:
        first = await busy_elsewhere(it, "First")
        await until(lambda: any("engine process ended" in said for said in it.said))
        assert not it.chat.query("#notice-words")
        for _time in range(2):
            await it.chat.navigation.open(first)
            assert "engine process ended" in it.notice
            assert it.chat.query("#notice Button")
            await it.chat.navigation.open(it.chat.context.chats.sessions.new("guide").id)
            assert it.notice == ""
        await it.chat.navigation.open(first)
        await it.pilot.press("ctrl+r")
        await until(lambda: it.texts == ["First", "One."])
        await it.idle()
        assert it.notice == ""
        assert not it.chat.query("#notice Button")


async def test_an_error_without_offers_stays_until_the_next_question() -> None:
    async with chatting("Fine.", n_ctx=600) as it:
        it.write("x" * 2000)
        await it.pilot.press("enter")
        await until(lambda: it.notice.startswith("✗"))
        await it.idle()
        assert it.notice.startswith("✗")
        assert it.messages == [] and it.chat.prompt.area.text == "x" * 2000
        await it.ask("short")
        assert it.notice == ""


async def test_search_finds_text_and_jumps_to_the_message() -> None:
    program = Program.here()
    other = kept_session(program, "Animals")
    asked = Message(
        id="q1",
        session=other.id,
        parent=None,
        role=Role.USER,
        parts=text_parts("What does a pangolin eat? 我爱北京"),
        created=5,
    )
    program.store.add(
        asked,
        Message(id="a1", session=other.id, parent="q1", role=Role.ASSISTANT, parts=text_parts("Ants."), created=6),
    )
    program.close()
    async with chatting() as it:
        await it.pilot.press("f4", *"pangolin")
        await until(
            lambda: it.chat.sidebar.list.option_count and it.chat.sidebar.list.options[0].id == f"{other.id} q1"
        )
        await it.pilot.press("enter")
        await until(lambda: it.transcript.selected is not None)
        assert it.transcript.selected and it.transcript.selected.id == "q1"
        assert it.chat.focusing.place is Where.PROMPT


async def test_a_hit_whose_message_was_deleted_opens_its_chat() -> None:
    program = Program.here()
    other = kept_session(program, "Animals")
    asked = Message(
        id="q1", session=other.id, parent=None, role=Role.USER, parts=text_parts("What does a pangolin eat?"), created=5
    )
    more = Message(
        id="q2", session=other.id, parent="a1", role=Role.USER, parts=text_parts("And a pangolin's child?"), created=7
    )
    program.store.add(
        asked,
        Message(id="a1", session=other.id, parent="q1", role=Role.ASSISTANT, parts=text_parts("Ants."), created=6),
        more,
    )
    program.close()
    async with chatting() as it:
        listed = it.chat.sidebar.list
        await it.pilot.press("f4", *"pangolin")
        await until(lambda: {option.id for option in listed.options} == {f"{other.id} q1", f"{other.id} q2"})
        it.app.program.store.trash.remove_message("q2")
        it.chat.sidebar.post_message(it.chat.sidebar.SessionChosen(other.id, "q2"))
        await until(lambda: it.texts == ["What does a pangolin eat?", "Ants."])
        await until(lambda: [option.id for option in listed.options] == [f"{other.id} q1"])
        it.transcript.select("q1")
        await it.do("delete")
        await until(lambda: not any(option.id for option in listed.options))


async def test_a_hit_that_no_page_has_shown_is_what_an_action_means() -> None:
    program = Program.here()
    with program.store.transaction():
        first = kept_session(program, "Animals")
        program.store.add(
            Message(
                id="q1",
                session=first.id,
                parent=None,
                role=Role.USER,
                parts=text_parts("What does a pangolin eat?"),
                created=5,
            )
        )
        for number in range(150):
            kept_session(program, f"Chat {number}")
    program.close()
    async with chatting() as it:
        await it.ask("Open here")
        await it.pilot.press("f4", *"pangolin")
        await until(lambda: [option.id for option in it.chat.sidebar.list.options] == [f"{first.id} q1"])
        it.chat.set_focus(it.chat.sidebar.list)
        await it.do("trash")
        await until(lambda: it.app.program.store.session(first.id).trashed)
        assert it.app.program.store.session(it.chat.session.id).trashed is None


async def test_the_list_is_marked_while_it_still_shows_what_a_search_found() -> None:
    program = Program.here()
    session = kept_session(program, "Animals").id
    program.store.add(
        Message(
            id="q1",
            session=session,
            parent=None,
            role=Role.USER,
            parts=text_parts("What does a pangolin eat?"),
            created=5,
        )
    )
    program.close()
    async with chatting() as it:
        sidebar = it.chat.sidebar
        await until(lambda: any(option.id == session for option in sidebar.list.options))
        await it.pilot.press("f4", *"pangolin")
        await until(lambda: [option.id for option in sidebar.list.options] == [f"{session} q1"])
        sidebar.query_one(Input).value = ""
        sidebar.mark(session, (session,))  # as when an answer begins before the list is read anew
        await until(lambda: any(option.id == session for option in sidebar.list.options))
        assert "✎" in str(sidebar.list.get_option(session).prompt)


async def test_a_list_that_cannot_be_read_is_told_and_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    async with chatting() as it:
        await it.ask("Open here")
        sidebar = it.chat.sidebar
        await until(lambda: sidebar.list.option_count > 1)
        before = [option.id for option in sidebar.list.options]

        def broken(*_what: object) -> None:
            raise StoreError("The disk is gone.", "Put it back.")

        monkeypatch.setattr(sidebar, "_newest", broken)
        monkeypatch.setattr(sidebar, "_find", broken)
        sidebar.reload()
        await until(lambda: len(it.said) == 1)
        await it.pilot.press("f4", *"pangolin")
        await until(lambda: len(it.said) > 1)
        assert all("The disk is gone." in said for said in it.said)
        assert [option.id for option in sidebar.list.options] == before


async def test_the_sidebar_groups_pins_and_pages() -> None:
    program = Program.here()
    with program.store.transaction():
        for number in range(350):
            kept_session(program, f"Chat {number}", pinned=number == 7)
    program.close()
    async with chatting() as it:
        view = it.chat.sidebar.list
        await until(lambda: view.option_count > 50)
        assert [str(option.prompt).strip() for option in list(view.options)[:3]] == ["Pinned", "Chat 7", "Today"]
        assert view.option_count < 150
        view.focus()
        await it.pilot.press(*["G"] * 2)
        await until(lambda: view.option_count > 150)


async def test_a_chat_goes_to_the_trash_and_comes_back() -> None:
    async with chatting() as it:
        await it.ask("A")
        session = it.chat.session.id
        await it.do("trash")
        await until(lambda: it.chat.session.id != session)
        assert it.app.program.store.session(session).trashed
        await it.do("undo")
        await until(lambda: it.app.program.store.session(session).trashed is None)


async def test_a_chat_gets_another_title() -> None:
    async with chatting() as it:
        await it.ask("A")
        await it.do("rename")
        await until(lambda: it.app.screen is not it.chat)
        await it.pilot.press(*"BC", "enter")
        await until(lambda: it.chat.session.title != "A")
        assert "BC" in it.app.program.store.session(it.chat.session.id).title


async def test_the_model_finds_a_title_once_it_has_nothing_else_to_do() -> None:
    async with chatting("Washing rice") as it:
        await it.do("suggest_title")
        await until(lambda: "This chat has no question yet" in " ".join(it.said))
        await it.ask("How often must rice be washed?")
        await it.do("suggest_title")
        await until(lambda: it.chat.session.title == "Washing rice")
        assert it.app.program.store.session(it.chat.session.id).title == "Washing rice"
        assert [message.text for message in it.kept()] == ["How often must rice be washed?", "Washing rice"]
