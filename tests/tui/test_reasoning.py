"""What a model wrote for itself: one line above its answer, which unfolds."""

from textual.pilot import Pilot

from qwenchat.chat.message import Message, Reasoning, Status, Text
from tests.tui.chatting import chatting
from tests.tui.screens import TranscriptApp, answer, click, question, until

THOUGHT = "First the sky.\nThen 蓝色 light."


def thoughtful(number: int) -> Message:
    plain = answer(number)
    return Message(
        id=plain.id,
        session=plain.session,
        parent=None,
        role=plain.role,
        parts=(Reasoning(THOUGHT), Text("It is **blue**.")),
        created=plain.created,
        model="7b",
    )


def rows(app: TranscriptApp) -> list[str]:
    return [row.strip() for row in app.rows if row.strip()]


async def shown(app: TranscriptApp, pilot: Pilot[None]) -> list[str]:
    await pilot.pause()
    return rows(app)


async def test_reasoning_is_one_line_that_enter_unfolds_and_folds() -> None:
    app = TranscriptApp([question(0), thoughtful(1)])
    async with app.run_test() as pilot:
        folded = await shown(app, pilot)
        assert "▸ Reasoning · 7 words" in folded
        assert folded.index("▸ Reasoning · 7 words") < folded.index("It is blue.")
        assert "First the sky." not in folded
        await pilot.press("enter")
        unfolded = await shown(app, pilot)
        assert "▾ Reasoning · 7 words" in unfolded
        assert unfolded.index("Then 蓝色 light.") < unfolded.index("It is blue.")
        await pilot.press("enter")
        assert await shown(app, pilot) == folded


async def test_a_click_unfolds_it_and_selects_nothing() -> None:
    app = TranscriptApp([question(0), thoughtful(1)])
    async with app.run_test() as pilot:
        await pilot.pause()
        y = next(y for y, row in enumerate(app.rows) if "Reasoning" in row)
        await click(app, app.transcript, offset=(6, y))
        assert "First the sky." in await shown(app, pilot)
        assert app.transcript.selected is None


async def test_reasoning_streams_into_its_line_and_is_not_the_text() -> None:
    app = TranscriptApp([question(0), answer(1, status=Status.STREAMING)])
    async with app.run_test() as pilot:
        view = app.transcript
        view.append("m1", Reasoning("Let me "), index=0, offset=0)
        view.append("m1", Reasoning("me think"), index=0, offset=4)
        await until(lambda: view.messages[1].reasoning == "Let me think")
        assert "▸ Reasoning · 3 words" in await shown(app, pilot)
        view.append("m1", Text("Done."), index=1, offset=0)
        await until(lambda: view.messages[1].text == "Done.")
        assert "Done." in await shown(app, pilot)
        assert view.messages[1].reasoning == "Let me think"


async def test_what_stands_between_think_markers_is_drawn_as_reasoning() -> None:
    async with chatting("<think>\nHm, hm.\n</think>\n\nFine.") as it:
        await it.ask("How are you?")
        assert it.messages[1].reasoning.strip() == "Hm, hm."
        assert it.messages[1].text.strip() == "Fine."
        assert any("Reasoning · 2 words" in it.transcript.render_line(y).text for y in range(10))
        await it.do("copy")
        assert it.app.clipboard.strip() == "Fine."
