"""The transcript as a person uses it."""

from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.cells import cell_len
from textual.geometry import Offset
from textual.selection import SELECT_ALL, Selection

from qwenchat.chat.message import Attachment, FinishReason, Status, Text, Timings, Usage
from qwenchat.chat.tree import VariantPlace
from qwenchat.markdown.palette import Palette
from qwenchat.tui.themes import load_all
from qwenchat.tui.transcript.column import Column
from qwenchat.tui.transcript.drawing import Look
from qwenchat.tui.transcript.selecting import selection_row
from qwenchat.tui.transcript.transcript import Transcript
from tests.tui.screens import TranscriptApp, answer, click, click_words, question, talk, until

SIZE = (60, 20)


def differs(app: TranscriptApp, rows: list[str]) -> bool:
    return app.rows != rows


def is_selected(app: TranscriptApp, number: int) -> bool:
    return app.transcript.selected == app.transcript.messages[number]


def is_wide(app: TranscriptApp, width: int) -> bool:
    return app.transcript.column.look.width == width - 1


async def test_a_session_opens_at_its_end() -> None:
    app = TranscriptApp(talk(100))
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        assert app.transcript.viewport.following
        assert any("Answer 99" in row for row in app.rows)


async def test_only_what_is_visible_is_laid_out() -> None:
    app = TranscriptApp(talk(2000))
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        laid_out = sum(shown.lines is not None for shown in app.transcript.column.layouts)
        assert 2 <= laid_out <= 10


async def test_streaming_is_followed_until_the_reader_leaves() -> None:
    app = TranscriptApp([*talk(20), answer(20, status=Status.STREAMING)])
    async with app.run_test(size=SIZE) as pilot:
        view = app.transcript
        view.append("m20", Text("one\n\n" * 30))
        view.append("m20", Text("LAST"))
        await until(lambda: any("LAST" in row for row in app.rows))
        await pilot.press("up", "up")
        await until(lambda: not view.viewport.following)
        before = app.rows[:-1]
        view.append("m20", Text("\n\nmore" * 30))
        await until(lambda: view.messages[-1].text.count("more") == 30)
        await pilot.pause()
        assert app.rows[:-1] == before
        assert "lines below · Ctrl+End" in app.rows[-1]
        await pilot.press("end")
        await until(lambda: view.viewport.following)
        assert any("more" in row for row in app.rows)
        assert "below" not in app.rows[-1]


async def test_scrolling_back_to_the_end_follows_again() -> None:
    app = TranscriptApp(talk(40))
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("pageup")
        await until(lambda: not app.transcript.viewport.following)
        await pilot.press("pagedown", "pagedown")
        await until(lambda: app.transcript.viewport.following)


async def test_estimates_are_corrected_without_moving_what_is_read() -> None:
    app = TranscriptApp([answer(n, f"# H{n}\n\n" + "| a | b |\n|--|--|\n| 1 | 2 |\n" * 3) for n in range(200)])
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        for _ in range(60):
            before = app.rows
            await pilot.press("up")
            await until(partial(differs, app, before))
            assert app.rows[1:-1] == before[:-2]


async def test_one_repaint_takes_many_pieces() -> None:
    app = TranscriptApp([question(0), answer(1, status=Status.STREAMING)])
    async with app.run_test(size=SIZE):
        shown = app.transcript.column.layouts[1]
        for _ in range(500):
            app.transcript.append("m1", Text("word "))
        assert shown.message.text == ""
        await until(lambda: shown.message.text.count("word") == 500)


async def test_the_end_of_an_answer_is_as_if_it_had_come_whole() -> None:
    text = "# T\n\n- a\n- b\n\n```py\nx = 1\n```\n\n**终：**完\n"
    app = TranscriptApp([question(0), answer(1, status=Status.STREAMING)])
    async with app.run_test(size=SIZE) as pilot:
        for character in text:
            app.transcript.append("m1", Text(character))
            await pilot.pause(0.001)
        app.transcript.replace(answer(1, text))
        await pilot.pause()
        streamed = app.rows
        app.transcript.load([question(0), answer(1, text)])
        await pilot.pause()
        assert app.rows == streamed


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["a ", "\n", "- b", "```", "中：", "**", "|a|b|\n|-|-|\n"]), min_size=1, max_size=20))
def test_lines_kept_while_streaming_are_those_of_the_whole(pieces: list[str]) -> None:
    look = Look(50, Palette())
    column, whole = Column(look), Column(look)
    column.load([answer(1, status=Status.STREAMING)], {})
    for piece in pieces:
        column.layouts[0].append(0, Text(piece))
        column.measure(0)
    whole.load([answer(1, "".join(pieces), Status.STREAMING)], {})
    assert column.lines(0) == whole.lines(0)
    assert column.total == whole.settle(0, 10) + column.total


