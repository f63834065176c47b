"""What the program does when nothing happens, counted: what it draws, and which timers wake it."""

from collections import Counter
from typing import Any

import pytest
from textual._compositor import Compositor
from textual.dom import DOMNode

from qwenchat.tui import app
from qwenchat.tui.app import QwenchatApp
from tests.tui.chatting import chatting
from tests.tui.screens import until


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
