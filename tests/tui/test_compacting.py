"""The screen summarises the oldest messages: on demand, with progress, as a folded block beside the old branch."""

from qwenchat.chat.message import Message
from tests.tui.chatting import Chatting, chatting
from tests.tui.screens import until

ANSWER = "word " * 120
SUMMARY = "They counted words."


ANSWERS = (ANSWER, ANSWER, ANSWER, ANSWER, SUMMARY)


async def four_turns(chat: Chatting) -> list[Message]:
    """Ask until the chat takes more than half of the window."""
    for number in range(4):
        await chat.ask(f"Question {number}?")
    return chat.messages


async def command(chat: Chatting, typed: str) -> None:
    chat.write(typed)
    await chat.pilot.press("enter")


async def compact(chat: Chatting) -> None:
    await command(chat, "/compact")
    await until(lambda: chat.texts[0] == SUMMARY)


def drawn(chat: Chatting) -> str:
    """What the whole transcript shows, from the first message on."""
    column = chat.transcript.column
    lines = [line for index in range(len(column.layouts)) for line in column.lines(index)]
    return "\n".join("".join(segment.text for segment in line.segments) for line in lines)


async def test_a_summary_is_a_folded_block_that_unfolds_and_the_old_branch_comes_back() -> None:
    async with chatting(*ANSWERS, n_ctx=4096) as chat:
        old = await four_turns(chat)
        await compact(chat)
        assert [each.text for each in chat.messages[1:]] == [each.text for each in old[4:]]
        assert "Summary of 4 earlier messages" in drawn(chat) and SUMMARY not in drawn(chat)
        chat.transcript.select(chat.messages[0].id)
        chat.transcript.action_unfold_message()
        assert SUMMARY in drawn(chat)
        await chat.do("original")
        await until(lambda: len(chat.messages) == len(old))
        assert chat.messages == old
        await chat.do("undo")
        await until(lambda: chat.texts[0] == SUMMARY)
        await chat.do("undo")
        await until(lambda: chat.messages == old)


async def test_a_search_in_the_chat_unfolds_the_summary_that_has_the_words() -> None:
    async with chatting(*ANSWERS, n_ctx=4096) as chat:
        await four_turns(chat)
        await compact(chat)
        await command(chat, "/find counted")
        await until(lambda: SUMMARY in drawn(chat))


async def test_an_edited_summary_is_a_variant_and_the_model_is_not_asked() -> None:
    async with chatting(*ANSWERS, n_ctx=4096) as chat:
        await four_turns(chat)
        await compact(chat)
        asked, after = len(chat.engine.requests), chat.texts[1:]
        chat.transcript.select(chat.messages[0].id)
        await chat.do("edit")
        await until(lambda: chat.chat.prompt.text == SUMMARY)
        chat.write("They counted nothing.")
        await chat.pilot.press("enter")
        await until(lambda: chat.texts[0] == "They counted nothing.")
        assert chat.texts[1:] == after and len(chat.engine.requests) == asked
        assert chat.chat.context.open.view.variants[chat.messages[0].id].count == 3


async def test_a_summary_is_made_again() -> None:
    async with chatting(*ANSWERS, n_ctx=4096) as chat:
        await four_turns(chat)
        await compact(chat)
        chat.engine.answers = ["They said words."]
        chat.transcript.select(chat.messages[0].id)
        await chat.do("regenerate")
        await until(lambda: chat.texts[0] == "They said words.")


async def test_progress_is_shown_and_escape_stops_it() -> None:
    async with chatting(*ANSWERS[:4], "word " * 1000, n_ctx=4096) as chat:
        old = await four_turns(chat)
        chat.engine.delay_s = 0.01
        await chat.do("compact")
        await until(lambda: "summarising 4 messages" in chat.chat.context.open.view.activity)
        assert chat.chat.context.open.view.progress is not None
        await chat.pilot.press("escape")
        await chat.idle()
        assert chat.messages == old and not chat.chat.context.open.view.activity


async def test_a_chat_that_fits_says_so() -> None:
    async with chatting("Yes.") as chat:
        await chat.ask("Here?")
        await chat.do("compact")
        await until(lambda: any("nothing to summarise" in said for said in chat.said))


async def test_the_line_that_marks_what_is_trimmed_offers_a_summary() -> None:
    async with chatting(*ANSWERS, n_ctx=4096) as chat:
        await four_turns(chat)
        for number in range(4, 9):
            chat.engine.answers = [ANSWER]
            await chat.ask(f"Question {number}?")
        await until(lambda: "the model no longer sees the messages above · /compact" in drawn(chat))


async def test_the_original_is_offered_for_summaries_alone() -> None:
    async with chatting(*ANSWERS, n_ctx=4096) as chat:
        await four_turns(chat)
        await chat.do("original")
        await until(lambda: any("not a summary" in said for said in chat.said))
