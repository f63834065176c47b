"""Calls of tools in an answer: folded lines, which unfold into arguments and results."""

from textual.pilot import Pilot

from qwenchat.chat.message import Message, Part, Reasoning, Status, Text, ToolCall, ToolResult
from qwenchat.chat.tools import REFUSED
from qwenchat.tui.transcript.calls import as_shown
from tests.tui.screens import TranscriptApp, answer, click, question, until

SUM = ToolCall("c1", "calculator", '{"expression": "37*41"}')
CLOCK = ToolCall("c2", "date_time", '{"zone": "Asia/Tokyo", "format": "long"}')
PRODUCT = ToolResult("c1", "calculator", "1517", took_ms=240)


def calling(*parts: Part, status: Status = Status.COMPLETE) -> Message:
    plain = answer(1)
    return Message(
        id=plain.id,
        session=plain.session,
        parent=None,
        role=plain.role,
        parts=parts,
        created=plain.created,
        model="7b",
        status=status,
    )


async def shown(app: TranscriptApp, pilot: Pilot[None]) -> list[str]:
    await pilot.pause()
    return [row.strip() for row in app.rows if row.strip()]


async def test_a_call_is_one_line_where_the_model_made_it_and_enter_unfolds_it() -> None:
    app = TranscriptApp([question(0), calling(Text("Let me see."), SUM, PRODUCT, Text("It is **1517**."))])
    async with app.run_test() as pilot:
        folded = await shown(app, pilot)
        line = "▸ ⚙ calculator · 37*41 · done in 0.2 s"
        assert folded[-3:] == ["Let me see.", line, "It is 1517."]
        await pilot.press("enter")
        unfolded = await shown(app, pilot)
        at = unfolded.index("▾ ⚙ calculator · done in 0.2 s")
        assert unfolded[at + 1 : at + 5] == ["{", '"expression": "37*41"', "}", "│ 1517"]
        await pilot.press("enter")
        assert await shown(app, pilot) == folded


async def test_a_click_unfolds_calls_and_selects_no_message() -> None:
    app = TranscriptApp([question(0), calling(SUM, PRODUCT, Text("1517"))])
    async with app.run_test() as pilot:
        await pilot.pause()
        y = next(y for y, row in enumerate(app.rows) if "calculator" in row)
        await click(app, app.transcript, offset=(8, y))
        assert "│ 1517" in await shown(app, pilot)
        assert app.transcript.selected is None


async def test_calls_in_a_row_are_one_group_whatever_was_thought_between_them() -> None:
    tokyo = ToolResult("c2", "date_time", "Sunday", took_ms=60)
    parts = (Reasoning("Hm."), SUM, PRODUCT, Text("\n"), Reasoning("And now?"), CLOCK, tokyo, Text("Sunday, 1517."))
    app = TranscriptApp([question(0), calling(*parts)])
    async with app.run_test() as pilot:
        rows = await shown(app, pilot)
        assert "▸ ⚙ 2 calls: calculator, date_time · done in 0.3 s" in rows
        assert "▸ Reasoning · 3 words" in rows
        assert not any("37*41" in row for row in rows)
        await pilot.press("enter")
        rows = await shown(app, pilot)
        assert rows.index("⚙ calculator · done in 0.2 s") < rows.index("│ 1517")
        assert rows.index("│ 1517") < rows.index("⚙ date_time · done in 0.06 s") < rows.index("│ Sunday")
        assert "And now?" in rows


async def test_a_call_streams_from_running_to_done_and_says_how_long_it_runs() -> None:
    app = TranscriptApp([question(0), calling(Text("Well."), status=Status.STREAMING)])
    async with app.run_test() as pilot:
        view = app.transcript
        view.append("m1", SUM, index=1, offset=0)
        view.append("m1", CLOCK, index=2, offset=0)
        await until(lambda: any("running, 1 s" in row for row in app.rows))
        view.append("m1", PRODUCT, index=3, offset=0)
        view.append("m1", ToolResult("c2", "date_time", "No such zone.", is_error=True), index=4, offset=0)
        view.append("m1", Text("Done."), index=5, offset=0)
        await until(lambda: view.messages[1].text.endswith("Done."))
        rows = await shown(app, pilot)
        assert rows[-2:] == ["▸ ⚙ 2 calls: calculator, date_time · done in 0.2 s · 1 failed", "Done."]