async def test_messages_are_selected_by_keys_and_mouse() -> None:
    app = TranscriptApp(talk(30))
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("k")
        await until(lambda: app.transcript.selected)
        await pilot.press("k", "k", "j")
        await until(lambda: len(app.heard(Transcript.Selected)) == 4)
        assert app.transcript.selected == app.transcript.messages[28]
        assert any(row.startswith("▌ ❯ You") for row in app.rows)
        y = next(y for y, row in enumerate(app.rows) if "Answer 29" in row)
        await click(app, Transcript, offset=(5, y))
        await until(lambda: app.transcript.selected == app.transcript.messages[29])
        app.transcript.select(None)
        await until(lambda: app.heard(Transcript.Selected)[-1].message is None)
        with pytest.raises(KeyError):
            app.transcript.select("nobody")


async def test_selecting_goes_through_the_whole_session() -> None:
    app = TranscriptApp(talk(60))
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("home")
        await until(lambda: "You" in app.rows[0])
        for number in range(60):
            await pilot.press("j")
            await until(partial(is_selected, app, number))
            assert any(row.startswith("▌") for row in app.rows)


async def test_variants_are_marked_and_chosen() -> None:
    app = TranscriptApp()
    async with app.run_test(size=SIZE) as pilot:
        app.transcript.load(talk(2), {"m1": VariantPlace(2, 3)})
        await pilot.press("k", "right", "left")
        await until(lambda: len(app.heard(Transcript.VariantChosen)) == 2)
        assert [event.step for event in app.heard(Transcript.VariantChosen)] == [1, -1]
        row = next(y for y, row in enumerate(app.rows) if "‹ 2/3 ›" in row)
        await click(app, Transcript, offset=(app.rows[row].index("›"), row))
        await until(lambda: len(app.heard(Transcript.VariantChosen)) == 3)
        app.transcript.load(talk(2), {"m1": VariantPlace(3, 3)})
        await pilot.press("right", "left")
        await until(lambda: len(app.heard(Transcript.VariantChosen)) == 4)
        assert app.heard(Transcript.VariantChosen)[-1].step == -1


async def test_what_can_be_done_with_the_selected_message_is_clicked_at_its_heading() -> None:
    app = TranscriptApp(talk(4))
    async with app.run_test(size=(100, 20)) as pilot:
        await pilot.pause()
        assert not any("quote" in row for row in app.rows)
        heights = app.transcript.column.total
        app.transcript.select("m2")
        await until(lambda: any(row.endswith("answer again  edit  copy  quote  delete  …") for row in app.rows))
        app.transcript.select("m3")
        await until(lambda: any(row.endswith("again  continue  branch  copy  quote  delete  …") for row in app.rows))
        assert sum("quote" in row for row in app.rows) == 1
        assert app.transcript.column.total == heights
        for words in ("answer again", "continue", "branch", "copy", "quote", "delete", "…"):
            await click_words(app, app.transcript, words)
        names = ["regenerate", "carry_on", "branch", "copy", "quote", "delete", ""]
        await until(lambda: [event.action for event in app.heard(Transcript.ActionChosen)] == names)
        assert app.transcript.selected == app.transcript.messages[3]
        lines = app.transcript.column.lines(3)
        copied = app.transcript.get_selection(
            Selection(Offset(0, selection_row(3, 0)), Offset(99, selection_row(3, len(lines))))
        )
        assert copied and "quote" not in copied[0]


