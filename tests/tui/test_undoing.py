"""Deletions are taken back after the program ended too."""

from functools import partial

from qwenchat.tui.app import Start
from tests.tui.chatting import Chatting, chatting
from tests.tui.screens import until


def counts(it: Chatting, messages: int) -> bool:
    return len(it.messages) == messages


def says(it: Chatting, words: str) -> bool:
    return words in " ".join(it.said)


async def test_messages_that_an_earlier_run_deleted_come_back_the_last_one_first() -> None:
    async with chatting("One.", "Two.") as it:
        await it.ask("A")
        await it.ask("B")
        session = it.chat.session.id
        for left in (3, 2):
            it.transcript.select(it.messages[left].id)
            await it.do("delete")
            await until(partial(counts, it, left))
    async with chatting(start=Start(model="guide", session=session)) as it:
        await until(lambda: it.texts == ["A", "One."])
        for messages in (3, 4):
            await it.pilot.press("f8")
            await until(partial(counts, it, messages))
            await until(partial(says, it, "Message restored."))
            it.app.clear_notifications()
        assert it.texts == ["A", "One.", "B", "Two."]
        await it.pilot.press("f8")
        await until(partial(says, it, "Nothing to undo."))


async def test_the_chat_that_an_earlier_run_trashed_last_comes_back() -> None:
    async with chatting() as it:
        for title in ("First", "Second"):
            await it.ask(title)
            await it.do("trash")
            await until(partial(says, it, "Moved to trash."))
            it.app.clear_notifications()
    async with chatting() as it:
        for title in ("Second", "First"):
            await it.pilot.press("f8")
            await until(partial(says, it, f'Restored "{title}".'))
        assert len(it.app.program.store.listing.newest()) == 2
