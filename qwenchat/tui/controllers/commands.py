"""Slash commands: each does what an action does, or sets what it names. Everything else that is submitted is asked."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from qwenchat.chat.message import Attachment
from qwenchat.errors import WrongUse
from qwenchat.i18n import _, labelled
from qwenchat.tui import slash_commands
from qwenchat.tui.controllers.asking import AskController
from qwenchat.tui.controllers.context import ChatContext
from qwenchat.tui.controllers.find import FindController
from qwenchat.tui.controllers.session_actions import SessionActions
from qwenchat.tui.parameters import set_by_name


class CommandController:
    """Decides what submitted words mean. `run_action` carries an action of the screen out, by its id."""

    def __init__(
        self,
        context: ChatContext,
        asking: AskController,
        sessions: SessionActions,
        find: FindController,
        run_action: Callable[[str], object],
    ) -> None:
        self._context, self._asking, self._sessions, self._find = context, asking, sessions, find
        self._run_action = run_action

    def submit(self, text: str, files: tuple[Attachment, ...]) -> None:
        """Carry a command out, or ask a question."""
        meant = slash_commands.parse(text)
        match meant:
            case slash_commands.UnknownCommand(name):
                self._context.notify_error(
                    WrongUse(
                        _("There is no command /{name}; nothing was sent.").format(name=name),
                        _("F1 shows all commands. A message that begins with / is written with //."),
                    )
                )
            case slash_commands.SlashCommand(name, rest):
                prompt = self._context.prompt
                prompt.write(prompt.area.set_aside)
                self._carry_out(name, rest)
            case slash_commands.TextToSend(question):
                self._asking.submit(question, files)

    def _carry_out(self, name: str, rest: str) -> None:
        match name:
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
            case _:
                self._run_action(name)

    def _set(self, words: str) -> None:
        """Set one parameter of this chat, such as `temperature 0.7`; without a value it follows the model."""
        try:
            changed, name, value = set_by_name(self._context.open.session, words)
        except WrongUse as error:
            self._context.notify_error(error)
        else:
            self._sessions.change(changed)
            self._context.notify(labelled(name, _("the model's own") if value is None else value))
