"""Every key and action of the chat, once: its keys, its words, and the mode in which it works.

The part of the screen that has the focus is the mode: letters are text in the prompt and commands on the messages and
in the list. Bindings, the footer, the command palette, the help screen, the pages and the keymap of the settings are
all made from `actions()`, which is called when the language is known.
"""

from collections.abc import Callable, Iterable, Mapping
from enum import Enum, auto

from msgspec import Struct
from textual.binding import Binding, BindingsMap

from qwenchat.errors import WrongUse
from qwenchat.i18n import _

Method = Callable[[], object]
"""What carries out an action; what it returns is awaited if it can be."""
Methods = Mapping[str, Method]
"""Methods by the ids of their actions."""


class Where(Enum):
    """Which part of the screen must have the focus."""

    ANYWHERE = auto()
    PROMPT = auto()
    MESSAGE = auto()
    """The transcript; the action is about the selected message, else the last one that it fits."""
    LIST = auto()
    """The list of sessions."""
    PAGE = auto()
    """The text of a document beside the answer."""
    CHIP = auto()
    """The files above the prompt; the action is about the selected one."""


class Action(Struct, frozen=True):
    """One action. Ids are part of users' keymaps and never change."""

    id: str
    keys: str
    """Separated by commas; empty for the palette alone."""
    label: str
    help: str
    where: Where = Where.ANYWHERE
    foot: str = ""
    """Its words in the footer; empty for an action that is not shown there."""
    run: str = ""
    """What the focused widget does, such as `cursor_up`; empty for what a controller of the chat does."""
    stays: bool = False
    """Whether the focus stays where it is, or goes where the action says; else the prompt has it afterwards."""

    @property
    def binding(self) -> Binding:
        """The action as Textual binds it: carried out before the next key is looked at, which may then be text."""
        first = self.id not in _NOT_FIRST
        run = self.run or f"screen.{self.id}"
        return Binding(self.keys, run, self.label, show=False, priority=first, tooltip=self.help, id=self.id)


MENU_BUTTON = 3
"""The mouse button that opens a menu, which is the right one."""
_NOT_FIRST = ("escape",)
"""Actions whose keys other widgets may use first."""
_KEY_NAMES = {
    "escape": "Esc",
    "f22": "Shift+F10",  # as terminals send it
    "pageup": "PgUp",
    "pagedown": "PgDn",
    "slash": "/",
    "left": "←",
    "right": "→",
    "up": "↑",
    "down": "↓",
}


def key_name(key: str) -> str:
    """Return a key as keyboards name it: `ctrl+o` is Ctrl+O; a character alone stays as it is."""
    if len(key) == 1:
        return key
    *held, last = key.split("+")
    return "+".join([*(part.capitalize() for part in held), _KEY_NAMES.get(last) or last.capitalize()])


def key_names(keys: str) -> list[str]:
    """Return the keys of a list with commas, each as keyboards name it."""
    return list(dict.fromkeys(key_name(key.strip()) for key in keys.split(",") if key.strip()))


def actions() -> tuple[Action, ...]:
    """Return all actions, in the order in which help and footer show them."""
    return (*_anywhere(), *_in_prompt(), *_on_file(), *_on_message(), *_on_page(), *_in_list())


