"""Opens the modal screens; each is imported when it is first wanted, so that the chat opens at once."""

import importlib
from collections.abc import Sequence
from typing import Any

from textual.screen import ModalScreen

from qwenchat.chat.conversation import Session
from qwenchat.program import Program
from qwenchat.tui.actions import Action


def welcome(program: Program) -> ModalScreen[str | None]:
    """Return the screen of the first run."""
    screen: ModalScreen[str | None] = _screen("welcome", "WelcomeScreen")(program)
    return screen


def models(program: Program, current: str) -> ModalScreen[str | None]:
    """Return the model picker."""
    screen: ModalScreen[str | None] = _screen("models", "ModelScreen")(program, current)
    return screen


def session(program: Program, of: Session) -> ModalScreen[Session | None]:
    """Return the settings of a session."""
    screen: ModalScreen[Session | None] = _screen("session", "SessionScreen")(program, of)
    return screen


def export(program: Program, session_ids: Sequence[str]) -> ModalScreen[None]:
    """Return the export dialog."""
    screen: ModalScreen[None] = _screen("export", "ExportScreen")(program, session_ids)
    return screen


def settings(program: Program) -> ModalScreen[bool]:
    """Return the settings of the program."""
    screen: ModalScreen[bool] = _screen("settings", "SettingsScreen")(program)
    return screen


def themes() -> ModalScreen[str | None]:
    """Return the theme picker."""
    screen: ModalScreen[str | None] = _screen("theme", "ThemeScreen")()
    return screen


def help_for(actions: Sequence[Action]) -> ModalScreen[None]:
    """Return the help."""
    screen: ModalScreen[None] = _screen("help", "HelpScreen")(actions)
    return screen


def _screen(module: str, name: str) -> Any:
    return getattr(importlib.import_module(f"qwenchat.tui.screens.{module}"), name)