async def test_names_make_room_for_what_became_of_calls() -> None:
    calls = [ToolCall(f"c{n}", f"search_the_archive_{n}", "{}") for n in range(3)]
    ends = [ToolResult(call.id, call.name, REFUSED + "no", is_error=True) for call in calls]
    for width, words in ((100, "search_the_archive_2 · 3 refused"), (50, "… · 3 refused"), (24, "")):
        app = TranscriptApp([question(0), calling(*calls, *ends)])
        async with app.run_test(size=(width, 24)) as pilot:
            (row,) = [row for row in await shown(app, pilot) if "⚙" in row]
            assert row.startswith("▸ ⚙ 3 calls: ") and row.endswith(words) and len(row) <= width


async def test_refused_failed_and_left_calls_say_so() -> None:
    refused = ToolResult("c1", "calculator", REFUSED + "Answer without it.", is_error=True)
    ends = {refused: "refused", ToolResult("c1", "calculator", "Too large.", is_error=True): "failed"}
    for result, word in ends.items():
        app = TranscriptApp([question(0), calling(SUM, result)])
        async with app.run_test() as pilot:
            assert f"▸ ⚙ calculator · 37*41 · {word}" in await shown(app, pilot)
    app = TranscriptApp([question(0), calling(SUM, status=Status.STOPPED)])
    async with app.run_test() as pilot:
        assert "▸ ⚙ calculator · 37*41 · not carried out" in await shown(app, pilot)


async def test_a_result_is_text_and_long_ones_scroll() -> None:
    hostile = "[b]bold[/b] **stars** \x1b[31mred\x07 \u202egnp\n" + "\n".join(f"line {n}" for n in range(400))
    long_name = ToolCall("c1", "n" * 300, '{"a": "' + "长" * 300 + '"}')
    app = TranscriptApp([question(0), calling(long_name, ToolResult("c1", "n", hostile), Text("End."))])
    async with app.run_test(size=(60, 24)) as pilot:
        assert all(len(row) <= 60 for row in await shown(app, pilot))
        assert any(row.endswith("… · done") for row in app.rows)
        await pilot.press("enter", "g")
        rows = await shown(app, pilot)
        assert [row for row in rows if row.startswith("│")][:2] == ["│ [b]bold[/b] **stars** [31mred gnp", "│ line 0"]
        app.transcript.follow()
        assert "│ line 399" in await shown(app, pilot)


async def test_arguments_and_results_can_be_selected_and_the_line_of_a_call_can_not() -> None:
    app = TranscriptApp([question(0), calling(SUM, PRODUCT, Text("So 1517."))])
    async with app.run_test() as pilot:
        await pilot.press("enter")
        await pilot.pause()
        top = next(y for y, row in enumerate(app.rows) if "▾ ⚙" in row)
        end = next(y for y, row in enumerate(app.rows) if "So 1517" in row)
        await pilot.mouse_down(app.transcript, offset=(2, top))
        await pilot.hover(app.transcript, offset=(30, end))
        await pilot.mouse_up(app.transcript, offset=(30, end))
        assert app.screen.get_selected_text() == '{\n  "expression": "37*41"\n}\n1517\n\nSo 1517.'


def test_arguments_are_shown_whole_and_with_what_can_not_be_seen() -> None:
    assert as_shown('{"a":"x\\u202ey\\u001b\\u200b中文"}') == '{\n  "a": "x\\u202ey\\u001b\\u200b中文"\n}'
    assert as_shown("{broken\x1b") == "{broken\\u001b"
    assert as_shown("[" * 100_000) == "[" * 100_000


async def test_code_is_numbered_across_the_texts_between_calls() -> None:
    parts = (Text("```\none\n```"), SUM, PRODUCT, Text("```\ntwo\n```"))
    app = TranscriptApp([question(0), calling(*parts)])
    async with app.run_test() as pilot:
        await pilot.pause()
        assert [code.text.strip() for code in app.transcript.code_blocks("m1")] == ["one", "two"]
        y = next(y for y, row in enumerate(app.rows) if row.strip() == "two")
        top = next(
            at
            for at in range(y, 0, -1)
            if any("code" in (s.style.meta if s.style else {}) for s in app.transcript.render_line(at))
        )
        await click(app, app.transcript, offset=(6, top))
        await until(lambda: app.heard(type(app.transcript).CodeActivated))
        assert app.heard(type(app.transcript).CodeActivated)[0].index == 1
