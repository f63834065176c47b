"""Slash commands: each does what an action does, or sets what it names."""

from dataclasses import replace
from pathlib import Path

from textual import on

from qwenchat.errors import WrongUse
from qwenchat.i18n import _, labelled
from qwenchat.tui import slash_commands
from qwenchat.tui.parameters import set_by_name
from qwenchat.tui.screens.downloading import Downloading
from qwenchat.tui.screens.finding import Finding
from qwenchat.tui.screens.writing import Writing
from qwenchat.tui.widgets.prompt import Prompt


class Commands(Writing, Finding, Downloading):
    """What is written in the prompt, once it is sent: a command, or a question."""

    @on(Prompt.Submitted)
    def submit(self, event: Prompt.Submitted) -> None:
        """Do a command, or ask."""
        meant = slash_commands.parse(event.text)
        match meant:
            case slash_commands.Unknown(name):
                self.tell_error(
                    WrongUse(
                        _("There is no command /{name}; nothing was sent.").format(name=name),
                        _("F1 shows all commands. A message that begins with / is written with //."),
                    )
                )
            case slash_commands.Command():
                self.prompt.write(self.prompt.area.set_aside)
                self._command(meant)
            case slash_commands.Say(text):
                self.ask_for(text, event)

    def _command(self, command: slash_commands.Command) -> None:
        rest = command.rest
        match command.name:
            case "new" if rest.lower() in ("private", "-p"):
                self.action_new_private()
            case "model" if rest:
                self.use_model(rest)
            case "model":
                self.action_models()
            case "system" if rest:
                self.attempt(self._change(replace(self.session, system=rest)))
            case "system":
                self.action_session_settings()
            case "set" if rest:
                self._set(rest)
            case "set":
                self.action_session_settings()
            case "attach" if rest:
                self.prompt.attach([Path(rest.strip("\"'"))])
            case "attach":
                self.tell_error(WrongUse(_("No file is named."), _("Write /attach and a path, or drop a file here.")))
            case "find":
                self.action_find()
                self.find_line.value = rest
            case name:
                self.run_worker(self.run_action(f"screen.{name}"))

    def _set(self, words: str) -> None:
        """Set one parameter of this chat, such as `temperature 0.7`; without a value it follows the model."""
        try:
            changed, name, value = set_by_name(self.session, words)
        except WrongUse as error:
            self.tell_error(error)
        else:
            self.attempt(self._change(changed))
            self.tell(labelled(name, _("the model's own") if value is None else value))