@pytest.mark.parametrize("width", [8, 12, 20, 30, 40, 50])
@pytest.mark.parametrize("language", ["en", "zh_CN"])
async def test_things_to_do_that_find_no_room_are_left_out(width: int, language: str) -> None:
    app = TranscriptApp([question(0), answer(1, status=Status.STREAMING)], language=language)
    async with app.run_test(size=(width, 20)) as pilot:
        await pilot.pause()
        for number in (0, 1):
            before = app.rows
            app.transcript.select(f"m{number}")
            await pilot.pause()
            assert all(cell_len(row) < width for row in app.rows)
            assert len(app.rows) == len(before)
            assert not any("delete" in row or "删除" in row for row in app.rows) or (width, number) > (39, 0)


async def test_links_and_code_are_named_by_a_click_and_not_opened() -> None:
    app = TranscriptApp([answer(1, "see [it](https://e.org/x)\n\n```sh\nls\n```\n\n```py\npass\n```")])
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        y = next(y for y, row in enumerate(app.rows) if "see it" in row)
        await click(app, Transcript, offset=(app.rows[y].index("it"), y))
        await until(lambda: app.heard(Transcript.LinkActivated))
        assert app.heard(Transcript.LinkActivated)[0].target == "https://e.org/x"
        y = next(y for y, row in enumerate(app.rows) if " py " in row)
        await click(app, Transcript, offset=(app.rows[y].index("copy"), y))
        await until(lambda: app.heard(Transcript.CodeActivated))
        event = app.heard(Transcript.CodeActivated)[0]
        assert app.transcript.code_blocks(event.message.id)[event.index].text == "pass\n"
        assert app.transcript.code_blocks("m1")[0].language == "sh"


@pytest.mark.parametrize(
    ("status", "reason", "says"),
    [
        (Status.STREAMING, None, "answering"),
        (Status.STOPPED, FinishReason.CANCELLED, "■ Stopped"),
        (Status.TRUNCATED, FinishReason.LENGTH, "token limit"),
        (Status.TRUNCATED, FinishReason.CONTEXT, "context window is full"),
        (Status.INTERRUPTED, None, "ended unexpectedly"),
        (Status.FAILED, None, "out of memory"),
    ],
)
async def test_how_an_answer_ended_is_said_in_words(status: Status, reason: FinishReason | None, says: str) -> None:
    app = TranscriptApp([replace(answer(1, "x"), status=status, finish_reason=reason, error="out of memory\x1b[31m")])
    async with app.run_test(size=(90, 10)) as pilot:
        await pilot.pause()
        assert any(says in row for row in app.rows)
        assert "\x1b" not in "".join(app.rows)


async def test_stats_attachments_and_boundary_are_shown() -> None:
    usage = Usage(9, 0, 1234, drafted_tokens=1100, accepted_tokens=1005)
    ended = replace(answer(1, "x"), usage=usage, timings=Timings(decode_tps=42.25, ttft_s=0.5))
    app = TranscriptApp()
    async with app.run_test(size=SIZE) as pilot:
        asked = question(0, attachments=(Attachment("a[b].txt", "text/plain", b"abc"),))
        app.transcript.load([asked, ended, question(2)], boundary="m2")
        await pilot.pause()
        text = "\n".join(app.rows)
        assert "1,234 tokens · 42.2 tokens/s · first token 0.5 s ·\n  guessed 1,005 of 1,234 tokens" in text
        assert "[a[b].txt] 3 bytes" in text
        assert text.index("no longer sees the messages above") < text.index("Question 2")
        app.transcript.show_boundary(None)
        await pilot.pause()
        assert "no longer sees" not in "\n".join(app.rows)


async def test_a_question_is_shown_as_it_was_typed() -> None:
    app = TranscriptApp([question(0, "# not a heading\n  * kept *\n\n```py\nx = 1\n```\nafter `all`")])
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        rows = [row[2:] for row in app.rows[1:8]]
        assert rows[:3] == ["# not a heading", "  * kept *", ""]
        assert "py" in rows[3] and rows[4:6] == [" x = 1", "after `all`"]
        assert app.transcript.code_blocks("m0")[0].text == "x = 1\n"


