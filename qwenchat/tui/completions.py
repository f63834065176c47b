"""What a half-typed slash command can become, and what Enter does with it. What follows a name: `tui.arguments`."""

from pathlib import Path

from msgspec import Struct

from qwenchat.i18n import _
from qwenchat.tui import slash_commands


class Completion(Struct, frozen=True):
    """One thing that the typed text can become."""

    text: str
    """The whole text afterwards."""
    label: str
    help: str = ""
    is_offer: bool = False
    """Whether it is only offered: Enter takes it where the user went to it, else it carries out what is typed."""
    path: Path | None = None
    """A file or folder that it attaches in place of what is typed; then the text is empty."""


def names(typed: str) -> list[Completion]:
    """Return the commands that begin with what is typed."""
    known = slash_commands.commands()
    return [
        Completion(
            f"/{name} " if slash_commands.takes_argument(name) else f"/{name}",
            f"/{name}",
            known.get(name) or f"→ /{slash_commands.canonical(name)}",
            is_offer=typed == f"/{name}",
        )
        for name in slash_commands.completions(typed)
    ]


def describe(typed: str) -> str:
    """Return what Enter does with a line that begins with a slash; empty for any other text."""
    if not typed.startswith("/") or "\n" in typed:
        return ""
    match slash_commands.parse(typed):
        case slash_commands.SlashCommand(name, rest):
            return _("Enter: {what}").format(what=_with_argument(name) if rest else slash_commands.commands()[name])
        case slash_commands.UnknownCommand(meant=meant) if meant:
            return _("No such command. Did you mean /{name}?").format(name=meant)
        case slash_commands.UnknownCommand():
            return _("No such command.")
        case _:
            return _("Enter: send this as a question")


def _with_argument(name: str) -> str:
    return {
        "new": _("new private chat"),
        "model": _("load this model"),
        "compare": _("ask this model the same question"),
        "system": _("open the chat settings with this system prompt"),
        "set": _("set this parameter (no value = default)"),
        "attach": _("attach this file or folder"),
        "import": _("import the chats in this file"),
        "find": _("find this text in this chat"),
    }[name]
