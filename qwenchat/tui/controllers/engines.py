"""Engines elsewhere: opens their dialogs, and lets what changed there take effect."""

from qwenchat.tui.actions import Methods
from qwenchat.tui.controllers.context import ChatContext
from qwenchat.tui.dialogs import open as dialogs


class EngineController:
    """Actions on engines."""

    def __init__(self, context: ChatContext) -> None:
        self._context = context

    @property
    def methods(self) -> Methods:
        """What carries out the actions on engines."""
        return {"engines": self.open_list}

    def open_list(self) -> None:
        """Show the engines, to add, test, change or remove them."""
        self._context.ask(dialogs.engines(self._context.program), self.use_changes)

    def open(self, name: str, *, test: bool = False) -> None:
        """Show the settings of an engine, at its key, or test it; without a name those of a new one."""
        self._context.ask(dialogs.engine(self._context.program, name, test=test, at_key=bool(name)), self.use_changes)

    def use_changes(self, changed: bool | None) -> None:
        """Use the engines as the settings are now."""
        if changed:
            self._context.use_engines()
