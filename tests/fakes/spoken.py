"""Whether what a text says about the program is true of it: commands and options, slash commands, settings, keys."""

import re
import shlex

import click
from click.exceptions import Exit, NoArgsIsHelpError

from qwenchat import config
from qwenchat.cli.main import root
from qwenchat.tui import slash_commands
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
    "t": "rename",
    "T": "suggest_title",
    "p": "pin",
    "Delete": "trash",
    "Ctrl+S": "export",
    "F5": "allow_once",
    "Shift+F5": "allow_chat",
    "F12": "refuse",
    "Tab": "complete",
    "Space": "switch_file",
    "o": "show_source",
    "v": "compare",
    "B": "branches",
    "w": "withdraw",
}
"""Keys that texts name, and the actions that they stand for; empty for keys that are no action's."""
SHARED = {"d": {"delete", "trash", "remove_file"}}
"""Keys that do the same to a message, to a chat and to an attached file."""


_SETTINGS = config.Settings(tools=config.ToolSettings(policy={"read_file": "allow"}))
"""Settings with the tool that texts use as their example."""


def spans(text: str) -> list[str]:
    """Return what stands in backticks."""
    return re.findall(r"`([^`]+)`", text)


def problem(span: str) -> str:
    """Return what is not true of the program in a span of code; empty where all is well or nothing is claimed."""
    if "qwenchat" in span.split():
        return command_problem(span[span.index("qwenchat") :])
    if span.startswith("--"):
        return "" if span.split(maxsplit=1)[0] in options_of(root) else f"no command has {span.split(maxsplit=1)[0]}"
    if re.fullmatch(r"/[a-z]+( .*)?", span):
        return "" if span[1:].split(maxsplit=1)[0] in slash_commands.commands() else f"no slash command {span}"
    if re.fullmatch(r"[a-z]+\.[a-z_]+", span) and span.partition(".")[0] in _sections():
        return "" if span in config.names() else f"no setting {span}"
    return key_problem(span) if re.fullmatch(r"(Ctrl|Alt|Shift)\+\w+|F\d+|[A-Za-z]|[A-Z][a-z]+", span) else ""


def command_problem(line: str) -> str:
    """Return what is wrong with a command line: an unknown command, option or setting."""
    words = shlex.split(line.split(" | ", maxsplit=1)[0])[1:]
    if words[:2] in (["config", "set"], ["config", "get"]) and words[2:] and words[2].islower():
        return "" if words[2] in config.names(_SETTINGS) else f"no setting {words[2]}"
    try:
        parse(words, whole=False)
    except (Exit, NoArgsIsHelpError):
        return ""
    except click.UsageError as error:
        return f"{line}: {error.message}"
    return ""


def parse(arguments: list[str], *, whole: bool) -> None:
    """Let click read a command without running it; `whole` asks for its arguments too. Raises click.UsageError."""
    command: click.Command | None = root
    name, parent = "qwenchat", None
    while isinstance(command, click.Group):
        with click.Context(command, parent, **command.context_settings) as bare:
            rest = command.make_parser(bare).parse_args(list(arguments))[1]
        parent = command.make_context(name, list(arguments), parent=parent)
        if not rest:
            return
        name, *arguments = rest
        command = command.get_command(parent, name)
    if command is None:
        raise click.UsageError(f"There is no command {name}.")
    try:
        command.make_context(name, list(arguments), parent=parent)
    except click.MissingParameter:
        if whole:
            raise


def options_of(command: click.Command) -> set[str]:
    """Return the options of a command and of all below it."""
    found = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    if isinstance(command, click.Group):
        with click.Context(command) as context:
            for name in command.list_commands(context):
                found |= options_of(command.get_command(context, name) or command)
    return found


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
