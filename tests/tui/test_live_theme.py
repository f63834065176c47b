"""A theme that is being written is seen at once; a wrong one is told and changes nothing."""

from pathlib import Path

import pytest

from qwenchat.paths import bundled_themes
from qwenchat.tui import themes
from qwenchat.tui.app import Start
from tests.tui.chatting import Chatting, chatting
from tests.tui.screens import until

INK = (bundled_themes() / "ink.toml").read_text("utf-8")


def colour(it: Chatting) -> str:
    return it.app.current_theme.primary


async def test_a_theme_of_ones_own_is_followed(home: Path) -> None:
    own = home / "config" / "themes" / "mine.toml"
    own.parent.mkdir(parents=True)
    own.write_text(INK, "utf-8")
    was = next(line for line in INK.splitlines() if line.startswith("primary"))
    async with chatting() as it:
        it.app.theme = "mine"
        before = colour(it)
        palette = it.transcript.column.look.palette
        own.write_text(INK.replace(was, 'primary = "#123456"'), "utf-8")
        await until(lambda: colour(it) == "#123456")
        await until(lambda: it.transcript.column.look.palette is not palette)
        own.write_text("title = [", "utf-8")
        await until(lambda: any("mine.toml is invalid" in said for said in it.said))
        assert colour(it) == "#123456"
        own.write_text(INK + '\n[variables]\nfooter-key-foreground = "no colour"\n', "utf-8")
        await until(lambda: any("footer-key-foreground" in said for said in it.said))
        assert colour(it) == "#123456"
        own.write_text(INK, "utf-8")
        await until(lambda: colour(it) == before)


async def test_a_wrong_theme_that_was_chosen_does_not_prevent_the_start(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(themes, "suited", lambda wanted, **_terminal: wanted)  # with colours
    own = home / "config" / "themes" / "mine.toml"
    own.parent.mkdir(parents=True)
    own.write_text(INK + '\n[variables]\nfooter-key-foreground = "no colour"\n', "utf-8")
    async with chatting(start=Start(model="guide", theme="mine")) as it:
        await until(lambda: any("footer-key-foreground" in said for said in it.said))
        assert it.app.theme == "ink"


async def test_ones_own_theme_of_a_packed_name_takes_over_while_it_runs(home: Path) -> None:
    was = next(line for line in INK.splitlines() if line.startswith("primary"))
    async with chatting() as it:
        it.app.theme = "ink"
        before = colour(it)
        own = it.app.program.paths.config / "themes" / "ink.toml"
        own.parent.mkdir(parents=True)
        own.write_text(INK.replace(was, 'primary = "#123456"'), "utf-8")
        await until(lambda: colour(it) == "#123456")
        own.unlink()
        await until(lambda: colour(it) == before)


async def test_themes_that_textual_has_under_the_same_name_are_ours(home: Path) -> None:
    ours = themes.load_all(home).by_name
    async with chatting(start=Start(model="guide", theme="nord")) as it:
        await until(lambda: ours.keys() <= it.app.available_themes.keys())
        assert {name for name in ours if it.app.available_themes[name] != ours[name]} == set()
