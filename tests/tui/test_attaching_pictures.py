"""Pictures of the chips and of the list behind an `@`, in both languages, both kinds of theme, narrow and wide."""

from collections.abc import Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot

from qwenchat.chat.message import Attachment
from qwenchat.i18n import use_language
from qwenchat.runtime.program import Program
from qwenchat.tui.app import QwenchatApp, Start
from qwenchat.tui.attached import Attached
from tests.fakes.scripted import ScriptedEngine
from tests.tui.screens import until

NAMES = ("会议纪要.md", "docs/模型说明 v2.md", "docs/notes.md", "[b]bold.md")
SIZES = {"narrow": (50, 20), "usual": (80, 24), "wide": (120, 24)}


def attached() -> list[Attached]:
    """A book that does not fit, notes that do, a folder, and what is still being read."""
    files = tuple(Attachment(f"docs/{number}.md", "text/markdown", b"x" * 700) for number in range(3))
    return [
        Attached(name="会议 book.pdf", documents=(Attachment("b", "application/pdf", b"page\f" * 4000),)),
        Attached(name="[b]notes[/b].txt", documents=(Attachment("n", "text/plain", b"note " * 100),)),
        Attached(name="docs", documents=files, is_folder=True),
        Attached(name="report.docx", is_read=False),
    ]


PICTURES = [
    ("chips", "en", "ink", "usual"),
    ("chips", "zh_CN", "paper", "narrow"),
    ("paths", "en", "paper", "wide"),
    ("paths", "zh_CN", "ink", "narrow"),
]
"""State, language, theme, size."""


@pytest.mark.parametrize("picture", PICTURES, ids="-".join)
def test_picture(
    snap_compare: Callable[..., bool],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    picture: tuple[str, str, str, str],
) -> None:
    state, language, theme, size = picture
    use_language(language)
    for name in NAMES:
        (tmp_path / "here" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "here" / name).write_text("")
    monkeypatch.chdir(tmp_path / "here")
    program, engine = Program.here(), ScriptedEngine()
    program.machine.measured.record(engine.file, prefill_tps=50.0, decode_tps=10.0)
    app = QwenchatApp(program, Start(model="7b:q4_k_m"), lambda _reference, _options: engine)

    async def show(pilot: Pilot[None]) -> None:
        await until(lambda: theme in app.available_themes)
        app.theme, chat = theme, app.chat
        prompt = chat.prompt
        prompt.area.cursor_blink = False
        await chat.context.chats.model.load(chat.session)
        await until(lambda: chat.gauge.usage)
        if state == "chips":
            prompt.attached += attached()
            prompt.show_chips()
            prompt.write("?")
            await until(lambda: all(each.forecast or not each.is_read for each in prompt.attached))
            await pilot.press("tab", "left", "left")
        else:
            await pilot.press("@", "m", "d")
            await until(lambda: prompt.suggestions.option_count == len(NAMES))
            await pilot.press("down")
            await until(lambda: size == "narrow" or chat.sidebar.list.option_count > 1)
        await pilot.pause(0.5)

    assert snap_compare(app, terminal_size=SIZES[size], run_before=show)
    program.close()
