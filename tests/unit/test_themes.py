"""Every theme is readable (WCAG 2.2, 1.4.3: 4.5 to 1), and a wrong file is named, not obeyed."""

from pathlib import Path

import pytest
from msgspec.structs import fields
from rich.style import Style
from textual.color import Color
from textual.theme import Theme

from qwenchat.errors import WrongUse
from qwenchat.markdown.palette import Palette
from qwenchat.paths import bundled_themes
from qwenchat.tui import themes
from qwenchat.tui.colours import palette_of

ALL = themes.load_all(Path("/nowhere"))
ON_QUESTIONS = ("text", "muted", "you", "inline_code", "link")
INTERFACE = ("primary", "secondary", "accent", "success", "warning", "error", "foreground")
BEHIND = ("background", "surface", "panel")


def luminance(colour: Color) -> float:
    """https://www.w3.org/TR/WCAG22/#dfn-relative-luminance"""
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour.normalized]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(one: Color, other: Color) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def on(style: Style, behind: Color) -> float:
    front = Color.from_rich_color(style.color)
    return contrast(front, Color.from_rich_color(style.bgcolor) if style.bgcolor else behind)


def variables_of(theme: Theme) -> dict[str, str]:
    """What an app makes of a theme."""
    return theme.to_color_system().generate() | theme.variables


def coloured() -> list[Theme]:
    return [theme for theme in ALL.by_name.values() if not theme.ansi]


def test_there_are_enough_for_every_eye() -> None:
    assert not ALL.problems
    assert len(ALL.by_name) >= 8
    assert {themes.DEFAULT, themes.TERMINAL, "contrast-dark", "contrast-light", "clear-dark"} <= set(ALL.by_name)
    assert {theme.dark for theme in coloured()} == {True, False}
    known = {"nord", "dracula", "tokyo-night", "gruvbox-dark", "gruvbox-light", "solarized-dark", "solarized-light"}
    assert known | {"catppuccin-mocha", "catppuccin-latte"} <= set(ALL.by_name)
    assert set(ALL.titles) == set(ALL.by_name)


@pytest.mark.parametrize("theme", coloured(), ids=lambda theme: theme.name)
def test_a_transcript_can_be_read(theme: Theme) -> None:
    variables = variables_of(theme)
    palette = palette_of(variables)
    page = Color.parse(variables["background"])
    question = Color.from_rich_color(palette.question.bgcolor)
    styles = {f.name: getattr(palette, f.name) for f in fields(Palette) if f.name != "tokens"}
    pairs = {name: on(style, page) for name, style in styles.items()}
    pairs |= {f"{name} on a question": on(styles[name], question) for name in ON_QUESTIONS}
    pairs |= {kind: on(style, page) for kind, style in palette.tokens.items()}
    words = [*styles.values(), *palette.tokens.values()]
    pairs |= {f"{number} selected": on(style + palette.selection, page) for number, style in enumerate(words)}
    pairs["selection beside what is not"] = contrast(Color.from_rich_color(palette.selection.bgcolor), page)
    pairs["selection in code"] = contrast(
        Color.from_rich_color(palette.selection.bgcolor), Color.from_rich_color(palette.code.bgcolor)
    )
    least = 7 if theme.name.startswith("contrast") else 4.5
    assert {name: round(ratio, 2) for name, ratio in pairs.items() if ratio < least} == {}


@pytest.mark.parametrize("theme", coloured(), ids=lambda theme: theme.name)
def test_the_interface_can_be_read(theme: Theme) -> None:
    variables = variables_of(theme)
    pairs = {
        f"{front} on {back}": contrast(Color.parse(variables[front]), Color.parse(variables[back]))
        for front in INTERFACE
        for back in BEHIND
    }
    for name in ("text", "text-muted"):
        alpha = int(variables[name].removeprefix("auto ").removesuffix("%")) / 100
        for back in BEHIND:
            behind = Color.parse(variables[back])
            pairs[f"{name} on {back}"] = contrast(behind + behind.get_contrast_text(alpha), behind)
    for place in ("screen", "input"):
        selected, over = (Color.parse(variables[f"{place}-selection-{part}"]) for part in ("foreground", "background"))
        assert selected.a == over.a == 1
        pairs[f"selected ({place})"] = contrast(selected, over)
    cursor = Color.parse(variables["block-cursor-background"])
    pairs["cursor"] = contrast(cursor + cursor.get_contrast_text(0.87), cursor)
    pairs["footer key"] = contrast(Color.parse(variables["footer-key-foreground"]), Color.parse(variables["panel"]))
    assert {name: round(ratio, 2) for name, ratio in pairs.items() if ratio < 4.5} == {}


