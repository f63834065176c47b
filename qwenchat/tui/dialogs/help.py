"""The keys that work, from the real bindings."""

from collections.abc import Sequence

from rich.cells import cell_len
from textual import on
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from qwenchat.i18n import _
from qwenchat.text.safe import clean_line
from qwenchat.tui.dialogs.dialog import Dialog
from qwenchat.tui.dialogs.fields import Filter


class HelpScreen(Dialog[None]):
    """Every action by group: `actions` are triples of group, key as it is written, description."""

    def __init__(self, actions: Sequence[tuple[str, str, str]]) -> None:
        super().__init__()
        self._actions = [(clean_line(group), clean_line(key), clean_line(words)) for group, key, words in actions]

    def heading(self) -> str:
        return _("Keys")

    def body(self) -> ComposeResult:
        yield Filter(placeholder=_("type to filter"))
        yield OptionList(markup=False)

    def on_mount(self) -> None:
        """Show all of them, with all of their words."""
        self.query_one(OptionList).styles.text_wrap = "wrap"
        self._show("")

    @on(Input.Changed)
    def _filter(self, event: Input.Changed) -> None:
        self._show(event.value.casefold())

    def _show(self, wanted: str) -> None:
        actions = [action for action in self._actions if wanted in " ".join(action).casefold()]
        width = max((cell_len(key) for _group, key, _words in actions), default=0)
        options, before = [], ""
        for group, key, words in actions:
            if group != before:
                options.append(Option(Content.styled(group, "bold"), disabled=True))
            padding = " " * (width - cell_len(key))
            options.append(Option(Content.assemble("  ", (key, "$accent"), padding + "  ", words)))
            before = group
        listed = self.query_one(OptionList)
        listed.clear_options()
        listed.add_options(options)
