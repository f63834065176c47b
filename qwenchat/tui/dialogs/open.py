"""Opens the dialogs; each is imported when it is first wanted, so that the chat itself opens at once."""

# ruff: noqa: PLC0415

from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from typing import TYPE_CHECKING

from msgspec import Struct
from textual.screen import ModalScreen

from qwenchat.chat.message import Message
from qwenchat.chat.session import Session
from qwenchat.chat.tree import Branch
from qwenchat.i18n import _, labelled
from qwenchat.runtime.program import Program
from qwenchat.tui.actions import Action, fixed_keys, key_names, places

if TYPE_CHECKING:
    from textual.geometry import Offset

    from qwenchat.chat.ports import ModelInfo
    from qwenchat.documents.levels.choice import Speed
    from qwenchat.runtime.downloads import BackgroundDownloads
    from qwenchat.runtime.session_documents import SessionDocuments
    from qwenchat.runtime.session_tools import SessionTools
    from qwenchat.tui.attached import Attached
    from qwenchat.tui.dialogs.compare import CompareScreen
    from qwenchat.tui.dialogs.documents import DocumentChoice
    from qwenchat.tui.model_names import ModelNames


class Consent(Enum):
    """What the user chose when asked whether a chat may be sent to another machine."""

    SEND = auto()
    OTHER_MODEL = auto()


class MenuItem(Struct, frozen=True):
    """An action that can be chosen from a menu."""

    action: str
    """The id."""
    label: str
    key: str
    """As Textual names it; empty for none."""


def welcome(
    program: Program, downloads: "BackgroundDownloads", use_engines: Callable[[], object]
) -> ModalScreen[str | None]:
    """Return the screen of the first run; it gives a model reference, and calls `use_engines` when those change."""
    from qwenchat.tui.dialogs.model import WelcomeScreen

    return WelcomeScreen(program, downloads, use_engines)


def models(
    program: Program, current: str, downloads: "BackgroundDownloads", use_engines: Callable[[], object]
) -> ModalScreen[str | None]:
    """Return the model picker; it gives a model reference, and calls `use_engines` when those change."""
    from qwenchat.tui.dialogs.model import ModelScreen

    return ModelScreen(program, current, downloads, use_engines)


def consent(
    host: str,
    model: str,
    branch: Sequence[Message],
    *,
    system: bool,
    collections: Sequence[str],
    is_encrypted: bool,
    other_model: bool,
) -> ModalScreen[Consent | None]:
    """Return the question whether a branch may be sent to another machine; `other_model` can be offered instead."""
    from qwenchat.tui.dialogs.consent import ConsentScreen

    return ConsentScreen(
        host,
        model,
        branch,
        system=system,
        collections=collections,
        is_encrypted=is_encrypted,
        other_model=other_model,
    )


def engines(program: Program) -> ModalScreen[bool]:
    """Return the list of the engines elsewhere; it gives whether any was changed."""
    from qwenchat.tui.dialogs.engines import EnginesScreen

    return EnginesScreen(program)


def engine(program: Program, name: str, *, test: bool, at_key: bool) -> ModalScreen[bool]:
    """Return the settings of an engine, or of a new one without a name; it gives whether they were changed.

    It opens `at_key`, or tests the engine at once.
    """
    from qwenchat.tui.dialogs.engines import EngineScreen

    return EngineScreen(program, name, test=test, at_key=at_key)


def downloads(of: "BackgroundDownloads") -> ModalScreen[None]:
    """Return the list of downloads."""
    from qwenchat.tui.dialogs.downloads import DownloadsScreen

    return DownloadsScreen(of)


def session(program: Program, of: Session, model: str, *, at_system: bool) -> ModalScreen[Session | None]:
    """Return the settings of a session, whose model has the name `model`; it gives the session as it should be.

    It opens at the title, or `at_system` at the system prompt.
    """
    from qwenchat.tui.dialogs.session import SessionScreen

    return SessionScreen(program, of, model, at_system=at_system)


def branches(of: Sequence[Branch], current: str) -> ModalScreen[str | None]:
    """Return the list of a session's branches; it gives the last message of the chosen one."""
    from qwenchat.tui.dialogs.branches import BranchesScreen

    return BranchesScreen(of, current)