async def test_finding_words_marks_them_and_goes_to_them() -> None:
    branch = talk(200)
    branch[31] = answer(31, "The **needle** is 针 here, and a second Needle.")
    branch[150] = question(150, "another NEEDLE")
    app = TranscriptApp(branch)
    async with app.run_test(size=SIZE) as pilot:
        app.transcript.finder.find("needle")
        await until(lambda: app.heard(Transcript.Found))
        assert (app.heard(Transcript.Found)[-1].message, app.heard(Transcript.Found)[-1].messages) == (2, 2)
        assert any("another NEEDLE" in row for row in app.rows)
        await pilot.press("N")
        await until(lambda: any("second Needle" in row for row in app.rows))
        found = app.transcript.column.look.palette
        styles = [s.style for y in range(20) for s in app.transcript.render_line(y) if "eedle" in s.text and s.style]
        assert {style.bgcolor for style in styles} == {found.found.bgcolor, found.found_current.bgcolor}
        await pilot.press("n")
        await until(lambda: any("another NEEDLE" in row for row in app.rows))
        app.transcript.finder.find("nowhere to be found")
        await until(lambda: app.heard(Transcript.Found)[-1].messages == 0)


async def test_words_are_found_across_a_wrapped_line() -> None:
    app = TranscriptApp([answer(1, "一二三四五六七八九十" * 4)])
    async with app.run_test(size=(30, 10)) as pilot:
        app.transcript.finder.find("一二三")
        await pilot.pause()
        marked = app.transcript.column.look.palette.found.bgcolor
        current = app.transcript.column.look.palette.found_current.bgcolor
        text = "".join(
            s.text
            for y in range(10)
            for s in app.transcript.render_line(y)
            if s.style and s.style.bgcolor in (marked, current)
        )
        assert text == "一二三" * 4


async def test_selected_text_is_copied_as_paragraphs_without_decoration() -> None:
    app = TranscriptApp([answer(1, "> some words that are wrapped at the edge\n\n```\ncode\n```")])
    async with app.run_test(size=(30, 14)) as pilot:
        await pilot.pause()
        lines = app.transcript.column.lines(0)
        whole = Selection(Offset(0, selection_row(0, 1)), Offset(99, selection_row(0, len(lines) - 2)))
        selected = app.transcript.get_selection(whole)
        assert selected is not None
        first, _, code = selected[0].split("\n")
        assert first == "some words that are wrapped at the edge" and code == "code"
        everything = app.transcript.get_selection(SELECT_ALL)
        assert everything is not None and everything[0].startswith("> some words")


async def test_dragging_the_mouse_selects_text() -> None:
    app = TranscriptApp([answer(1, "hello brave world")])
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        await pilot.mouse_down(Transcript, offset=(8, 1))
        await pilot.hover(Transcript, offset=(12, 1))
        await pilot.mouse_up(Transcript, offset=(12, 1))
        await until(lambda: app.screen.get_selected_text() == "brave")
        assert app.transcript.selected is None


@pytest.mark.parametrize(
    ("text", "at", "word", "paragraph"),
    [
        ("hello brave world", (9, 1), "brave", "hello brave world"),
        ("it don’t_matter, no", (6, 1), "don’t_matter", "it don’t_matter, no"),
        ("先看这里，再看(那里)。", (6, 1), "先看这里", "先看这里，再看(那里)。"),
        ("> " + "wrapped words in a quote " * 3, (5, 2), "words", ("wrapped words in a quote " * 3).strip()),
        ("x" * 90, (5, 2), "x" * 90, "x" * 90),
        ("one\n\ntwo", (20, 1), None, "one"),
        ("a → b", (4, 1), None, "a → b"),
        ("hello", (3, 0), None, None),
        ("hello", (3, 2), None, None),
    ],
)
async def test_two_clicks_select_a_word_and_three_a_paragraph(
    text: str, at: tuple[int, int], word: str | None, paragraph: str | None
) -> None:
    app = TranscriptApp([answer(1, text)])
    async with app.run_test(size=(40, 12)) as pilot:
        await pilot.pause()
        await pilot.click(Transcript, offset=at, times=2)
        await until(lambda: app.screen.get_selected_text() == word)
        await pilot.click(Transcript, offset=at, times=3)
        await until(lambda: app.screen.get_selected_text() == paragraph)