def _anywhere() -> tuple[Action, ...]:
    return (
        Action("help", "f1", _("Help"), _("Show all keys and commands")),
        Action(
            "palette",
            "ctrl+p",
            _("Palette"),
            _("Find an action, a chat, a model, a theme or a setting by its words"),
            stays=True,
        ),
        Action("new", "ctrl+n", _("New chat"), _("Start a new chat")),
        Action("new_private", "f7", _("New private chat"), _("Start a chat that is never saved")),
        Action("models", "ctrl+o", _("Models"), _("Choose or download a model")),
        Action("engines", "", _("Engines"), _("Add, test or remove engines on other machines")),
        Action("tools", "", _("Tools"), _("See the tools that the model may call, and what happens when it does")),
        Action("toggle_tools", "", _("Tools on or off"), _("Let the model of this chat call tools, or do not")),
        Action(
            "docs", "", _("Documents"), _("See the documents of this chat, and choose how they are read"), stays=True
        ),
        Action("collections", "", _("Collections"), _("Make, update or remove collections of documents")),
        Action("read_less", "", _("Only search"), _("Stop reading the documents, and answer from a search in them")),
        Action("downloads", "", _("Downloads"), _("See, pause, resume or cancel downloads")),
        Action("session_settings", "ctrl+t", _("Chat settings"), _("Model, system prompt and sampling of this chat")),
        Action("settings", "f2", _("Settings"), _("Settings of the program")),
        Action("themes", "f3", _("Theme"), _("Choose a theme")),
        Action("sidebar", "ctrl+b", _("Chat list"), _("Show or hide the chat list"), stays=True),
        Action("search", "f4", _("Search"), _("Search the text of all chats"), stays=True),
        Action("find", "ctrl+f", _("Find"), _("Find text in this chat"), stays=True),
        Action("editor", "ctrl+g", _("Editor"), _("Write the question in your editor")),
        Action("unfold", "f9", _("Open paste"), _("Show a folded paste as text")),
        Action("export", "ctrl+s", _("Export"), _("Export this chat")),
        Action("import_chats", "", _("Import chats"), _("Import chats of qwenchat or other programs from files")),
        Action("open_trash", "", _("Trash"), _("Restore deleted chats, or delete them permanently")),
        Action(
            "escape",
            "escape",
            _("Stop"),
            _("Stop the answer (its text stays); otherwise go back to the prompt"),
            stays=True,
        ),
        Action("interrupt", "ctrl+c", _("Stop or copy"), _("Copy the selection, or stop the answer"), stays=True),
        Action("retry", "ctrl+r", _("Answer again"), _("Answer the question again; the old answer stays")),
        Action(
            "messages", "f6", _("Next area"), _("Move between the prompt, the messages and the chat list"), stays=True
        ),
        Action("page_up", "pageup", _("Page up"), _("Scroll the messages up"), stays=True),
        Action("page_down", "pagedown", _("Page down"), _("Scroll the messages down"), stays=True),
        Action("to_start", "ctrl+home", _("Go to start"), _("Scroll to the first message"), stays=True),
        Action("to_end", "ctrl+end", _("Go to end"), _("Scroll to the last message and follow new text"), stays=True),
        Action("slash", "", _("Slash commands"), _("List the commands that start with a slash"), stays=True),
        Action(
            "menu",
            "shift+f10,f22,menu",
            _("Menu"),
            _("Show the actions available here, like a right click"),
            stays=True,
        ),
        Action("allow_once", "f5", _("Allow call once"), _("Let the tool run that waits for your decision")),
        Action(
            "allow_chat",
            "shift+f5,f17",
            _("Allow tool in this chat"),
            _("Let the tool run that waits for your decision, and no longer ask about it in this chat"),
        ),
        Action(
            "refuse", "f12", _("Refuse call"), _("Refuse the tool that waits for your decision; the model reads why")
        ),
        Action("undo", "f8", _("Undo"), _("Undo the last deletion or branch")),
        Action(
            "compact",
            "",
            _("Summarise oldest messages"),
            _("Let the model summarise the oldest messages, so that the chat fits again; they stay on another branch"),
        ),
        Action("stats", "", _("Statistics"), _("Words, tokens and speed of this chat")),
        Action("suspend", "ctrl+z", _("Suspend"), _("Send the program to the background"), stays=True),
        Action("quit", "ctrl+q", _("Quit"), _("Quit the program; everything is saved"), stays=True),
    )


