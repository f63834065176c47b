"""Passages that an answer cites: marks in it that can be clicked, and a line below it that unfolds into them."""

from msgspec.structs import replace
from rich.style import Style

from qwenchat.chat.message import Citation, Message, Part, Status, Text
from qwenchat.tui.transcript.transcript import Transcript
from tests.tui.screens import TranscriptApp, answer, click, question, until

OWLS = "The barn owl\x1b[31m hunts by ear.\n\nIt is [bold]silent[/]."
NIGHT = Citation(number=1, document="owls.pdf", digest="d1", start=40, text=OWLS, page=12, heading="Night")
DAY = Citation(number=2, document="day.md", digest="d2", start=0, text="Hawks see well.")


def citing(*parts: Part, status: Status = Status.COMPLETE) -> Message:
    return replace(answer(1, status=status), parts=(NIGHT, DAY, *parts))


def place(app: TranscriptApp, words: str) -> tuple[int, int]:
    """Where words stand in the view."""
    y = next(y for y, row in enumerate(app.rows) if words in row)
    return app.rows[y].index(words), y


def style_at(app: TranscriptApp, words: str) -> Style:
    x, y = place(app, words)
    at = 0
    for segment in app.transcript.render_line(y):
        at += len(segment.text)
        if at > x:
            return segment.style or Style()
    raise AssertionError(words)


async def test_marks_of_sources_are_links_and_other_numbers_are_text() -> None:
    app = TranscriptApp([question(0), citing(Text("Owls [1] and 【2】, not [3], `a[1]` or [2, 3]."))])
    async with app.run_test() as pilot:
        await pilot.pause()
        assert style_at(app, "[1] and").underline and style_at(app, "【2】").underline
        assert not style_at(app, "[3]").underline and not style_at(app, "a[1]").underline
        assert style_at(app, "2, 3]").underline and not style_at(app, "3].").underline
        await click(app, app.transcript, offset=place(app, "【2】"))
        await until(lambda: app.heard(Transcript.ActionChosen))
        assert app.heard(Transcript.ActionChosen)[0].action == "show_source(2)"
        assert app.transcript.selected and app.transcript.selected.id == "m1"


async def test_the_line_below_names_the_sources_and_unfolds_into_the_passages() -> None:
    app = TranscriptApp([question(0), citing(Text("By ear."))])
    async with app.run_test() as pilot:
        await pilot.pause()
        line = "▸ Sources: 1 owls.pdf p. 12 · 2 day.md"
        assert any(row.strip() == line for row in app.rows)
        await click(app, app.transcript, offset=(3, place(app, line)[1]))
        await pilot.pause()
        rows = [row.strip() for row in app.rows if row.strip()]
        at = rows.index("▾ Sources")
        assert rows[at + 1 : at + 7] == [
            "[1] owls.pdf, page 12 · Night",
            "│ The barn owl[31m hunts by ear.",
            "│",
            "│ It is [bold]silent[/].",
            "[2] day.md",
            "│ Hawks see well.",
        ]
        await pilot.press("enter")
        await pilot.pause()
        assert any(row.strip() == line for row in app.rows)


async def test_only_what_an_answer_refers_to_is_named_and_the_line_is_cut_to_one() -> None:
    app = TranscriptApp([question(0), citing(Text("Hawks [2]."))])
    async with app.run_test() as pilot:
        await pilot.pause()
        assert any(row.strip() == "▸ Sources: 2 day.md" for row in app.rows)
        many = tuple(replace(DAY, number=number, document=f"{number} 报告.md") for number in range(1, 30))
        app.transcript.replace(replace(answer(1), parts=(*many, Text("All."))))
        await pilot.pause()
        rows = [row for row in app.rows if "报告" in row]
        assert len(rows) == 1 and rows[0].endswith("…")


async def test_an_answer_that_streams_has_links_and_no_line_that_would_move() -> None:
    app = TranscriptApp([question(0), answer(1, status=Status.STREAMING)])
    async with app.run_test() as pilot:
        view = app.transcript
        view.append("m1", NIGHT, index=0, offset=0)
        view.append("m1", Text("Owls [1"), index=1, offset=0)
        view.append("m1", Text("] hunt."), index=1, offset=7)
        await until(lambda: any("hunt" in row for row in app.rows))
        assert style_at(app, "[1]").underline
        assert not any("Sources" in row for row in app.rows)
        view.replace(replace(view.messages[1], status=Status.COMPLETE))
        await pilot.pause()
        assert any("Sources: 1 owls.pdf p. 12" in row for row in app.rows)


async def test_sources_are_not_copied_with_the_answer() -> None:
    app = TranscriptApp([question(0), citing(Text("By ear [1]."))])
    async with app.run_test() as pilot:
        await pilot.pause()
        assert app.transcript.messages[1].text == "By ear [1]."
        app.transcript.text_select_all()
        assert app.screen.get_selected_text() == "Question 0\n\nBy ear [1]."
