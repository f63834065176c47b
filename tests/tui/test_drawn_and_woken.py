"""What is drawn and what wakes the program, counted: while nothing happens, and while an answer streams."""

import asyncio
import gc
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
from msgspec.structs import replace
from textual._compositor import Compositor
from textual._styles_cache import StylesCache
from textual._text_area_theme import TextAreaTheme
from textual.app import App, ComposeResult
from textual.containers import Vertical
from textual.dom import DOMNode
from textual.events import Resize
from textual.geometry import Region
from textual.screen import UPDATE_PERIOD
from textual.scrollbar import ScrollBar
from textual.strip import Strip
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Static, TextArea

from qwenchat.chat.message import Status, Text
from qwenchat.chat.session import Session
from qwenchat.runtime.program import Program
from qwenchat.tui import app
from qwenchat.tui.app import QwenchatApp, Start
from qwenchat.tui.textual_private import drawing
from qwenchat.tui.transcript import streaming
from qwenchat.tui.transcript.message_layout import MessageLayout
from qwenchat.tui.transcript.streaming import StreamedPiece, StreamedPieces
from qwenchat.tui.transcript.transcript import Transcript
from tests.fakes.commands import environment
from tests.tui.chatting import chatting
from tests.tui.screens import TranscriptApp, answer, talk, until, words_on


def running_timers(program: QwenchatApp) -> set[str]:
    """What calls itself again and again, as the names of functions."""
    nodes: list[DOMNode] = [program, program.screen, *program.screen.walk_children()]
    timers = {
        timer
        for node in nodes
        for timer in node._timers
        if timer._task and not timer._task.done() and timer._active.is_set()
    }
    return {getattr(timer._callback, "__name__", str(timer._callback)) for timer in timers}


async def test_an_idle_program_draws_nothing_and_is_woken_by_one_timer_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    count: Counter[str] = Counter()
    draw, look = Compositor.render_update, QwenchatApp._follow_outside

    def counting_draw(*given: Any, **options: Any) -> object:
        count["drawn"] += 1
        return draw(*given, **options)

    def counting_look(program: QwenchatApp) -> None:
        count["looked outside"] += 1
        look(program)

    monkeypatch.setattr(Compositor, "render_update", counting_draw)
    monkeypatch.setattr(QwenchatApp, "_follow_outside", counting_look)
    monkeypatch.setattr(app, "EVERY_S", 0.01)
    monkeypatch.setattr(app, "CARET_RESTS_AFTER_S", 0.1)
    async with chatting() as it:
        await it.ask("A")
        area = it.chat.prompt.area
        await until(lambda: not area.cursor_blink)
        await until(lambda: running_timers(it.app) == {"counting_look"})
        await it.pilot.pause()  # a frame may be under way
        count.clear()
        await until(lambda: count["looked outside"] >= 10)
        assert count["drawn"] == 0
        blinks = list[bool]()

        def note(blink: bool) -> None:
            blinks.append(blink)

        it.app.watch(area, "cursor_blink", note, init=False)
        await it.pilot.press("x")
        await until(lambda: True in blinks)
        assert count["drawn"] > 0


