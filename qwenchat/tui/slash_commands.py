"""Slash commands: what a line that begins with `/` means. Nothing is done here.

A line is a command only where what follows the name fits that command: `/quit` ends the program, and `/quit smoking,
how?` is a question. `//` at the beginning stands for one `/` and sends the rest. A path such as `/etc/hosts` and text
of several lines are not commands.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from qwenchat.errors import FileError
from qwenchat.i18n import _
from qwenchat.paths import expand_home
from qwenchat.tui import parameters

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
_ALIKE = 0.75
"""From this likeness on (0 to 1) a word is taken for a mistyped name."""


class TextToSend(Struct, frozen=True):
    """Text that is no command."""

    text: str


class SlashCommand(Struct, frozen=True):
    """A command of `commands` and what follows it."""

    name: str
    rest: str = ""


class UnknownCommand(Struct, frozen=True):
    """A command that does not exist."""

    name: str
    meant: str = ""
    """The command that is probably meant; empty where nothing resembles it."""


def commands() -> dict[str, str]:
    """Return every command with what it does, in the user's language."""
    return {
        "new": _("start a new chat (/new private: one that is not saved)"),
        "model": _("choose a model, or type its name"),
        "downloads": _("show downloads"),
        "system": _("edit the system prompt, or use a saved one"),
        "set": _("set a sampling parameter, such as temperature 0.7"),
        "attach": _("attach a file or folder"),
        "docs": _("see the documents of this chat, and choose how they are read"),
        "export": _("export this chat"),
        "import": _("import chats from files"),
        "trash": _("restore deleted chats"),
        "tools": _("see the tools that the model may call, and allow or deny them"),
        "engines": _("add, test or remove engines on other machines"),
        "retry": _("answer again"),
        "edit": _("edit the last question"),
        "compact": _("let a summary stand for the oldest messages"),
        "compare": _("compare the answer with that of a second model"),
        "branch": _("continue from the selected message"),
        "branches": _("list the branches of this chat"),
        "find": _("find text in this chat"),
        "stats": _("show words, tokens and speed of this chat"),
        "help": _("show keys and commands"),
        "quit": _("quit the program"),
    }


def parse(typed: str) -> TextToSend | SlashCommand | UnknownCommand:
    """Return what the user means by what they typed."""
    if typed.startswith("//"):
        return TextToSend(typed[1:])
    found = _COMMAND.fullmatch(typed.strip())
    if not typed.startswith("/") or not found:
        return TextToSend(typed)
    name, rest = canonical(found[1]), (found[2] or "").strip()
    if name in commands():
        return SlashCommand(name, rest) if _fits(name, rest) else TextToSend(typed)
    meant = _nearest(name, [*commands(), *ALIASES])
    if meant or not (rest or _exists(typed.strip())):
        return UnknownCommand(found[1], meant)
    return TextToSend(typed)


def canonical(name: str) -> str:
    """Return the command that a name or an alias stands for; an unknown one as it is, in lower case."""
    name = name.lower()
    return ALIASES.get(name, name)


def completions(typed: str) -> list[str]:
    """Return the commands, aliases last, that begin with what is typed; nothing once there is more than a name."""
    if not re.fullmatch(r"/[a-zA-Z]*", typed):
        return []
    begun = typed[1:].lower()
    return [name for name in (*commands(), *ALIASES) if name.startswith(begun) and (begun or name not in ALIASES)]


def takes_argument(name: str) -> bool:
    """Return whether anything may follow a command."""
    return canonical(name) in _FITTING


def file_named(rest: str) -> Path:
    """Return the path that follows a command, with or without quotes. Raises FileError for an unknown home."""
    return expand_home(rest.strip("\"'"))


def _fits(name: str, rest: str) -> bool:
    """Return whether what follows a command can be meant for it; nothing always can."""
    return not rest or (name in _FITTING and _FITTING[name](rest))


def _is_word(rest: str) -> bool:
    return len(rest.split()) == 1


def _is_model(rest: str) -> bool:
    return _is_word(rest) or _is_file(rest)


def _is_file(rest: str) -> bool:
    try:
        return file_named(rest).is_file()
    except (FileError, OSError):
        return False


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:  # such as for a name that is too long
        return False


def _is_path(rest: str) -> bool:
    """Return whether words can be a path: one word, a path that is there, or words that end as a path does."""
    quoted = rest[0] in "\"'" and rest[-1] == rest[0]
    return _is_word(rest) or quoted or _exists(rest) or bool(re.search(r"[/\\]|\.\w{1,8}$", rest))


def _nearest(name: str, names: Sequence[str]) -> str:
    """Return the name that a mistyped one most likely stands for; empty where none is like it."""
    from difflib import get_close_matches  # noqa: PLC0415 - the screen is drawn without it

    return next(iter(get_close_matches(name, names, 1, _ALIKE)), "")


def _is_setting(rest: str) -> bool:
    """Return whether words are a parameter, even a mistyped one, and at most one value."""
    name, *values = rest.removeprefix("parameter ").replace("=", " ").split()
    alike = _nearest(name.replace("-", "_"), parameters.names())
    return not values or (len(values) == 1 and bool(alike or re.fullmatch(r"-?[\d.]+", values[0])))


_FITTING: Mapping[str, Callable[[str], bool]] = {
    "new": lambda rest: rest.lower() in ("private", "-p"),
    "model": _is_model,
    "compare": _is_model,
    "system": lambda _rest: True,
    "set": _is_setting,
    "attach": _is_path,
    "import": _is_path,
    "find": lambda _rest: True,
}
"""By command, what may follow it; nothing may follow the others."""
