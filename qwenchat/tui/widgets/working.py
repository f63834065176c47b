"""Work that a widget began ends before the widget is taken apart.

Textual cancels a widget's workers once its children are gone; one that comes back in between looks for them in vain,
which ends the program. Only coroutines end with their widget: what a thread does goes on to its end.
"""

from textual import on
from textual.messages import Prune
from textual.widget import Widget


class Working(Widget):
    """A second base for a widget that runs workers (the first one is where Textual looks for its styles)."""

    @on(Prune)
    def _end_work(self) -> None:
        self.workers.cancel_node(self)
