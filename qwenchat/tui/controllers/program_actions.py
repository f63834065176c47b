"""What can be done about the program itself: help, palette, settings, themes, leaving it. It leaves chats alone."""

import os
import sys

from textual.screen import Screen

from qwenchat.errors import WrongUse
from qwenchat.i18n import _
from qwenchat.tui import slash_commands
from qwenchat.tui.actions import Action, Methods
from qwenchat.tui.controllers.context import ChatContext
from qwenchat.tui.dialogs import open as dialogs
from qwenchat.tui.themes import DEFAULT


class ProgramActions:
    """Actions on the program."""

    def __init__(self, context: ChatContext, screen: Screen[None], actions: tuple[Action, ...]) -> None:
        self._context, self._screen, self._actions = context, screen, actions

    @property
    def methods(self) -> Methods:
        """What carries out the actions on the program."""
        return {
            "help": self.show_help,
            "palette": self.open_palette,
            "settings": self.open_settings,
            "themes": self.choose_theme,
            "suspend": self.suspend,
            "quit": self.quit,
        }

    def show_help(self) -> None:
        """Show all keys and commands."""
        keys = self._context.program.settings.keys
        self._context.ask(dialogs.help_for(self._actions, keys, slash_commands.commands()))

    def open_palette(self) -> None:
        """Open the command palette."""
        self._screen.app.action_command_palette()

    def open_settings(self, at: str = "") -> None:
        """Change the settings, beginning at one of them if its key is given."""
        dialog = dialogs.settings(self._context.program, at)
        self._context.ask(dialog, lambda changed: self._use_settings() if changed else None)

    def _use_settings(self) -> None:
        """Follow the changed settings; language and keys follow at the next start."""
        program, app = self._context.program, self._screen.app
        before = program.settings.theme
        program.reread_settings()
        theme = program.settings.theme
        if theme != before and (theme or DEFAULT) in app.available_themes:
            app.theme = theme or DEFAULT
        self._context.transcript.timestamps = program.settings.timestamps
        self._context.notify(_("Language and keys change when you restart; everything else has changed now."))

    def choose_theme(self) -> None:
        """Choose a theme."""
        self._screen.app.action_change_theme()

    def suspend(self) -> None:
        """Put the program into the background, from where a shell brings it back."""
        if sys.platform != "win32" and os.getsid(0) == os.getpid():  # a terminal or a browser runs it, and no shell
            self._context.notify_error(
                WrongUse(
                    _("There is no shell here that could bring the program back from the background."),
                    _("Close it instead: everything is saved."),
                )
            )
            return
        self._screen.app.action_suspend_process()

    async def quit(self) -> None:
        """End the program; everything is saved."""
        await self._screen.app.action_quit()
