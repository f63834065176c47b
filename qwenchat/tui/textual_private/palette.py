"""The command palette in the user's language, of which Textual has one text in English alone."""

from functools import partial

from textual.command import CommandList, CommandPalette
from textual.content import Content
from textual.widgets.option_list import Option

from qwenchat.i18n import _


class TranslatedPalette(CommandPalette):
    """A command palette that says in the user's language that nothing was found; Textual has a fixed English text."""

    def _start_no_matches_countdown(self, search_value: str) -> None:
        self._stop_no_matches_countdown()
        self._no_matches_timer = self.set_timer(self._NO_MATCHES_COUNTDOWN, partial(self._say_so, search_value))

    def _say_so(self, search_value: str) -> None:
        if search_value:
            nothing = Content.styled(_("Nothing found."), "$foreground-muted")
            self.query_one(CommandList).add_option(Option(nothing, disabled=True, id=self._NO_MATCHES))
        self._list_visible = bool(search_value)
