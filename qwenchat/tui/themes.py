"""Themes as files: the program's beside it, the user's in the settings folder. Every colour has a name.

A file is TOML with strict keys; `[interface]` is required, `[transcript]` and `[code]` may leave out what should
follow the interface. Colours are `#rrggbb`, or `ansi_…` names for a theme that uses the terminal's own colours.

`LiveTheme` follows the file of the theme in use, so that the author of a theme sees each change at once. Nothing here
touches a widget.
"""

import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct
from textual.color import Color, ColorParseError
from textual.css.errors import StylesheetError
from textual.css.stylesheet import Stylesheet
from textual.css.tokenizer import TokenError
from textual.theme import Theme

from qwenchat.errors import FileError, QwenchatError, WrongUse
from qwenchat.i18n import _, reason_of
from qwenchat.paths import bundled_themes
from qwenchat.text.safe import clean_line
from qwenchat.typed_values import read_toml, shown

DEFAULT = "ink"
"""The theme where nothing is set."""
TERMINAL = "terminal"
"""The theme of the terminal's own 16 colours, for terminals that have no more."""


class InterfaceColours(Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """The colours from which Textual derives those of all widgets."""

    primary: str
    secondary: str
    accent: str
    foreground: str
    background: str
    surface: str
    panel: str
    success: str
    warning: str
    error: str


class TranscriptColours(Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """Colours of words by what they are; an empty one follows the interface."""

    muted: str = ""
    heading: str = ""
    link: str = ""
    quote: str = ""
    formula: str = ""
    inline_code: str = ""
    you: str = ""
    model: str = ""
    question_background: str = ""
    found: str = ""
    found_background: str = ""
    found_current_background: str = ""
    mark: str = ""
    mark_background: str = ""
    selection: str = ""
    """Of text that is selected with the mouse or in a field, whatever its colour was before."""
    selection_background: str = ""


class CodeColours(Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """Colours of code by what it is; an empty one follows the interface."""

    background: str = ""
    foreground: str = ""
    comment: str = ""
    keyword: str = ""
    type: str = ""
    function: str = ""
    string: str = ""
    number: str = ""
    operator: str = ""
    deleted: str = ""


class ThemeFile(Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """One theme."""

    title: str
    """The name that users read, in English."""
    dark: bool
    interface: InterfaceColours
    transcript: TranscriptColours = TranscriptColours()
    code: CodeColours = CodeColours()
    variables: dict[str, str] = {}
    """Any of Textual's own variables, such as `footer-key-foreground`."""


class Themes(Struct, frozen=True):
    """All themes by name, and what was wrong with those that can't be used."""

    by_name: dict[str, Theme]
    titles: dict[str, str]
    problems: tuple[QwenchatError, ...]


def suited(wanted: str, *, no_colour: bool, colour_system: str | None) -> str:
    """Return the name of the theme to use where `wanted` is set: the terminal's own colours where it has no others.

    `colour_system` is Rich's name for what the terminal can show; `no_colour` is whether NO_COLOR is set. An app
    under NO_COLOR also needs `ansi_color=True` from its start: else Textual draws these colours black on black.
    """
    return TERMINAL if no_colour or colour_system in (None, "standard", "windows") else wanted


def named(name: str, own: Path) -> Theme:
    """Return the theme of a name, the user's own first; the default one where it is missing or wrong."""
    for file in (own / f"{name}.toml", bundled_themes() / f"{name}.toml"):
        with suppress(WrongUse, FileError):
            return load(file)[1]
    return load(bundled_themes() / f"{DEFAULT}.toml")[1]


def load_all(own: Path) -> Themes:
    """Return the program's themes and the user's in the folder `own`, which may be missing; the user's win.

    A theme that is wrong is left out, and `problems` names it.
    """
    by_name: dict[str, Theme] = {}
    titles: dict[str, str] = {}
    problems: list[QwenchatError] = []
    for file in [*_files(bundled_themes()), *_files(own)]:
        try:
            title, theme = load(file)
        except (WrongUse, FileError) as problem:
            problems.append(problem)
        else:
            by_name[theme.name], titles[theme.name] = theme, title
    return Themes(by_name, titles, tuple(problems))


def load(file: Path) -> tuple[str, Theme]:
    """Return a theme's title and the theme; its name is the file's. Raises WrongUse or FileError naming the file."""
    try:
        theme, reason = read_toml(file, ThemeFile)
    except OSError as error:
        raise FileError(
            _("The theme {file} can't be read: {reason}.").format(file=file, reason=reason_of(error)),
            _("Make it readable, or move it away."),
        ) from error
    if theme:
        reason = _wrong_value(theme)
        if not reason:
            return theme.title, _theme(file.stem, theme)
    raise WrongUse(
        _("The theme {file} is invalid: {reason}.").format(file=file, reason=reason),
        _("Correct it, or move it away; the themes that come with qwenchat show what is allowed."),
    )


def _files(folder: Path) -> Iterable[Path]:
    return sorted(folder.glob("*.toml"))


def _wrong_value(theme: ThemeFile) -> str:
    """Return what is wrong with the first invalid colour, or with the first variable that no style accepts."""
    for name, section in (("interface", theme.interface), ("transcript", theme.transcript), ("code", theme.code)):
        for key, colour in msgspec.to_builtins(section).items():
            try:
                Color.parse(colour or "#000")
            except ColorParseError:
                return _('"{key}" must be a colour, not {value}').format(key=f"{name}.{key}", value=shown(colour))
    for name, value in theme.variables.items():
        sheet = Stylesheet(variables={name: value})
        sheet.add_source(f"* {{ {_declaration(name)}; }}")
        try:
            sheet.parse()
        except (StylesheetError, TokenError):
            return _('"{key}" can\'t be {value}').format(key=f"variables.{clean_line(name)}", value=shown(value))
    return ""


def _declaration(name: str) -> str:
    """Return a declaration that uses a variable as style sheets do, to validate its value."""
    if "-style" in name:
        return f"text-style: ${name}"
    if "foreground" in name or name.startswith(("text", "link-")):
        return f"color: ${name}"
    return f"border: tall ${name}"


def _theme(name: str, theme: ThemeFile) -> Theme:
    ansi = theme.interface.background.startswith("ansi_")
    variables = {f"transcript-{key}": value for key, value in msgspec.to_builtins(theme.transcript).items() if value}
    variables |= {f"code-{key}": value for key, value in msgspec.to_builtins(theme.code).items() if value}
    if ansi:  # Textual's own style sheets need these two and derive them for other themes only
        black, white = ("ansi_black", "ansi_white") if theme.dark else ("ansi_white", "ansi_black")
        variables |= {"ansi-background": black, "ansi-foreground": white}
    front = theme.transcript.selection or theme.interface.background
    behind = theme.transcript.selection_background or theme.interface.primary
    for place in ("screen", "input"):
        variables |= {f"{place}-selection-foreground": front, f"{place}-selection-background": behind}
    interface = msgspec.to_builtins(theme.interface)
    return Theme(name=name, dark=theme.dark, ansi=ansi, variables=variables | theme.variables, **interface)


EVERY_S = 0.5
"""Between two checks; a change is shown after two of them at most."""
_Stamp = tuple[str, Path | None, int, int]


class LiveTheme:
    """Follows the file behind a theme's name: the user's in the folder `own`, else the packed one.

    A file is read only when it did not change between two checks: editors write in steps.
    """

    def __init__(self, own: Path) -> None:
        self._folders = (own, bundled_themes())
        self._since = time.time_ns()
        """When all themes were read, in nanoseconds."""
        self._shown: _Stamp | None = None
        self._seen: _Stamp | None = None

    def changed(self, name: str) -> Theme | None:
        """Return the theme if its file has changed. Raises WrongUse or FileError, once for each change."""
        before, self._seen = self._seen, self._look(name)
        if self._shown is None or self._shown[0] != name:
            current = self._seen[2] <= self._since
            self._shown = self._seen if current else (name, None, 0, 0)
        file = self._seen[1]
        if file is None or self._seen == self._shown or self._seen != before:
            return None
        self._shown = self._seen
        return load(file)[1]

    def _look(self, name: str) -> _Stamp:
        for folder in self._folders:
            file = folder / f"{name}.toml"
            try:
                found = file.stat()
            except OSError:
                continue
            return name, file, found.st_mtime_ns, found.st_size
        return name, None, 0, 0
