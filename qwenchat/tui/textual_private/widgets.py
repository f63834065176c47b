"""What widgets need and Textual does not offer: keys that are known late, work that ends, words in another language."""

from functools import partial

from textual import on
from textual.binding import BindingsMap
from textual.command import CommandList, CommandPalette
from textual.content import Content
from textual.dom import DOMNode
from textual.messages import Prune
from textual.widget import Widget
from textual.widgets.option_list import Option

from qwenchat.i18n import _


def add_bindings(node: DOMNode, bindings: BindingsMap) -> None:
    """Bind more keys to one screen or widget.

    Textual reads the class variable `BINDINGS` once, at import; ours carry translated words and keys of the user's
    keymap, which are known only when the program runs.
    """
    node._bindings = BindingsMap.merge([node._bindings, bindings])


def own_action(node: DOMNode, key: str) -> str:
    """Return the action that a screen or widget itself binds to a key; empty for none."""
    bound = node._bindings.key_to_bindings.get(key)
    return bound[0].action if bound else ""


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


class EndsItsWork(Widget):
    """A further base for a widget that runs workers: they end before the widget is taken apart.

    Textual cancels a widget's workers only once its children are gone; a worker that comes back in between looks for
    them in vain, which ends the program. The internal message `Prune` comes before that. Only coroutines end with
    their widget: what a thread does goes on to its end. (The first base is where Textual looks for styles.)
    """

    @on(Prune)
    def end_work(self) -> None:
        """Cancel this widget's workers."""
        self.workers.cancel_node(self)
