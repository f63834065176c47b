"""Branches: what is left behind stays in view until a question is asked, and can be found and shown again."""

import pytest
from textual.widgets import OptionList, Select, Static

from qwenchat.chat.tree import VariantPlace
from qwenchat.errors import QwenchatError
from qwenchat.tui.dialogs.branches import BranchesScreen
from qwenchat.tui.dialogs.export import ExportScreen
from tests.tui.chatting import Chatting, chatting
from tests.tui.screens import is_open, until

OLD = ["A", "One.", "B", "Two.", "C", "Three."]


def rows(it: Chatting) -> str:
    view = it.transcript
    return " ".join(view.render_line(y).text.strip() for y in range(view.size.height))


async def asked(it: Chatting) -> None:
    """Ask three questions and select the first answer."""
    for text in OLD[::2]:
        await it.ask(text)
    it.transcript.select(it.messages[1].id)


async def test_nothing_is_hidden_before_the_new_question_is_sent_and_then_a_line_says_where_it_is() -> None:
    async with chatting("One.", "Two.", "Three.", "Four.") as it:
        await asked(it)
        await it.do("branch")
        assert it.texts == OLD
        assert [layout.frame.is_left_behind for layout in it.transcript.column.layouts] == [False] * 2 + [True] * 4
        assert "the 4 messages below stay as another branch" in rows(it)
        assert "New branch" in str(it.chat.prompt.border_title)
        store = it.app.program.store
        assert [message.text for message in it.kept()] == OLD
        await it.ask("D")
        assert it.texts == ["A", "One.", "D", "Four."]
        assert it.transcript.column.layouts[2].variant == VariantPlace(2, 2, 4)
        assert "4 messages on another branch · F6 ← shows them" in rows(it)
        assert not it.chat.prompt.border_title
        await it.pilot.press("f6", "left")
        await until(lambda: it.texts == OLD)
        assert "2 messages on another branch · F6 → shows them" in rows(it)
        assert len(store.tree(it.chat.session.id)) == 8


@pytest.mark.parametrize("key", ["escape", "f8"])
async def test_a_branch_that_is_not_begun_yet_is_taken_back(key: str) -> None:
    async with chatting("One.", "Two.", "Three.", "Four.") as it:
        await asked(it)
        await it.do("branch")
        await it.pilot.press(key)
        await until(lambda: not it.chat.context.open.view.fork)
        await it.ask("D")
        assert it.texts == [*OLD, "D", "Four."]


@pytest.mark.parametrize("how", ["branch", "edit", "regenerate"])
async def test_undo_shows_again_what_a_branch_an_edit_or_another_answer_hid(how: str) -> None:
    async with chatting("One.", "Two.", "Three.", "Four.") as it:
        await asked(it)
        if how == "regenerate":
            await it.do("regenerate")
            new = ["A", "Four."]
        else:
            await it.do(how)
            await until(lambda: it.chat.drafts.editing or it.chat.context.open.view.fork)
            await it.ask("D")
            new = ["A", "One.", "D", "Four."] if how == "branch" else ["D", "Four."]
        await until(lambda: it.texts == new)
        await it.idle()
        assert "messages on another branch" in rows(it)
        await it.pilot.press("f8")
        await until(lambda: it.texts == OLD)
        assert [message.text for message in it.kept()] == OLD


async def test_a_variant_that_nothing_follows_needs_no_line() -> None:
    async with chatting("One.", "Two.") as it:
        await it.ask("A")
        await it.pilot.press("ctrl+r")
        await until(lambda: it.texts == ["A", "Two."])
        await it.idle()
        assert "‹ 2/2 ›" in rows(it) and "another branch" not in rows(it)


async def test_the_tokens_are_counted_of_what_the_question_will_follow() -> None:
    async with chatting("One.", "Two.", "Three.") as it:
        await asked(it)
        await it.do("branch")
        expected = sum(len(text) + 4 for text in ("You are a helpful assistant.", "A", "One."))
        await until(lambda: it.chat.gauge.usage and it.chat.gauge.usage.used == expected)


async def test_a_branch_follows_the_last_message_anyway() -> None:
    async with chatting("One.") as it:
        await it.ask("A")
        it.transcript.select(it.messages[1].id)
        await it.do("branch")
        await until(lambda: "follows this message anyway" in " ".join(it.said))
        assert not it.chat.context.open.view.fork


