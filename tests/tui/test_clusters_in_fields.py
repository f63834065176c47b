"""The caret steps over what is seen as one character, and the terminal's cursor, where input methods open, is at it."""

import subprocess
import sys
from itertools import accumulate
from pathlib import Path

import pytest
from rich.cells import cell_len
from textual.app import App, ComposeResult
from wcwidth import iter_graphemes

from qwenchat.runtime.program import Program
from qwenchat.text.clusters import boundary, cut, next_boundary, previous_boundary
from qwenchat.text.safe import clean_line
from qwenchat.tui.widgets.fields import AreaField, LineField
from tests.fakes.commands import environment
from tests.tui.chatting import chatting, kept_session
from tests.tui.screens import until
from tests.tui.terminal import CTRL_Q, ESCAPE, Terminal, qwenchat_in_terminal

CLUSTERS = ["👨‍👩‍👧‍👦", "🇩🇪", "🇨🇳", "👍🏽", "e\u0301", "क्षि", "กำ", "ที่", "각", "汉", "❤️", "x"]


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_a_cluster_is_one_step(cluster: str) -> None:
    text = f"a{cluster}{cluster}b"
    end = 1 + len(cluster)
    assert next_boundary(text, 1) == end
    assert previous_boundary(text, end) == 1
    assert {boundary(text, at) for at in range(1, end)} == {1}
    assert cut(text, end) == f"a{cluster}"
    assert cut(text, end + len(cluster) - 1) == f"a{cluster}"


def test_every_character_is_separated_as_the_tables_of_unicode_say() -> None:
    text = "".join(f"字{chr(code)}{chr(code)}" for code in range(0x10000) if not 0xD800 <= code < 0xE000)
    found, at = [], 0
    while at < len(text):
        at = next_boundary(text, at)
        found.append(at)
    assert found == list(accumulate(map(len, iter_graphemes(text))))


def test_words_without_joined_characters_need_no_tables() -> None:
    code = (
        "import sys\nfrom qwenchat.text.clusters import next_boundary, previous_boundary\n"
        "for text in ('aé', 'привет', '你好，', '한국어', 'かな→'):\n"
        "    next_boundary(text, 1), previous_boundary(text, 2)\n"
        "print('wcwidth' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    assert done.stdout == "False\n"


def test_a_title_is_cut_between_clusters() -> None:
    assert clean_line("👨‍👩‍👧‍👦" * 20, 20) == "👨‍👩‍👧‍👦" * 2 + "…"


async def test_a_title_in_the_list_is_cut_between_clusters() -> None:
    program = Program.here()
    kept_session(program, "🇩🇪" * 20)
    program.close()
    async with chatting() as it:
        await until(lambda: it.chat.sidebar.list.options)
        view = it.chat.sidebar.list
        shown = next(row for y in range(5) if "🇩" in (row := view.render_line(y).text))
        assert "…" in shown
        assert shown.count("🇩") == shown.count("🇪") > 3


class FieldsApp(App[None]):
    """One field of each kind."""

    def compose(self) -> ComposeResult:
        yield LineField()
        yield AreaField()


@pytest.mark.parametrize("cluster", CLUSTERS)
async def test_keys_go_by_clusters_in_every_field(cluster: str) -> None:
    app = FieldsApp()
    async with app.run_test() as pilot:
        line, area = app.query_one(LineField), app.query_one(AreaField)
        line.value = f"a{cluster}{cluster}b"
        area.load_text(line.value)
        for field in (line, area):
            field.focus()
            await pilot.press("home", "right", "right")
            at = line.cursor_position if field is line else area.cursor_location[1]
            assert at == 1 + len(cluster)
            await pilot.press("backspace", "delete")
            assert (line.value if field is line else area.text) == "ab"
        area.load_text(f"a{cluster}b")
        area.move_cursor((0, 1 + len(cluster) // 2))
        assert area.cursor_location == (0, 1)
        strip = area.render_line(0)
        assert any(segment.text == cluster for segment in strip)  # the caret is drawn on all of it


def caret(terminal: Terminal, text: str) -> tuple[int, int] | None:
    """Where the caret is behind a text that ends a line; None where there is no such line yet."""
    at = [y for y, line in enumerate(terminal.lines) if line.rstrip(" │").endswith(text)]
    return (cell_len(terminal.lines[at[0]].partition(text)[0] + text), at[0]) if len(at) == 1 else None


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
def test_the_terminals_cursor_is_at_the_caret_in_every_state(tiny: Path) -> None:
    with qwenchat_in_terminal("--model", tiny, columns=100, rows=30) as terminal:
        terminal.shows("Ask anything")

        def is_at(text: str) -> None:
            terminal.until(lambda _shown: terminal.cursor == caret(terminal, text))

        def begins_in_frame() -> bool:
            x, y = terminal.cursor
            return "╭" in terminal.lines[y - 1] and terminal.lines[y][:x].endswith("│ ")

        terminal.until(lambda _text: begins_in_frame())  # at start, before anything was typed
        terminal.send("here")
        is_at("here")
        terminal.send("\x02")  # the list goes
        terminal.until(lambda text: "Search all chats" not in text)
        is_at("here")
        terminal.resize(60, 20)
        terminal.until(lambda _text: len(terminal.lines) == 20 and "Search" not in terminal.text)
        is_at("here")
        terminal.send("\x06")  # a line opens above
        terminal.shows("Find in this chat")
        terminal.send("words")
        is_at("words")
        terminal.send(ESCAPE)
        terminal.until(lambda text: "words" not in text)
        is_at("here")
        terminal.send("\x14")
        terminal.shows("Chat settings")
        terminal.send(ESCAPE)
        terminal.until(lambda text: "Chat settings" not in text)
        is_at("here")
        terminal.send("\x10")
        terminal.shows("Search for commands")
        terminal.send("zzz")
        is_at("zzz")
        terminal.send(ESCAPE)
        terminal.until(lambda text: "zzz" not in text)
        is_at("here")
        terminal.send("\x15/ex")  # suggestions show
        terminal.shows("export this chat")
        is_at("/ex")
        terminal.send("\x15")
        terminal.send(CTRL_Q)
        assert terminal.end() == 0
