"""Everything that qwenchat uses of Textual beyond its documented interface, each with the reason beside it.

No other module of the screen touches an underscore name of a Textual object or one of its internal messages; a test
holds this. When Textual's upper bound in `pyproject.toml` is raised, this file is what has to be read again.
"""

from textual import on
from textual.app import App
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


def write_window_title(app: App[None], title: str) -> None:
    """Name the terminal's window. `title` must be clean.

    Textual has no call for it; writing to `sys.stdout` would mix with the frames that the driver writes.
    """
    if app._driver and not app.is_headless:
        app._driver.write(f"\x1b]2;{title}\x07")


class EndsItsWork(Widget):
    """A second base for a widget that runs workers: they end before the widget is taken apart.

    Textual cancels a widget's workers only once its children are gone; a worker that comes back in between looks for
    them in vain, which ends the program. The internal message `Prune` comes before that. Only coroutines end with
    their widget: what a thread does goes on to its end. (The first base is where Textual looks for styles.)
    """

    @on(Prune)
    def end_work(self) -> None:
        """Cancel this widget's workers."""
        self.workers.cancel_node(self)