def export(program: Program, session_ids: Sequence[str]) -> ModalScreen[None]:
    """Return the export dialog."""
    from qwenchat.tui.dialogs.export import ExportScreen

    return ExportScreen(program, session_ids)


def compare(
    question: str,
    variants: Sequence[Message],
    shown: tuple[int, int],
    *,
    stop: Callable[[], object],
    copy: Callable[[str], object],
    names: "ModelNames",
    call_since: Callable[[], float],
) -> "CompareScreen":
    """Return two variants of a message side by side; it gives the one to continue with."""
    from qwenchat.tui.dialogs.compare import CompareScreen

    return CompareScreen(question, variants, shown, stop=stop, copy=copy, names=names, call_since=call_since)


def import_chats(program: Program, paths: str = "") -> ModalScreen[bool]:
    """Return the import dialog; it gives whether a chat came."""
    from qwenchat.tui.dialogs.import_chats import ImportScreen

    return ImportScreen(program, paths)


def trash(program: Program) -> ModalScreen[bool]:
    """Return the trash; it gives whether a chat was restored."""
    from qwenchat.tui.dialogs.trash import TrashScreen

    return TrashScreen(program)


def settings(program: Program, at: str = "") -> ModalScreen[bool]:
    """Return the settings of the program, at one of them; it gives whether anything was changed."""
    from qwenchat.tui.dialogs.settings import SettingsScreen

    return SettingsScreen(program, at)


def statistics(branch: Sequence[Message], info: "ModelInfo | None") -> ModalScreen[None]:
    """Return the statistics of a chat, and of the model that is loaded."""
    from qwenchat.chat.statistics import statistics_of
    from qwenchat.tui.dialogs.statistics import StatisticsScreen

    return StatisticsScreen(statistics_of(branch), info)


def themes(titles: Mapping[str, str]) -> ModalScreen[str | None]:
    """Return the theme picker; it gives a theme's name."""
    from qwenchat.tui.dialogs.theme import ThemeScreen

    return ThemeScreen(titles)


def tools(program: Program, source: "SessionTools", session: Session) -> ModalScreen[bool]:
    """Return the list of the tools; it gives whether they are on in the chat of a session."""
    from qwenchat.tui.dialogs.tools import ToolsScreen

    return ToolsScreen(program, source, session)


def documents(
    program: Program,
    of: "SessionDocuments",
    session: Session,
    branch: Sequence[Message],
    *,
    speed: "Speed | None",
    room: int,
) -> "ModalScreen[DocumentChoice]":
    """Return the documents of a chat; it gives the collections and the level that the user wants."""
    from qwenchat.tui.dialogs.documents import DocumentsScreen

    return DocumentsScreen(program, of, session, branch, speed=speed, room=room)


def collections(program: Program) -> ModalScreen[None]:
    """Return the collections of documents, which can be changed there."""
    from qwenchat.tui.dialogs.collections import CollectionsScreen

    return CollectionsScreen(program)


def help_for(actions: Sequence[Action], keymap: Mapping[str, str], commands: Mapping[str, str]) -> ModalScreen[None]:
    """Return the help: every action with the key it has now, and every slash command."""
    from qwenchat.tui.dialogs.small import HelpScreen

    groups = places()
    rows = [
        (
            groups[action.where],
            ", ".join(key_names(keymap.get(action.id, action.keys))),
            labelled(action.label, action.help),
        )
        for action in actions
    ]
    rows += [(each.place, ", ".join(key_names(each.keys)), each.words) for each in fixed_keys()]
    return HelpScreen([*rows, *((_("Commands"), f"/{name}", words) for name, words in commands.items())])


def menu(items: Sequence[MenuItem], at: "Offset") -> ModalScreen[str | None]:
    """Return a menu at a place on the screen; it gives the id of an action."""
    from qwenchat.tui.dialogs.menu import MenuScreen

    return MenuScreen(items, at)


def attached(of: "Attached") -> ModalScreen[None]:
    """Return the text of an attached file, or what a folder consists of."""
    from qwenchat.tui.dialogs.attached import AttachedScreen

    return AttachedScreen(of)


def line(title: str, value: str) -> ModalScreen[str | None]:
    """Return a dialog that asks for one line of text."""
    from qwenchat.tui.dialogs.small import TextScreen

    return TextScreen(title, value)
