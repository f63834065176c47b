"""What is pasted comes in whole and sends nothing by itself, whether the terminal marks it or not; long pastes fold."""

import sys
from pathlib import Path

import pytest
from textual import events

from qwenchat.runtime.program import Program
from qwenchat.tui.app import Start
from qwenchat.tui.textual_private.terminal_input import PasteFinder
from tests.tui.chatting import chatting
from tests.tui.screens import click, until
from tests.tui.terminal import CTRL_Q, ENTER, PASTE, PASTED, qwenchat_in_terminal

LONG = "\n".join(f"line {number}" for number in range(300))


def found(*reads: str) -> list[str]:
    """What a finder passes on of texts that are read at once, and at last of silence."""
    finder = PasteFinder()
    return [finder.text(text, 0.001 * at) for at, text in enumerate((*reads, ""))] + [finder.text("", 1.0)]


@pytest.mark.parametrize(
    "typed", ["hello\r", "a", "\r", "\t", "/mo\t", "你好\r", "\x1b[A", "\x1b[200~a\nb\x1b[201~", "a\r\r"]
)
def test_what_is_typed_stays_keys(typed: str) -> None:
    assert found(typed) == [typed, "", ""]


@pytest.mark.parametrize(("length", "gap", "pieces"), [(100, 0.06, 2), (2000, 0.2, 1), (2000, 0.3, 2)])
def test_a_long_paste_may_come_with_longer_gaps(length: int, gap: float, pieces: int) -> None:
    finder, half = PasteFinder(), "x" * (length // 2)
    read = [finder.text(half, 0.0), finder.text("", gap), finder.text(half, gap), finder.text("", gap + 1)]
    assert "".join(read).count(PASTE) == pieces


@pytest.mark.parametrize("pasted", ["one\rtwo", "one\ttwo", "one\ntwo\r", "一\r二", "x" * 41 + "\r"])
def test_what_comes_faster_is_a_paste(pasted: str) -> None:
    assert found(pasted) == ["", "", PASTE + pasted + PASTED]


def test_a_long_paste_comes_in_many_reads_and_is_one() -> None:
    assert found("a\rb" * 50, "c\r", "d") == ["", "", "", "", PASTE + "a\rb" * 50 + "c\rd" + PASTED]
    assert found("a\rb", "\x1b[A") == ["", PASTE + "a\rb" + PASTED + "\x1b[A", "", ""]


def test_a_paste_that_the_terminal_marks_is_left_alone() -> None:
    marked = ["\x1b[200~a\rb", "c\rd", "e\x1b[201~"]
    assert found(*marked, "f\rg") == [*marked, "", "", PASTE + "f\rg" + PASTED]
    divided = ["\x1b[20", "0~a\rb", "c\rd\x1b[20", "1~"]
    assert found(*divided, "f\rg") == [*divided, "", "", PASTE + "f\rg" + PASTED]


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
def test_without_marks_a_paste_keeps_its_tabs_and_sends_nothing(tiny: Path) -> None:
    with qwenchat_in_terminal("--model", tiny) as terminal:
        terminal.shows("Ask anything")
        terminal.send("def f():\r\treturn 1\r\rprint(f())\r")
        terminal.shows("print(f())")
        terminal.send(CTRL_Q)
        assert terminal.end() == 0
    program = Program.here()
    session = program.store.listing.latest()
    assert session
    assert session.draft == "def f():\n\treturn 1\n\nprint(f())\n"
    assert program.store.branch(session.leaf) == []
    program.close()


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
def test_without_marks_a_long_paste_folds_and_is_sent_whole(tiny: Path) -> None:
    with qwenchat_in_terminal("--model", tiny) as terminal:
        terminal.shows("Ask anything")
        terminal.send(LONG.replace("\n", "\r"))
        terminal.shows("300 pasted lines")
        terminal.send("What is this?")
        terminal.shows("What is this?")
        terminal.send(ENTER)
        terminal.until(lambda text: "300 pasted lines" not in text)
        terminal.send(CTRL_Q)
        assert terminal.end() == 0
    program = Program.here()
    session = program.store.listing.latest()
    assert session
    asked = [*program.store.branch(session.leaf), *(each.question for each in program.store.waiting(session.id))]
    assert asked[0].text == f"What is this?\n\n{LONG}"
    program.close()


async def test_a_folded_paste_opens_is_counted_and_outlives_the_program() -> None:
    async with chatting() as it:
        await it.pilot.press(*"Why?")
        it.app.post_message(events.Paste(LONG))
        await until(lambda: "300 pasted lines" in str(it.chat.query_one("#chips").render()))
        assert it.chat.prompt.area.text == "Why?"
        assert it.chat.prompt.text == f"Why?\n\n{LONG}"
        await until(lambda: it.chat.gauge.usage and it.chat.gauge.usage.used > 2000)
        await it.pilot.press("f9")
        assert it.chat.prompt.area.text == f"Why?\n\n{LONG}"
        assert not it.chat.query_one("#chips").has_class("shown")
        it.write("")
        it.app.post_message(events.Paste(LONG))
        await until(lambda: it.chat.query_one("#chips").region.height)
        await click(it.app, "#chips", offset=(4, 0))
        await until(lambda: it.chat.prompt.area.text == LONG)
        it.write("")
        it.app.post_message(events.Paste(LONG))
        await until(lambda: it.chat.prompt.text == LONG)
        session = it.chat.session.id
    async with chatting(start=Start(session=session)) as it:
        await until(lambda: it.chat.prompt.text == LONG)
        assert "300 pasted lines" in str(it.chat.query_one("#chips").render())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"Why?\n\n{LONG}", "Why?"),
        (f"Why,\nand how?\n\n{LONG}\n\n{LONG}", "Why,\nand how?"),
        (LONG, ""),
        (f"{LONG}\n\nWhy?", ""),
        ("Why?\n\n" + "few\n" * 100, "Why?\n\n" + "few\n" * 100),
        ("One.\n\nTwo.", "One.\n\nTwo."),
        ("", ""),
    ],
)
async def test_a_draft_as_long_as_a_paste_that_folds_comes_back_folded_and_whole(text: str, shown: str) -> None:
    async with chatting() as it:
        it.chat.prompt.fill(text, [])
        assert (it.chat.prompt.area.text, it.chat.prompt.text) == (shown, text)
        await it.pilot.press("f9")
        assert it.chat.prompt.area.text == text


async def test_a_new_chat_with_a_draft_is_in_the_list_at_once_and_marked() -> None:
    def lines() -> list[str]:
        return [str(option.prompt).strip() for option in it.chat.sidebar.list.options]

    async with chatting() as it:
        await it.pilot.press(*"half a question")
        await until(lambda: "● Draft half a question" in lines())
        first = it.chat.session.id
        await it.pilot.press("ctrl+n")
        await until(lambda: it.chat.session.id != first)
        await until(lambda: "Draft half a question" in lines())
        await it.chat.navigation.open(first)
        await it.pilot.press("enter")
        await it.idle()
        await until(lambda: "● half a question" in lines())