def _in_prompt() -> tuple[Action, ...]:
    words = (
        ("send", "enter", _("Send"), _("Send the question or run the command"), _("send")),
        ("new_line", "ctrl+j,shift+enter,alt+enter", _("New line"), _("Start a new line"), _("new line")),
        ("complete", "tab", _("Complete"), _("Complete a command or a path; otherwise go to the files above"), ""),
        ("cursor_up", "up", _("Up"), _("Line up; on the first line, the previous question"), ""),
        ("cursor_down", "down", _("Down"), _("Line down; on the last line, the next question"), ""),
        ("quit_empty", "ctrl+d", _("Quit"), _("Quit when the prompt is empty"), ""),
    )
    return tuple(
        Action(id, keys, label, help, where=Where.PROMPT, foot=foot, run=id, stays=True)
        for id, keys, label, help, foot in words
    )


def _on_file() -> tuple[Action, ...]:
    words = (
        ("next_file", "l,right", _("Next file"), _("Select the next file"), "", "select_chip(1)"),
        ("previous_file", "h,left", _("Previous file"), _("Select the previous file"), "", "select_chip(-1)"),
        (
            "open_file",
            "enter",
            _("Show text"),
            _("Show the text of this file, or what a folder has"),
            _("show text"),
            "wish('open')",
        ),
        (
            "switch_file",
            "space",
            _("Whole or in parts"),
            _("Let the model read this file whole, or only the parts that matter"),
            _("whole/in parts"),
            "wish('switch')",
        ),
        (
            "remove_file",
            "d,delete,backspace",
            _("Remove file"),
            _("Do not send this file"),
            _("remove"),
            "wish('remove')",
        ),
    )
    return tuple(
        Action(id, keys, label, help, where=Where.CHIP, foot=foot, run=run, stays=True)
        for id, keys, label, help, foot, run in words
    )


def _on_message() -> tuple[Action, ...]:
    moves = (
        ("next_message", "j,alt+down", _("Next message"), _("Select the next message"), "select_step(1)"),
        ("previous_message", "k,alt+up", _("Previous message"), _("Select the previous message"), "select_step(-1)"),
        ("first_message", "g,home", _("First message"), _("Go to the first message"), "select_end(-1)"),
        ("last_message", "G,end", _("Last message"), _("Go to the last message and follow new text"), "select_end(1)"),
        ("page", "space", _("Page down"), _("Scroll the messages down"), "page_down"),
        ("previous_variant", "h,left", _("Previous variant"), _("Show the previous variant"), "variant(-1)"),
        ("next_variant", "l,right", _("Next variant"), _("Show the next variant"), "variant(1)"),
        (
            "reasoning",
            "enter",
            _("Unfold"),
            _("Show or hide reasoning, calls of tools, sources or a summary"),
            "unfold_message",
        ),
        ("next_match", "n", _("Next match"), _("Go to the next match of the search"), "find_step(1)"),
        ("previous_match", "N", _("Previous match"), _("Go to the previous match of the search"), "find_step(-1)"),
    )
    commands = (
        ("regenerate", "r", _("Answer again"), _("Answer this question again"), _("answer again")),
        ("edit", "e", _("Edit and resend"), _("Change this question and send it again"), _("edit")),
        ("carry_on", "c", _("Continue"), _("Continue this answer from its end"), _("continue")),
        ("branch", "b", _("Branch from here"), _("Ask the next question after this message"), _("branch")),
        ("branches", "B", _("Branches"), _("List the branches of this chat and open one"), ""),
        ("compare", "v", _("Compare"), _("Show two answers to this question side by side"), ""),
        ("copy", "y", _("Copy message"), _("Copy this message as Markdown"), _("copy")),
        ("copy_code", "Y", _("Copy code"), _("Copy the last code block of this message"), ""),
        ("save_code", "s", _("Save code"), _("Save the last code block of this message to a file"), ""),
        ("quote", "q", _("Quote"), _("Quote this message in the prompt"), ""),
        ("delete", "d,delete", _("Delete message"), _("Delete this message and everything after it"), _("delete")),
        ("original", "O", _("Show the original"), _("Show the messages that this summary stands for"), ""),
        ("withdraw", "w", _("Take back"), _("Take a waiting question back into the prompt"), ""),
        ("copy_chat", "", _("Copy chat"), _("Copy this whole chat as Markdown"), ""),
        ("timestamps", "", _("Timestamps"), _("Show or hide the time of each message"), ""),
        ("undo_message", "u", _("Undo"), _("Undo the last deletion or branch"), ""),
    )
    feet = {"next_message": _("next"), "previous_message": _("previous")}
    return (
        *(
            Action(id, keys, label, help, where=Where.MESSAGE, foot=feet.get(id, ""), run=run, stays=True)
            for id, keys, label, help, run in moves
        ),
        *(Action(id, keys, label, help, where=Where.MESSAGE, foot=foot) for id, keys, label, help, foot in commands),
        Action(
            "show_source",
            "o",
            _("Open source"),
            _("Show the page of the document that the answer cites"),
            where=Where.MESSAGE,
            stays=True,
        ),
    )