async def test_a_question_that_is_too_long_leaves_the_branch_as_it_was_and_is_in_the_prompt_to_branch_with() -> None:
    async with chatting("One.", "Two.", "Three.", n_ctx=1024) as it:
        await asked(it)
        await it.do("branch")
        it.write("long " * 300)
        await it.pilot.press("enter")
        await until(lambda: it.chat.prompt.text.startswith("long"))
        await until(lambda: it.texts == OLD)
        assert it.chat.context.open.view.fork == it.messages[1].id
        assert [message.text for message in it.kept()] == OLD


async def test_an_edit_of_the_first_question_that_is_too_long_comes_back_as_an_edit() -> None:
    async with chatting("One.", "Two.", n_ctx=1024) as it:
        await it.ask("A")
        it.write("a draft")
        it.transcript.select(it.messages[0].id)
        await it.do("edit")
        await until(lambda: it.chat.drafts.editing is not None)
        it.chat.prompt.write("q" * 2000)
        await it.pilot.press("enter")
        await until(lambda: "question is too long" in it.notice)
        await until(lambda: it.chat.drafts.editing == it.messages[0] and it.chat.prompt.text == "q" * 2000)
        assert it.texts == ["A", "One."] == [message.text for message in it.kept()]
        it.chat.prompt.write("B")
        await it.pilot.press("enter")
        await until(lambda: it.texts == ["B", "Two."])
        assert it.chat.context.open.view.variants[it.messages[0].id].count == 2
        await until(lambda: it.chat.prompt.text == "a draft")


async def test_branches_are_listed_with_what_each_alone_has_and_enter_opens_one() -> None:
    async with chatting("One.", "Two.", "Three.", "Four.") as it:
        await asked(it)
        await it.do("branch")
        await it.ask("D")
        it.write("/branches")
        await it.pilot.press("enter")
        await until(lambda: is_open(it.app, BranchesScreen))
        await until(lambda: it.app.screen.query("OptionList"))
        listed = it.app.screen.query_one(OptionList)
        await until(lambda: listed.option_count == 2)
        lines = [str(option.prompt) for option in listed.options]
        assert [line.split()[0:3] for line in lines] == [["●", "❯", "D"], ["❯", "B", "6"]]
        await it.pilot.press("down", "enter")
        await until(lambda: it.texts == OLD)
        assert [message.text for message in it.kept()] == OLD


async def test_a_click_on_the_number_of_variants_or_on_the_line_lists_the_branches() -> None:
    async with chatting("One.", "Two.", "Three.", "Four.") as it:
        await asked(it)
        await it.do("branch")
        await it.ask("D")
        for words in ("2/2", "on another branch"):
            await it.click_on(words)
            await until(lambda: is_open(it.app, BranchesScreen))
            await it.pilot.press("escape")
            await until(lambda: it.app.screen is it.chat)


async def test_the_list_of_a_chat_with_one_branch_says_how_to_begin_another() -> None:
    async with chatting() as it:
        await it.do("branches")
        await until(lambda: is_open(it.app, BranchesScreen))
        await until(lambda: "one branch" in " ".join(str(text.content) for text in it.app.screen.query(Static)))


async def test_the_export_says_what_it_leaves_out() -> None:
    async with chatting("One.", "Two.", "Three.", "Four.") as it:
        await asked(it)
        await it.do("branch")
        await it.ask("D")
        await it.do("export")
        await until(lambda: is_open(it.app, ExportScreen))
        note = it.app.screen.query_one("#left-out", Static)
        await until(lambda: "4 messages on other branches are left out." in str(note.content) and note.display)
        it.app.screen.query_one("#branches", Select).value = True
        await until(lambda: not note.display)
        it.app.screen.query_one("#branches", Select).value = False
        await until(lambda: note.display)
        it.app.screen.query_one("#format", Select).value = "json"
        await until(lambda: not note.display)


async def test_a_question_that_could_not_be_saved_leaves_the_branch_to_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    async with chatting("One.", "Two.", "Three.", "Four.") as it:
        await asked(it)
        await it.do("branch")

        def full(_waiting: object) -> None:
            raise QwenchatError("The disk is full.", "Free some space.")

        with monkeypatch.context() as patched:
            patched.setattr(it.app.program.store, "enqueue", full)
            it.write("D")
            await it.pilot.press("enter")
            await until(lambda: "The disk is full." in " ".join(it.said))
        assert it.chat.prompt.text == "D" and it.texts == OLD
        await it.pilot.press("enter")
        await until(lambda: it.texts == ["A", "One.", "D", "Four."])
