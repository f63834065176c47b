"""Whether what a text says about the program is true of it: commands and options, slash commands, settings, keys."""

import re
import shlex

import click

from qwenchat import config
from qwenchat.cli.main import root
from qwenchat.tui import slash
from qwenchat.tui.actions import Where, actions

KEYS = {
    "Ctrl+P": "",  # Textual's own palette
    "Enter": "",
    "Ctrl+J": "",
    "Shift+Enter": "",
    "Up": "",
    "Left": "",
    "Right": "",
    "Ctrl+C": "interrupt",
    "Ctrl+Q": "quit",
    "Ctrl+Z": "suspend",
    "F1": "help",
    "Ctrl+O": "models",
    "Ctrl+N": "new",
    "F7": "new_private",
    "Escape": "escape",
    "Ctrl+R": "retry",
    "F6": "messages",
    "e": "edit",
    "c": "carry_on",
    "b": "branch",
    "y": "copy",
    "Y": "copy_code",
    "s": "save_code",
    "q": "quote",
    "Ctrl+G": "editor",
    "F8": "undo",
    "Ctrl+F": "find",
    "F4": "search",
    "Ctrl+B": "sidebar",
    "F3": "themes",
    "F2": "settings",
    "Ctrl+T": "session_settings",
    "r": "rename",
    "R": "suggest_title",
    "t": "tag",
    "p": "pin",
    "Delete": "trash",
    "Ctrl+S": "export",
}
"""Keys that texts name, and the actions that they stand for; empty for keys that are no action's."""
SHARED = {"d": {"delete", "duplicate"}}
"""Keys that mean one thing on a message and another in the list."""


def spans(text: str) -> list[str]:
    """Return what stands in backticks."""
    return re.findall(r"`([^`]+)`", text)


def problem(span: str) -> str:
    """Return what is not true of the program in a span of code; empty where all is well or nothing is claimed."""
    if "qwenchat" in span.split():
        return command_problem(span[span.index("qwenchat") :])
    if span.startswith("--"):
        return "" if span.split(maxsplit=1)[0] in _all_options(root) else f"no command has {span.split(maxsplit=1)[0]}"
    if re.fullmatch(r"/[a-z]+( .*)?", span):
        return "" if span[1:].split(maxsplit=1)[0] in slash.commands() else f"no slash command {span}"
    if re.fullmatch(r"[a-z]+\.[a-z_]+", span) and span.partition(".")[0] in _sections():
        return "" if span in config.names() else f"no setting {span}"
    return key_problem(span) if re.fullmatch(r"(Ctrl|Alt|Shift)\+\w+|F\d+|[A-Za-z]|[A-Z][a-z]+", span) else ""


def command_problem(line: str) -> str:
    """Return what is wrong with a command line: an unknown command, option or setting."""
    words = shlex.split(line.split(" | ", maxsplit=1)[0])[1:]
    command: click.Command = root
    path = ["qwenchat"]
    takes_value = _options(root)
    is_value = False
    for word in words:
        if is_value:
            is_value = False
        elif word.startswith("-") and word != "-":
            name, equals, _value = word.partition("=")
            if name not in takes_value and name not in ("-h", "--help"):
                return f"{' '.join(path)} has no {name}"
            is_value = not equals and takes_value.get(name, False)
        elif isinstance(command, click.Group):
            found = command.get_command(click.Context(command), word)
            if found is None:
                return f"{' '.join(path)} has no {word}"
            command, takes_value = found, _options(found)
            path.append(word)
        elif path[1:] in (["config", "set"], ["config", "get"]) and word == words[2] and word.islower():
            return "" if word in config.names() else f"no setting {word}"
    return ""


def key_problem(key: str) -> str:
    """Return what is wrong with a key's name: unknown, or bound to another action than `KEYS` says."""
    bound = {action.id: action.keys.split(",") for action in actions()}
    wanted = SHARED.get(key) or {KEYS.get(key, "?")}
    if wanted == {"?"}:
        return f"{key} is not a known key"
    typed = key.lower() if len(key) > 1 else key
    missing = [action for action in wanted if action and typed not in bound.get(action, ())]
    return f"{key} is no longer {missing[0]}" if missing else ""


def key_clashes() -> list[str]:
    """Return keys of `KEYS` that another action of the same place took."""
    places: dict[tuple[Where, str], str] = {}
    for action in actions():
        for key in filter(None, action.keys.split(",")):
            places.setdefault((action.where, key), action.id)
    ids = {action.id: action.where for action in actions()}
    return [
        key
        for key, action in KEYS.items()
        if action and places.get((ids[action], key.lower() if len(key) > 1 else key)) != action
    ]


def _sections() -> set[str]:
    return {name.partition(".")[0] for name in config.names() if "." in name}


def _options(command: click.Command) -> dict[str, bool]:
    """Return the options, and of each whether a value follows it."""
    options = [one for one in command.params if isinstance(one, click.Option)]
    return {name: not one.is_flag for one in options for name in (*one.opts, *one.secondary_opts)}


def _all_options(command: click.Command) -> set[str]:
    found = set(_options(command))
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            found |= _all_options(inner) if inner else set()
    return found
