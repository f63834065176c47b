"""Every action of the chat, once: its keys, its words and where they work.

Bindings, the command palette, the help screen and the keymap of the settings are all made from `actions()`, which is
called when the language is known.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto

from textual.binding import Binding, BindingsMap

from qwenchat.errors import WrongUse
from qwenchat.i18n import _


class Where(Enum):
    """Which part of the screen must have the focus."""

    ANYWHERE = auto()
    MESSAGE = auto()
    """The transcript; the action is about the selected message, else the last one that it fits."""
    LIST = auto()
    """The list of sessions."""


@dataclass(frozen=True, slots=True)
class Action:
    """One action; `screen.action_<id>` carries it out. Ids are part of users' keymaps and never change."""

    id: str
    keys: str
    """Separated by commas; empty for the palette alone."""
    label: str
    help: str
    where: Where = Where.ANYWHERE

    @property
    def binding(self) -> Binding:
        """The action as Textual binds it; one that works anywhere has priority over the prompt's own keys."""
        anywhere = self.where is Where.ANYWHERE and self.id not in _NOT_FIRST
        tip = self.help
        return Binding(self.keys, f"screen.{self.id}", self.label, False, None, anywhere, tip, self.id)


_NOT_FIRST = ("escape",)
"""Actions whose keys other widgets may use first."""


def actions() -> tuple[Action, ...]:
    """Return all actions, in the order in which help shows them."""
    anywhere = (
        Action("help", "f1", _("Help"), _("Show all keys and commands")),
        Action("new", "ctrl+n", _("New chat"), _("Start a new chat")),
        Action("new_private", "f7", _("New private chat"), _("Start a chat that is never saved")),
        Action("models", "ctrl+o", _("Models"), _("Choose or download a model")),
        Action("downloads", "", _("Downloads"), _("See, pause, resume or cancel downloads")),
        Action("session_settings", "ctrl+t", _("Chat settings"), _("Model, system prompt and sampling of this chat")),
        Action("settings", "f2", _("Settings"), _("Settings of the program")),
        Action("themes", "f3", _("Theme"), _("Choose a theme")),
        Action("sidebar", "ctrl+b", _("Chats"), _("Show or hide the list of chats")),
        Action("search", "f4", _("Search"), _("Search the text of all chats")),
        Action("find", "ctrl+f", _("Find"), _("Find words in this chat")),
        Action("editor", "ctrl+g", _("Editor"), _("Write the question in your own editor")),
        Action("export", "ctrl+s", _("Export"), _("Export this chat")),
        Action("escape", "escape", _("Stop"), _("Stop the answer and keep its text; else back to the prompt")),
        Action("interrupt", "ctrl+c", _("Stop or copy"), _("Copy the selection, else stop the answer")),
        Action("retry", "ctrl+r", _("Answer again"), _("Answer the question once more; the old answer stays")),
        Action("messages", "f6", _("Messages"), _("Switch between the prompt and the messages")),
        Action("undo", "f8", _("Undo"), _("Undo the last deletion")),
        Action("stats", "", _("Statistics"), _("Tokens and speed of this chat")),
        Action("suspend", "ctrl+z", _("Suspend"), _("Put the program into the background")),
        Action("quit", "ctrl+q", _("Quit"), _("Quit the program; everything is saved")),
    )
    message = (
        Action("regenerate", "r", _("Answer again"), _("Answer this question once more")),
        Action("edit", "e", _("Edit and resend"), _("Ask this question again in other words")),
        Action("carry_on", "c", _("Continue"), _("Continue this answer where it ended")),
        Action("branch", "b", _("Branch from here"), _("Let the next question follow this message")),
        Action("copy", "y", _("Copy message"), _("Copy this message as Markdown")),
        Action("copy_code", "Y", _("Copy code"), _("Copy the last code block of this message")),
        Action("save_code", "s", _("Save code"), _("Save the last code block of this message to a file")),
        Action("quote", "q", _("Quote"), _("Quote this message in the prompt")),
        Action("delete", "d,delete", _("Delete message"), _("Delete this message and what follows it")),
        Action("copy_chat", "", _("Copy chat"), _("Copy this whole chat as Markdown")),
        Action("undo_message", "u", _("Undo"), _("Undo the last deletion")),
    )
    sessions = (
        Action("rename", "r", _("Rename chat"), _("Give the chat another title")),
        Action("suggest_title", "R", _("Suggest a title"), _("Let the model find a title for the chat")),
        Action("tag", "t", _("Tags"), _("Change the tags of the chat")),
        Action("pin", "p", _("Pin"), _("Pin the chat to the top of the list, or unpin it")),
        Action("duplicate", "d", _("Duplicate chat"), _("Make a copy of the chat")),
        Action("trash", "delete,x", _("Delete chat"), _("Move the chat to the trash")),
        Action("export_listed", "e", _("Export chat"), _("Export the chat")),
        Action("undo_list", "u", _("Undo"), _("Undo the last deletion")),
    )
    return (
        *anywhere,
        *(_in(Where.MESSAGE, action) for action in message),
        *(_in(Where.LIST, action) for action in sessions),
    )


def bindings(of: Iterable[Action], where: Where) -> BindingsMap:
    """Return the bindings of the actions that work in one part of the screen."""
    return BindingsMap([action.binding for action in of if action.where is where and action.keys])


def clashes(of: Iterable[Action], keymap: Mapping[str, str]) -> list[WrongUse]:
    """Return what is wrong with a keymap: unknown actions, and keys that two actions of one part would share."""
    known = {action.id: action for action in of}
    problems = [
        WrongUse(
            _("There is no action {name} to assign a key to.").format(name=name),
            _("F1 lists them all; correct [keys] in the settings."),
        )
        for name in keymap
        if name not in known
    ]
    taken: dict[tuple[Where, str], str] = {}
    for action in known.values():
        for key in keymap.get(action.id, action.keys).split(","):
            other = taken.setdefault((action.where, key.strip()), action.id)
            if key.strip() and other != action.id:
                problems.append(
                    WrongUse(
                        _("The key {key} is assigned to both {one} and {other}.").format(
                            key=key.strip(), one=other, other=action.id
                        ),
                        _("Assign another key to one of them in [keys] of the settings."),
                    )
                )
    return problems


def _in(where: Where, action: Action) -> Action:
    return Action(action.id, action.keys, label=action.label, help=action.help, where=where)
