"""Slash commands: each does what an action does, or sets what it names."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from qwenchat.errors import WrongUse
from qwenchat.i18n import _, labelled
from qwenchat.tui.controllers.context import ChatContext
from qwenchat.tui.controllers.find import FindController
from qwenchat.tui.controllers.session_actions import SessionActions
from qwenchat.tui.parameters import set_by_name
from qwenchat.tui.slash_commands import SlashCommand, UnknownCommand


class CommandController:
    """Carries commands out; `run_action` carries out an action of the screen, by its id."""

    def __init__(
        self,
        context: ChatContext,
        sessions: SessionActions,
        find: FindController,
        run_action: Callable[[str], object],
    ) -> None:
        self._context, self._sessions, self._find = context, sessions, find
        self._run_action = run_action

    def run(self, command: SlashCommand | UnknownCommand) -> None:
        """Carry a command out; it leaves the prompt."""
        if isinstance(command, UnknownCommand):
            self._context.notify_error(
                WrongUse(
                    _("There is no command /{name}; nothing was sent.").format(name=command.name),
                    _("F1 shows all commands. A message that begins with / is written with //."),
                )
            )
            return
        prompt, rest = self._context.prompt, command.rest
        prompt.write(prompt.area.set_aside)
        match command.name:
            case "new" if rest.lower() in ("private", "-p"):
                self._run_action("new_private")
            case "model" if rest:
                self._sessions.use_model(rest)
            case "model":
                self._run_action("models")
            case "system" if rest:
                self._sessions.change(replace(self._context.open.session, system=rest))
            case "set" if rest:
                self._set(rest)
            case "system" | "set":
                self._run_action("session_settings")
            case "attach" if rest:
                self._context.prompt.attach([Path(rest.strip("\"'"))])
            case "attach":
                hint = _("Write /attach and a path, or drop a file here.")
                self._context.notify_error(WrongUse(_("No file is named."), hint))
            case "find":
                self._find.start(rest)
            case action:
                self._run_action(action)

    def _set(self, words: str) -> None:
        """Set one parameter of this chat, such as `temperature 0.7`; without a value it follows the model."""
        try:
            changed, name, value = set_by_name(self._context.open.session, words)
        except WrongUse as error:
            self._context.notify_error(error)
        else:
            self._sessions.change(changed)
            self._context.notify(labelled(name, _("the model's own") if value is None else value))