async def test_what_is_said_about_a_message_is_not_copied_with_it() -> None:
    spoken = replace(
        answer(2, "The answer."),
        usage=Usage(prompt_tokens=1, completion_tokens=2, cached_tokens=0),
        timings=Timings(decode_s=1.0, decode_tps=2.0),
        status=Status.STOPPED,
    )
    app = TranscriptApp([question(1, "A question?"), spoken])
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        await pilot.mouse_down(Transcript, offset=(0, 0))
        await pilot.hover(Transcript, offset=(40, 12))
        await pilot.mouse_up(Transcript, offset=(40, 12))
        await until(lambda: app.screen.get_selected_text() == "A question?\n\nThe answer.")
        assert any("tokens" in row for row in app.rows)


@pytest.mark.parametrize("name", sorted(load_all(Path("/nowhere")).by_name))
async def test_what_is_selected_is_drawn_readably_in_every_theme(name: str) -> None:
    text = "# head\n\nplain [a](http://x) `b`\n\n> q\n\n```python\ndef f(x): return 'y', 1  # z\n```"
    app = TranscriptApp([question(1, "Q"), answer(2, text)], theme=name)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        app.screen.selections = {app.transcript: SELECT_ALL}
        await pilot.pause()
        selection = app.transcript.column.look.palette.selection
        drawn = [s for y in range(SIZE[1]) for s in app.transcript.render_line(y) if s.text.strip(" ▌")]
        selected = [s.style for s in drawn if s.style and s.style.bgcolor == selection.bgcolor]
        assert len(selected) > 12
        assert {style.color for style in selected} == {selection.color}


async def test_resizing_keeps_the_readers_place() -> None:
    branch = [answer(n, f"Message {n}. " + "word " * 60) for n in range(100)]
    app = TranscriptApp(branch)
    async with app.run_test(size=(80, 20)) as pilot:
        await pilot.pause()
        app.transcript.viewport.go_to(app.transcript.column.start(50))
        await pilot.resize_terminal(40, 20)
        await until(lambda: app.transcript.column.look.width < 41)
        assert any("Message 50." in row for row in app.rows[:4])
        for width, height in ((20, 5), (200, 60), (6, 3)):
            await pilot.resize_terminal(width, height)
            await until(partial(is_wide, app, width))
            assert all(len(row) <= width for row in app.rows)


async def test_another_branch_keeps_the_place_where_it_shares_messages() -> None:
    branch = talk(60)
    app = TranscriptApp(branch)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        app.transcript.viewport.go_to(app.transcript.column.start(20))
        before = app.rows[:-1]
        app.transcript.load([*branch[:40], answer(99, "another end")])
        await pilot.pause()
        assert app.rows[:-1] == before
        app.transcript.load(branch, show="m30")
        await pilot.pause()
        assert "Question 30" in app.rows[1]


async def test_an_empty_transcript_takes_everything() -> None:
    app = TranscriptApp()
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("j", "k", "n", "up", "end", "home", "left", "pageup")
        await click(app, Transcript)
        app.transcript.finder.find("x")
        app.transcript.add(question(0))
        await pilot.pause()
        assert "Question 0" in app.rows[1]
        with pytest.raises(KeyError):
            app.transcript.append("nobody", Text("x"))


async def test_another_theme_draws_anew() -> None:
    app = TranscriptApp(talk(4))
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        before = app.transcript.column.look.palette
        app.theme = "paper"
        await until(lambda: app.transcript.column.look.palette != before)
        assert any("Answer 3" in row for row in app.rows)


@pytest.mark.parametrize("theme", sorted(load_all(Path("/nowhere")).by_name))
async def test_every_theme_can_be_worn(theme: str) -> None:
    app = TranscriptApp(talk(4), theme)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        assert app.current_theme.name == theme
        assert any("Answer 3" in row for row in app.rows)


async def test_no_colour_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = TranscriptApp(talk(2))
    async with app.run_test(size=SIZE) as pilot:
        app.transcript.finder.find("answer")
        await pilot.press("k")
        await pilot.pause()
        assert any(row.startswith("▌") for row in app.rows)
        marked = [s for y in range(20) for s in app.transcript.render_line(y) if s.style and s.style.reverse]
        assert [s.text for s in marked] == ["Answer"]
