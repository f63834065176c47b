"""What widgets need and Textual does not offer: keys that are known late, and work that ends before its widget."""

from textual import on
from textual.binding import BindingsMap
from textual.dom import DOMNode
from textual.messages import Prune
from textual.widget import Widget


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
