"""Words that were written and not sent: whatever happens next, they are not lost."""

import signal
import sys
import threading
from typing import Any

import pytest

from qwenchat.chat.session import Session
from qwenchat.errors import StoreError
from qwenchat.runtime.program import Program
from qwenchat.sessions.store import Store
from tests.tui.chatting import Chatting, chatting
from tests.tui.screens import until


class Disk:
    """Refuses to keep labels, drafts among them, while it is full."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        label = Store.label

        def refuses(store: Store, session_id: str, **fields: Any) -> Session:
            if self.full:
                raise StoreError("The disk is full.", "Make room.")
            return label(store, session_id, **fields)

        monkeypatch.setattr(Store, "label", refuses)


def draft_of(session: str) -> str:
    program = Program.here()
    try:
        return program.store.session(session).draft
    finally:
        program.close()


async def edited(it: Chatting, *keys: str) -> None:
    """Take the selected question up, else the last one, and press keys."""
    await it.do("edit")
    await until(lambda: it.chat.prompt.has_class("editing"))
    await it.pilot.press(*keys)


async def elsewhere(it: Chatting) -> str:
    """Begin another chat and return the one before."""
    before = it.chat.session.id
    await it.pilot.press("ctrl+n")
    await until(lambda: it.chat.session.id != before)
    return before


async def test_a_draft_that_could_not_be_kept_is_kept_later(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    async with chatting() as it:
        await it.ask("A")
        session = it.chat.session.id
        disk.full = True
        await it.pilot.press(*"half", "ctrl+n")
        await until(lambda: any("disk is full" in said for said in it.said))
        assert (it.chat.session.id, it.chat.prompt.text) == (session, "half")
        disk.full = False
        await elsewhere(it)
        assert draft_of(session) == "half"


async def test_quitting_tells_once_that_the_draft_can_not_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    async with chatting() as it:
        await it.ask("A")
        disk.full = True
        await it.pilot.press(*"half", "ctrl+q")
        await until(lambda: any("disk is full" in said for said in it.said))
        assert it.app.is_running and not it.app._exit
        await it.pilot.press("!", "ctrl+q")
        await until(lambda: sum("disk is full" in said for said in it.said) == 2)
        assert not it.app._exit
        await it.pilot.press("ctrl+q")
        await until(lambda: it.app._exit)
        assert it.app._exception is None


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
async def test_a_signal_ends_the_program_though_the_draft_can_not_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    async with chatting() as it:
        await it.ask("A")
        disk.full = True
        await it.pilot.press(*"half")
        signal.raise_signal(signal.SIGTERM)
        await until(lambda: it.app._exit)
        assert it.app._exception is None


async def test_a_chat_whose_draft_was_emptied_leaves_the_list() -> None:
    async with chatting() as it:
        await it.ask("Old")
        await elsewhere(it)
        await it.pilot.press(*"half")
        listing = it.app.program.store.listing
        await until(lambda: [each.session.draft for each in listing.newest()] == ["half", ""])
        await it.pilot.press("ctrl+u")
        await until(lambda: [each.session.title for each in listing.newest()] == ["Old"])
        before = it.chat.session.id
        await it.ask("New")
        assert it.chat.session.id == before
        assert sorted(each.session.title for each in listing.newest()) == ["New", "Old"]


async def test_a_changed_question_becomes_the_draft_of_its_chat() -> None:
    async with chatting() as it:
        await it.ask("Old")
        await edited(it, "!")
        first = await elsewhere(it)
        assert it.chat.prompt.text == ""
        await it.chat.navigation.open(first)
        assert it.chat.prompt.text == "Old!"


async def test_a_changed_question_goes_before_the_draft_that_waits() -> None:
    async with chatting() as it:
        await it.ask("Old")
        await it.pilot.press(*"half")
        await edited(it, "!")
        first = await elsewhere(it)
    assert draft_of(first) == "Old!\n\nhalf"


async def test_a_changed_question_is_kept_when_the_program_ends() -> None:
    async with chatting() as it:
        await it.ask("Old")
        session = it.chat.session.id
        await edited(it, "!")
    assert draft_of(session) == "Old!"


async def test_a_changed_question_stays_while_another_is_edited_or_another_variant_is_read() -> None:
    async with chatting() as it:
        await it.ask("A")
        await it.ask("B")
        await it.do("regenerate")
        await it.idle()
        it.transcript.select(it.messages[0].id)
        await edited(it, "1")
        it.transcript.select(it.messages[2].id)
        await it.do("edit")
        await until(lambda: it.chat.prompt.text == "B")
        await it.pilot.press("2")
        it.transcript.select(None)
        await it.do("edit")
        assert it.chat.prompt.text == "B2"
        await it.pilot.press("escape")
        assert it.chat.prompt.text == "A1"
        await it.pilot.press("ctrl+home", "up")
        assert it.chat.prompt.text == "B2"


async def test_a_changed_question_whose_branch_is_left_becomes_the_draft() -> None:
    async with chatting() as it:
        await it.ask("A")
        await edited(it, "2")
        await it.ask("A2")
        await edited(it, "3")
        it.transcript.post_message(it.transcript.VariantChosen(it.transcript, it.messages[0], -1))
        await until(lambda: it.texts[0] == "A")
        assert it.chat.prompt.text == "A23"
        assert it.chat.drafts.editing is None


async def test_a_draft_waits_while_an_earlier_question_is_shown() -> None:
    async with chatting() as it:
        await it.ask("Old")
        await it.pilot.press(*"half", "up")
        assert it.chat.prompt.text == "Old"
        await it.chat.drafts.save()
        assert draft_of(it.chat.session.id) == "half"
        first = await elsewhere(it)
        await it.chat.navigation.open(first)
        assert it.chat.prompt.text == "half"
        await it.pilot.press("ctrl+home", "up", "enter")
        await until(lambda: it.texts[2:] == ["Old", "Hello."])
        assert it.chat.prompt.text == "half"
        await it.pilot.press("ctrl+home", "up", "!")
        await it.chat.drafts.save()
    assert draft_of(first) == "Old!\n\nhalf"


async def test_keys_that_come_while_another_chat_is_snapshot_stay_with_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, go_on = threading.Event(), threading.Event()
    async with chatting() as it:
        await it.ask("A")
        first = await elsewhere(it)
        await it.ask("B")
        second, sessions = it.chat.session.id, it.chat.context.chats.sessions
        opened = sessions._snapshot

        def slowly(session_id: str) -> object:
            if session_id == first:
                reading.set()
                assert go_on.wait(10)
            return opened(session_id)

        monkeypatch.setattr(sessions, "_snapshot", slowly)
        await it.pilot.press(*"ha")
        it.chat.context.run(it.chat.navigation.open(first), "open", exclusive=True)
        await until(reading.is_set)
        await it.pilot.press(*"lf")
        go_on.set()
        await until(lambda: it.chat.session.id == first)
        assert it.chat.prompt.text == ""
        await it.chat.navigation.open(second)
        assert it.chat.prompt.text == "half"