def rendered_widgets(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Return a list to which each widget is added that is rendered from now on: its class, and how many lines."""
    drawn: list[tuple[str, int]] = []
    render = StylesCache.render_widget

    def noting(cache: StylesCache, widget: Widget, crop: Region) -> list[Strip]:
        drawn.append((type(widget).__name__, crop.height))
        return render(cache, widget, crop)

    monkeypatch.setattr(StylesCache, "render_widget", noting)
    return drawn


async def test_a_piece_draws_the_lines_that_it_changes_and_lays_nothing_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count: Counter[str] = Counter()

    def counted(kind: type[object], name: str) -> None:
        method = getattr(kind, name)

        def counting(*given: Any, **options: Any) -> object:
            count[name] += 1
            return method(*given, **options)

        monkeypatch.setattr(kind, name, counting)

    app = TranscriptApp([*talk(20), answer(20, status=Status.STREAMING)])
    async with app.run_test(size=(60, 20)) as pilot:
        await pilot.pause()
        for kind, name in ((MessageLayout, "strip"), (MessageLayout, "lay_out"), (Compositor, "reflow")):
            counted(kind, name)
        for word in ("word " * 25 + "\n\n").split(" ") * 4:
            app.transcript.append("m20", Text(word + " "))
            await pilot.pause(0.01)
        await until(lambda: app.transcript.messages[-1].text.count("word") == 100)
        await pilot.pause()
        assert count["reflow"] == 0
        assert count["strip"] <= 4 * count["lay_out"]  # of the 20 lines that are visible


async def test_a_long_answer_keeps_the_drawing_of_a_few_screens_and_draws_the_rest_again() -> None:
    app = TranscriptApp([answer(0, "\n\n".join(map(str, range(400))))])
    async with app.run_test(size=(60, 20)) as pilot:
        await pilot.pause()
        layout, view = app.transcript.column.layouts[0], app.transcript
        shown = {view.render_line(0).text.strip()}
        for top in range(round(view.scroll_y), -1, -20):
            view.scroll_to(y=top)
            shown.add(view.render_line(0).text.strip())
            view.render_lines(view.size.region)
            assert len(layout.strips) <= 60
        assert len(shown) > 20
        view.follow()
        await until(lambda: any("399" in strip.text for strip in view.render_lines(view.size.region)))


async def test_a_frame_renders_what_has_changed_and_nothing_else_on_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = Transcript.render_lines

    def noting_transcript(transcript: Transcript, crop: Region) -> list[Strip]:
        rendered.append(("Transcript", crop.height))
        return draw(transcript, crop)

    async with chatting() as it:
        await it.ask("A")
        it.chat.prompt.area.cursor_blink = False
        await until(lambda: bool(it.chat.sidebar._sessions) and bool(it.chat.gauge.usage))
        await until(lambda: "<lambda>" not in running_timers(it.app))  # nothing is counted or saved soon
        it.transcript.add(answer(1, "Word", Status.STREAMING))
        rendered = rendered_widgets(monkeypatch)
        monkeypatch.setattr(Transcript, "render_lines", noting_transcript)
        pauses_without = 0
        while pauses_without < 3:  # what the start has left to draw comes first
            rendered.clear()
            await it.pilot.pause()
            pauses_without = 0 if rendered else pauses_without + 1
        it.transcript.append("m1", Text(" after word"))
        await until(lambda: it.messages[-1].text == "Word after word")
        await it.pilot.pause()
        assert {name for name, _lines in rendered} == {"Transcript"}
        assert max(lines for _name, lines in rendered) <= 4
        rendered.clear()
        it.chat.prompt.area.insert("x")
        await until(lambda: any(name == "PromptArea" for name, _lines in rendered))
        assert not any(name in ("Transcript", "Sidebar", "SessionList") for name, _lines in rendered)


async def test_the_caret_blinks_without_looking_colours_up(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[object] = []
    apply = TextAreaTheme.apply_css

    def noting(theme: TextAreaTheme, area: TextArea) -> None:
        looked_up.append(area)
        apply(theme, area)

    async with chatting() as it:
        area = it.chat.prompt.area
        area.render_lines(Region(0, 0, 10, 1))
        monkeypatch.setattr(TextAreaTheme, "apply_css", noting)
        area.render_lines(Region(0, 0, 10, 1))
        assert looked_up == []
        before = area._theme.base_style
        it.app.theme = "paper"
        await until(lambda: looked_up)
        await until(lambda: area._theme.base_style != before)


class TwoLines(drawing.QuickScreen[None]):
    """Notes what each frame draws."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[set[str | None]] = []

    def compose(self) -> ComposeResult:
        yield Static("One", id="one")
        yield Static("Two", id="two")

    def _on_timer_update(self) -> None:
        self.frames.append({widget.id for widget in self._dirty_widgets})
        super()._on_timer_update()


async def test_a_frame_follows_another_after_one_period(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    period_is_over = asyncio.Event()

    async def waiting(seconds: float) -> None:
        waits.append(seconds)
        await period_is_over.wait()

    screen = TwoLines()
    program = App[None]()
    monkeypatch.setattr(program, "get_default_screen", lambda: screen)
    async with program.run_test():
        await until(lambda: screen.frames and not screen._dirty_widgets)
        monkeypatch.setattr(drawing, "sleep", waiting)
        screen.frames.clear()
        screen.query_one("#one").refresh()
        await until(lambda: waits)
        assert screen.frames == [{"one"}]
        screen.query_one("#two").refresh()
        await until(screen._update_timer._active.is_set)
        assert screen.frames == [{"one"}]
        period_is_over.set()
        await until(lambda: screen.frames == [{"one"}, {"two"}])
        assert waits[0] == UPDATE_PERIOD


async def test_a_line_that_has_only_moved_is_not_composed_again() -> None:
    app = TranscriptApp([*talk(20), answer(20, "Word", Status.STREAMING)])
    async with app.run_test(size=(60, 20)) as pilot:
        await pilot.pause()
        view = app.transcript
        whole = Region(0, 0, view.size.width, view.size.height)
        before = view.render_lines(whole)
        app.transcript.append("m20", Text("\n\nOne more"))
        await until(lambda: view.messages[-1].text.endswith("more"))
        await pilot.pause()
        after = view.render_lines(whole)
        assert [line.text for line in after] != [line.text for line in before]
        assert sum(any(line is old for old in before) for line in after) >= view.size.height - 4
        assert {line.cell_length for line in after} == {view.size.width}


async def test_the_scrollbar_is_drawn_only_where_that_changes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[object] = []
    render = ScrollBar.render

    def noting(bar: ScrollBar) -> object:
        drawn.append(bar)
        return render(bar)

    app = TranscriptApp([*talk(2000), answer(2000, "Word", Status.STREAMING)])
    async with app.run_test(size=(60, 20)) as pilot:
        await pilot.pause()
        monkeypatch.setattr(ScrollBar, "render", noting)
        lines = app.transcript.column.total
        for number in range(10):
            app.transcript.append("m2000", Text(f"\n\n{number}"))
            await until(lambda: app.transcript.messages[-1].text.endswith(str(number)))  # noqa: B023 - awaited here
            await pilot.pause()
        assert app.transcript.column.total >= lines + 18
        assert len(drawn) <= 2
        drawn.clear()
        app.transcript.action_select_end(-1)
        await until(lambda: drawn)
        await pilot.pause()
        drawn.clear()
        app.theme = "paper"
        await until(lambda: drawn)


@pytest.mark.parametrize(("cost", "wait"), [(0.0001, 0.05), (0.003, 0.096), (0.5, 0.125)])
def test_frames_are_the_rarer_the_more_processor_time_they_cost(
    cost: float, wait: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    used, waits = [0.0], list[float]()
    monkeypatch.setattr(streaming, "monotonic", lambda: 0.0)
    monkeypatch.setattr(streaming, "thread_time", lambda: used[0])

    class Waiting(Widget):
        def set_timer(self, delay: float, *_given: Any, **_options: Any) -> Timer:
            waits.append(delay)
            return Timer(self, delay)

    drawn: list[object] = []
    pieces = StreamedPieces(Waiting(), drawn.append)
    pieces.add(answer(1), StreamedPiece(0, Text("word")))
    used[0] = cost
    pieces.flush()
    pieces.add(answer(1), StreamedPiece(0, Text("word")))
    assert len(drawn) == 1
    assert waits[1] == pytest.approx(wait)


async def test_a_long_chat_is_kept_out_of_garbage_collections() -> None:
    program = Program.here()
    program.store.create(Session(id="s", created=1, updated=1, model="guide"))
    messages = [replace(message, parent=f"m{n - 1}" if n else None) for n, message in enumerate(talk(1000))]
    program.store.add(*messages)
    program.close()
    try:
        async with chatting(start=Start(model="guide", session="s")) as it:
            await until(lambda: len(it.messages) == len(messages))
            await until(lambda: gc.get_freeze_count() > len(messages))
    finally:
        gc.unfreeze()


async def test_what_draws_messages_is_imported_before_the_first_question(monkeypatch: pytest.MonkeyPatch) -> None:
    module = "qwenchat.tui.transcript.message_layout"
    monkeypatch.delitem(sys.modules, module)
    async with chatting():
        await until(lambda: module in sys.modules)


def test_the_screen_is_imported_without_what_only_answers_need() -> None:
    later = [
        "click",
        "qwenchat.chat.events",
        "qwenchat.chat.ports",
        "qwenchat.chat.prompt",
        "markdown_it",
        "pygments",
        "wcwidth",
    ]
    code = (
        "import sys\nimport qwenchat.cli.screen, qwenchat.tui.app\n"
        f"print([name for name in {later!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    assert done.stdout == "[]\n"


class Covered(drawing.QuickScreen[None]):
    """A box in a box, the inner one as large as the outer one but for a line."""

    CSS = "Vertical { height: 1fr } Static { height: 1fr } #last { height: 1 }"

    def compose(self) -> ComposeResult:
        with Vertical(id="outer"):
            with Vertical(id="inner"):
                yield Static("words")
            yield Vertical(id="last")


async def test_what_is_covered_is_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    program = App[None]()
    async with program.run_test(size=(40, 20)) as pilot:
        await program.push_screen(Covered())
        await pilot.pause()
        drawn = rendered_widgets(monkeypatch)
        assert words_on(program).split() == ["words"]
        assert sorted(drawn) == [("Static", 19), ("Vertical", 1)]


class SizesNoted(drawing.QuickScreen[None]):
    """A notice that can appear above a line and a widget that notes its sizes."""

    CSS = "#notice { display: none } #line { height: 1 } #noting { height: 1fr }"

    def __init__(self) -> None:
        super().__init__()
        self.noting = Noting(id="noting")

    def compose(self) -> ComposeResult:
        yield Static("A notice\nof two lines", id="notice")
        yield Static("A line", id="line")
        yield self.noting


class Noting(Static):
    """Notes every size that it learns of."""

    learnt = 0

    def on_resize(self, event: Resize) -> None:
        """Note it."""
        self.learnt = event.size.height


async def test_a_layout_counts_though_something_has_scrolled_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = rendered_widgets(monkeypatch)
    screen = SizesNoted()
    program = App[None]()
    async with program.run_test(size=(40, 20)):
        await program.push_screen(screen)
        await until(lambda: screen.noting.learnt == 19 and ("Static", 1) in drawn)
        drawn.clear()
        screen._compositor.reflow_visible(screen, screen.size)  # as Textual does when something scrolls
        screen.query_one("#notice").display = True
        assert screen.noting.region.y == 3  # looks its place up
        await until(lambda: screen.noting.size.height == 17)
        await until(lambda: screen.noting.learnt == 17)
        await until(lambda: ("Static", 1) in drawn)