def test_the_terminals_own_colours_are_named_colours() -> None:
    palette = palette_of(variables_of(ALL.by_name[themes.TERMINAL]))
    for style in (palette.text, palette.link, palette.found, palette.mark, *palette.tokens.values()):
        for colour in (style.color, style.bgcolor):
            assert colour is None or colour.is_default or colour.is_system_defined
    assert palette.found.color != palette.found.bgcolor


@pytest.mark.parametrize(
    ("no_colour", "system", "name"),
    [
        (False, "truecolor", "plum"),
        (False, "256", "plum"),
        (False, "standard", "terminal"),
        (True, "truecolor", "terminal"),
    ],
)
def test_a_terminal_with_few_colours_gets_its_own(no_colour: bool, system: str, name: str) -> None:
    assert themes.suited("plum", no_colour=no_colour, colour_system=system) == name


def test_without_colour_marks_are_reversed() -> None:
    palette = palette_of(variables_of(coloured()[0]), colour=False)
    assert palette.found.reverse and palette.mark.reverse and palette.inline_code.bold


def test_another_theme_of_textuals_serves_too() -> None:
    palette = palette_of(variables_of(Theme("other", primary="#336699")))
    assert palette.link.color is not None and palette.code.bgcolor is not None


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("title = 1", "title"),
        ("nonsense = ", "line 1"),
        ("title = 'x'\ndark = true\n[interface]\nprimry = '#ffffff'", "primry"),
        (None, "not-a-colour"),
    ],
)
def test_a_wrong_theme_is_named(tmp_path: Path, written: str | None, says: str) -> None:
    file = tmp_path / "mine.toml"
    ink = (bundled_themes() / "ink.toml").read_text("utf-8")
    file.write_text(ink.replace("#7aa2f7", "not-a-colour") if written is None else written, "utf-8")
    with pytest.raises(WrongUse) as wrong:
        themes.load(file)
    assert str(file) in wrong.value.message and says in wrong.value.message and wrong.value.hint
    found = themes.load_all(tmp_path)
    assert len(found.problems) == 1 and themes.DEFAULT in found.by_name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("footer-key-foreground", "no colour"),
        ("border", "auto 87%"),
        ("block-cursor-text-style", "boldish"),
        ("panel", "red; }"),
        ("scrollbar", '"'),
        ("a b", "red"),
    ],
)
def test_a_wrong_variable_is_named(tmp_path: Path, name: str, value: str) -> None:
    file = tmp_path / "mine.toml"
    ink = (bundled_themes() / "ink.toml").read_text("utf-8")
    file.write_text(f"{ink}\n[variables]\n'{name}' = '{value}'\n", "utf-8")
    with pytest.raises(WrongUse) as wrong:
        themes.load(file)
    assert str(file) in wrong.value.message and f'"variables.{name}"' in wrong.value.message
    assert themes.named("mine", tmp_path).name == themes.DEFAULT


@pytest.mark.parametrize("name", sorted(ALL.by_name))
def test_textuals_own_values_of_variables_are_not_wrong(tmp_path: Path, name: str) -> None:
    file = tmp_path / "mine.toml"
    packed = (bundled_themes() / f"{name}.toml").read_text("utf-8").partition("[variables]")[0]
    lines = [f"{key} = '{value}'" for key, value in variables_of(ALL.by_name[name]).items()]
    file.write_text("\n".join([packed, "[variables]", *lines]), "utf-8")
    assert themes.load(file)[1].name == "mine"


def test_a_name_that_is_no_file_name_gives_the_default() -> None:
    assert themes.named("x" * 300, Path("/nowhere")).name == themes.DEFAULT


def test_a_theme_of_ones_own_wins(tmp_path: Path) -> None:
    ink = (bundled_themes() / "ink.toml").read_text("utf-8")
    (tmp_path / "ink.toml").write_text(ink.replace('"Ink"', '"Mine"'), "utf-8")
    assert themes.load_all(tmp_path).titles["ink"] == "Mine"
