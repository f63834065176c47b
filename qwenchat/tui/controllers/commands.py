"""Slash commands: each does what an action does, or sets what it names."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from qwenchat.errors import WrongUse
from qwenchat.i18n import _, labelled
from qwenchat.text.safe import clean_line
from qwenchat.tui.completions import describe, names
from qwenchat.tui.controllers.context import ChatContext
from qwenchat.tui.controllers.find import FindController
from qwenchat.tui.controllers.session_actions import SessionActions
from qwenchat.tui.parameters import set_by_name
from qwenchat.tui.slash_commands import SlashCommand, UnknownCommand

_ACTIONS = {
    "model": "models",
    "system": "session_settings",
    "set": "session_settings",
    "import": "import_chats",
    "trash": "open_trash",
}
"""The actions of commands that have other names, where nothing follows them."""


class CommandController:
    """Carries commands out.

    `compare` asks the model of a reference the same question; `run_action` carries out an action, by its id.
    """

    def __init__(
        self,
        context: ChatContext,
        sessions: SessionActions,
        find: FindController,
        *,
        compare: Callable[[str], object],
        run_action: Callable[[str], object],
    ) -> None:
        self._context, self._sessions, self._find = context, sessions, find
        self._compare, self._run_action = compare, run_action

    def run(self, command: SlashCommand | UnknownCommand) -> None:
        """Carry a command out; it leaves the prompt unless it is wrong, and comes back as earlier questions do."""
        if isinstance(command, UnknownCommand):
            hint = _("F1 shows all commands. To send a message that begins with /, type //.")
            if command.meant:
                hint = _("Did you mean /{name}?").format(name=command.meant) + " " + hint
            what = _("No command named /{name}; nothing was sent.").format(name=command.name)
            self._context.notify_error(WrongUse(what, hint))
            return
        prompt = self._context.prompt
        typed = prompt.text
        try:
            self._carry_out(command)
        except WrongUse as error:
            self._context.notify_error(error)
        else:
            prompt.area.remember(typed)
            if prompt.text == typed:
                prompt.write(prompt.area.set_aside)

    def suggest(self) -> None:
        """Show what the typed text may become, if it begins as a command does."""
        typed = self._context.prompt.text
        found = names(typed)
        self._context.prompt.suggest(found, "" if found else describe(typed))
        if typed.startswith("/") and " " in typed and "\n" not in typed:
            self._context.run(self._suggest_arguments(typed), "suggestions", exclusive=True)

    async def _suggest_arguments(self, typed: str) -> None:
        from qwenchat.tui.arguments import arguments  # noqa: PLC0415 - the screen is drawn without it

        program, session = self._context.program, self._context.open.session
        found = await asyncio.to_thread(arguments, typed, program, session)
        prompt = self._context.prompt
        if found and typed == prompt.text and not prompt.has_closed_suggestions:
            prompt.suggest(found)

    def _carry_out(self, command: SlashCommand) -> None:
        """Do what a command says. Raises WrongUse where nothing was done."""
        prompt, rest = self._context.prompt, command.rest
        match command.name:
            case "new" if rest.lower() in ("private", "-p"):
                self._run_action("new_private")
            case "model" if rest:
                self._sessions.use_model(rest)
            case "compare" if rest:
                self._compare(rest)
            case "system":
                self._sessions.open_settings(system=rest or None, at_system=True)
            case "set" if rest:
                self._set(rest)
            case "attach" if rest:
                prompt.attach([Path(rest.strip("\"'"))])
            case "attach":
                raise WrongUse(_("No file given."), _("Type /attach and a path, or drop a file or folder here."))
            case "import" if rest:
                self._sessions.import_chats(rest)
            case "find" if rest and not self._is_in_chat(rest):
                what = _('"{words}" was not found in this chat.').format(words=clean_line(rest, 60))
                raise WrongUse(what, _("To send a message that begins with /, type //."))
            case "find":
                self._find.start(rest)
            case name:
                self._run_action(_ACTIONS.get(name, name))

    def _set(self, words: str) -> None:
        """Set one parameter, such as `temperature 0.7`; without a value it follows the model. Raises WrongUse."""
        changed, name, value = set_by_name(self._context.open.session, words)
        self._sessions.change(changed)
        self._context.notify(labelled(name, _("model default") if value is None else value))

    def _is_in_chat(self, words: str) -> bool:
        return any(words.casefold() in message.text.casefold() for message in self._context.transcript.messages)
