"""Slash commands: what a line that begins with `/` means, and how a half-typed one is completed. Nothing is done here.

`//` at the beginning stands for one `/` and sends the rest. A path such as `/etc/hosts` and text of several lines are
not commands.
"""

import re
from dataclasses import dataclass

from qwenchat.i18n import _

ALIASES = {
    "bye": "quit",
    "exit": "quit",
    "q": "quit",
    "clear": "new",
    "reset": "new",
    "load": "model",
    "show": "stats",
    "info": "stats",
    "regen": "retry",
    "regenerate": "retry",
    "read": "attach",
    "file": "attach",
    "save": "export",
    "search": "find",
    "?": "help",
}
"""Names that users know from ollama and llama-cli, and the commands that they mean."""
_COMMAND = re.compile(r"/([a-zA-Z?]+)(?:[ \t]+(.*))?")


@dataclass(frozen=True, slots=True)
class TextToSend:
    """Text that is no command."""

    text: str


@dataclass(frozen=True, slots=True)
class SlashCommand:
    """A command of `commands` and what follows it."""

    name: str
    rest: str = ""


@dataclass(frozen=True, slots=True)
class UnknownCommand:
    """A command that does not exist."""

    name: str


def commands() -> dict[str, str]:
    """Return every command with what it does, in the user's language."""
    return {
        "new": _("new chat; /new private: one that is never saved"),
        "model": _("choose a model, or name one"),
        "downloads": _("show downloads"),
        "system": _("set the system prompt"),
        "set": _("set a sampling parameter, such as temperature 0.7"),
        "attach": _("add a text file to the question"),
        "export": _("export this chat"),
        "retry": _("answer again"),
        "edit": _("edit the last question"),
        "branch": _("continue from the selected message"),
        "find": _("find words in this chat"),
        "stats": _("tokens and speed of this chat"),
        "help": _("keys and commands"),
        "quit": _("quit the program"),
    }


def parse(typed: str) -> TextToSend | SlashCommand | UnknownCommand:
    """Return what the user means by what they typed."""
    if typed.startswith("//"):
        return TextToSend(typed[1:])
    found = _COMMAND.fullmatch(typed.strip())
    if not typed.startswith("/") or not found:
        return TextToSend(typed)
    name = found[1].lower()
    name = ALIASES.get(name, name)
    return SlashCommand(name, (found[2] or "").strip()) if name in commands() else UnknownCommand(found[1])


def completions(typed: str) -> list[str]:
    """Return the commands, aliases last, that begin with what is typed; nothing once there is more than a name."""
    if not re.fullmatch(r"/[a-zA-Z]*", typed):
        return []
    begun = typed[1:].lower()
    return [name for name in (*commands(), *ALIASES) if name.startswith(begun) and (begun or name not in ALIASES)]