def _on_page() -> tuple[Action, ...]:
    words = (
        ("page_line_down", "j,down", _("Line down"), _("Scroll the document down"), "", "scroll_down"),
        ("page_line_up", "k,up", _("Line up"), _("Scroll the document up"), "", "scroll_up"),
        ("page_screen_down", "space", _("Screen down"), _("Scroll the document down by a screen"), "", "page_down"),
        ("document_start", "g,home", _("Start"), _("Go to the start of the document"), "", "scroll_home"),
        ("document_end", "G,end", _("End"), _("Go to the end of the document"), "", "scroll_end"),
        ("next_page", "l,right", _("Next page"), _("Go to the next page"), _("next page"), "turn_page(1)"),
        ("previous_page", "h,left", _("Previous page"), _("Go to the page before"), _("page before"), "turn_page(-1)"),
        ("next_source", "s", _("Next source"), _("Show the next source of the answer"), _("next source"), ""),
        ("previous_source", "S", _("Previous source"), _("Show the source before"), "", ""),
        ("find_in_page", "slash", _("Find"), _("Find text in this document"), _("find"), ""),
        ("next_page_match", "n", _("Next match"), _("Go to the next match of the search"), "", "find_step(1)"),
        (
            "previous_page_match",
            "N",
            _("Previous match"),
            _("Go to the previous match of the search"),
            "",
            "find_step(-1)",
        ),
        ("close_page", "q", _("Close"), _("Close the document"), "", ""),
    )
    return tuple(
        Action(id, keys, label, help, where=Where.PAGE, foot=foot, run=run, stays=True)
        for id, keys, label, help, foot, run in words
    )


def _in_list() -> tuple[Action, ...]:
    moves = (
        ("open_listed", "enter", _("Open chat"), _("Open the chat"), "select"),
        ("next_listed", "j,down", _("Next chat"), _("Go to the next chat"), "cursor_down"),
        ("previous_listed", "k,up", _("Previous chat"), _("Go to the previous chat"), "cursor_up"),
        ("first_listed", "g,home", _("First chat"), _("Go to the first chat"), "first"),
        ("last_listed", "G,end", _("Last chat"), _("Go to the last chat in the list"), "last"),
    )
    commands = (
        ("rename", "t", _("Rename chat"), _("Change the title of the chat"), _("title")),
        ("suggest_title", "T", _("Suggest a title"), _("Let the model suggest a title for the chat"), ""),
        ("tag", "#", _("Tags"), _("Change the tags of the chat"), _("tags")),
        ("pin", "p", _("Pin"), _("Pin the chat to the top of the list, or unpin it"), _("pin")),
        ("duplicate", "+", _("Duplicate chat"), _("Make a copy of the chat"), _("duplicate")),
        ("trash", "d,delete", _("Delete chat"), _("Move the chat to the trash"), _("delete")),
        ("export_listed", "x", _("Export chat"), _("Export the chat"), _("export")),
        ("undo_list", "u", _("Undo"), _("Undo the last deletion or branch"), ""),
    )
    feet = {"open_listed": _("open")}
    return (
        *(
            Action(id, keys, label, help, where=Where.LIST, foot=feet.get(id, ""), run=run, stays=True)
            for id, keys, label, help, run in moves
        ),
        *(Action(id, keys, label, help, where=Where.LIST, foot=foot) for id, keys, label, help, foot in commands),
    )


