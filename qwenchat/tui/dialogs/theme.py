"""Chooses a theme by looking at it: what is highlighted is shown at once, Esc brings the old one back."""

from collections.abc import Mapping
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.types import CSSPathType
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from qwenchat.i18n import _
from qwenchat.text.safe import clean_line
from qwenchat.tui.dialogs.dialog import Dialog, plain


class ThemeScreen(Dialog[str | None]):
    """`titles` has the themes to choose from, by name, with their titles; without it, all of the app's."""

    CSS_PATH: ClassVar[CSSPathType | None] = ["dialog.tcss", "theme.tcss"]

    def __init__(self, titles: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._titles = titles
        self._before = ""

    def heading(self) -> str:
        return _("Theme")

    def body(self) -> ComposeResult:
        yield plain(_("↑↓ preview · Enter apply · Esc cancel"), classes="muted")
        yield OptionList(markup=False)

    def on_mount(self) -> None:
        """List them with the one in use highlighted."""
        self._before = self.app.theme
        themes = self.app.available_themes
        titles = self._titles or {name: name for name in themes}
        names = [name for name in titles if name in themes]
        listed = self.query_one(OptionList)
        listed.add_options(Option(_labelled(titles[name], themes[name].dark), id=name) for name in names)
        if self._before in names:
            listed.highlighted = names.index(self._before)
        self.set_focus(listed)

    def action_close(self) -> None:
        """Go back to the theme of before."""
        self.app.theme = self._before
        self.answer(None)

    @on(OptionList.OptionHighlighted)
    def _preview(self, event: OptionList.OptionHighlighted) -> None:
        if event.option_id and self.app.theme != event.option_id:
            self.app.theme = event.option_id

    @on(OptionList.OptionSelected)
    def _choose(self, event: OptionList.OptionSelected) -> None:
        self.answer(event.option_id)


def _labelled(title: str, dark: bool) -> str:
    """Return a title with whether the theme is dark or light, where the title does not say so."""
    is_named = title.endswith(("dark", "light"))
    title = clean_line(title and _(title))
    kind = _("dark") if dark else _("light")
    return title if is_named else f"{title} · {kind}"