class FixedKeys(Struct, frozen=True):
    """Keys of fields, lists, dialogs and the mouse, which the keymap can't change; help shows them."""

    place: str
    keys: str
    """Separated by commas, as Textual names them; words for the mouse."""
    words: str


def fixed_keys() -> tuple[FixedKeys, ...]:
    """Return them in the order in which help shows them, each place once."""
    writing, searching, dialogs, mouse = _("Writing"), _("Searching"), _("Dialogs and menus"), _("Mouse")
    return (
        FixedKeys(_("Attaching"), "@", _("Find a file or folder by a few letters, and attach it")),
        FixedKeys(writing, "ctrl+left,ctrl+right", _("A word to the left or right")),
        FixedKeys(writing, "home,ctrl+a", _("Start of the line")),
        FixedKeys(writing, "end,ctrl+e", _("End of the line")),
        FixedKeys(writing, "shift+left,shift+right,shift+up,shift+down", _("Select")),
        FixedKeys(writing, "ctrl+x", _("Cut")),
        FixedKeys(writing, "ctrl+v", _("Paste")),
        FixedKeys(writing, "ctrl+w", _("Delete the word to the left")),
        FixedKeys(writing, "ctrl+u", _("Delete to the start of the line")),
        FixedKeys(writing, "ctrl+k", _("Delete up to the end of the line")),
        FixedKeys(searching, "up,down", _("Walk through what was found in all chats")),
        FixedKeys(searching, "enter", _("Open the match; in this chat, go to the previous one")),
        FixedKeys(searching, "escape", _("Back to where you were")),
        FixedKeys(dialogs, "tab,shift+tab", _("Next or previous field")),
        FixedKeys(dialogs, "up,down,pageup,pagedown,home,end", _("Move in a list")),
        FixedKeys(dialogs, "enter", _("Choose, or press the button")),
        FixedKeys(dialogs, "escape", _("Close")),
        FixedKeys(mouse, _("drag"), _("Select text; Ctrl+C copies it")),
        FixedKeys(mouse, _("double click"), _("Select a word; three clicks select a paragraph")),
        FixedKeys(mouse, _("right click"), _("Menu of a message, a chat or the header")),
    )


def places() -> dict[Where, str]:
    """Return the heading of each mode, as help and pages show it."""
    return {
        Where.ANYWHERE: _("Anywhere"),
        Where.PROMPT: _("In the prompt"),
        Where.CHIP: _("On an attached file"),
        Where.MESSAGE: _("On a message"),
        Where.PAGE: _("On a page of a document"),
        Where.LIST: _("In the chat list"),
    }


def key_of(action: Action, keymap: Mapping[str, str]) -> str:
    """Return the first key that an action has now, as keyboards name it; empty for an action without one."""
    keys = keymap.get(action.id) or action.keys
    return key_name(keys.split(",")[0].strip()) if keys else ""


def bindings(of: Iterable[Action], where: Where) -> BindingsMap:
    """Return the bindings of the actions that work in one part of the screen."""
    return BindingsMap([action.binding for action in of if action.where is where and action.keys])


def clashes(of: Iterable[Action], keymap: Mapping[str, str]) -> list[WrongUse]:
    """Return what is wrong with a keymap: unknown actions, and keys that two actions of one part would share."""
    known = {action.id: action for action in of}
    problems = [
        WrongUse(
            _('No action named "{name}" to assign a key to.').format(name=name),
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
