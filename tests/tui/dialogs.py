"""A program that shows one dialog over a few words, and keeps its result; a machine that is always the same."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from textual import events
from textual.app import App, ComposeResult
from textual.screen import Screen
from textual.widgets import Static

from qwenchat.i18n import use_language
from qwenchat.models import fit
from qwenchat.models.folders import ModelFolders
from qwenchat.runtime.program import Program
from qwenchat.tui.dialogs.dialog import Dialog
from qwenchat.tui.model_names import ModelNames
from qwenchat.tui.textual_private.app import until_screen_is_ready
from qwenchat.tui.themes import load_all
from tests.tui.screens import words_on

NOT_YET = object()
"""The result of a dialog that is still open."""
NAMES = ModelNames(str, lambda reading: reading.close(), host_of=lambda _reference: "10.0.0.5:8080")
"""Of models, those of an engine on another machine among them."""
THEMES = load_all(Path("/nowhere"))
MACHINE = fit.Resources(16 << 30, 10 << 30, 0, 200 << 30, bandwidth=3e10)
"""A laptop."""


class DialogApp(App[None]):
    """Opens a dialog at once."""

    def __init__(self, dialog: Screen[Any] | None = None, theme: str = "ink", language: str = "en") -> None:
        super().__init__()
        use_language(language)
        self.result: object = NOT_YET
        self._dialog, self._wanted = dialog, theme

    def compose(self) -> ComposeResult:
        yield Static("What is behind the dialog.\n" * 60, markup=False)

    async def on_mount(self) -> None:
        for theme in THEMES.by_name.values():
            self.register_theme(theme)
        self.theme = self._wanted
        if self._dialog:
            await self.push_screen(self._dialog, self._keep)

    async def on_event(self, event: events.Event) -> None:
        """Do as the program does."""
        if isinstance(event, events.Key | events.Paste) and not event.is_forwarded:
            await until_screen_is_ready(self)
            if isinstance(self.screen, Dialog):
                self.screen.lead_to_filter(event)
        await super().on_event(event)

    def _keep(self, result: object) -> None:
        self.result = result

    @property
    def closed(self) -> bool:
        return self.result is not NOT_YET

    @property
    def words(self) -> str:
        """All that stands on the screen."""
        return words_on(self)


class StillProgram(Program, frozen=True):
    """The program on a machine that does not change, with models below one folder only."""

    @cached_property
    def model_folders(self) -> ModelFolders:
        none: tuple[Path, ...] = ()
        hf = self.paths.data / "hf"
        return ModelFolders(own=(self.paths.models,), folders=none, hf=hf, llama_cpp=none, ollama=none, lmstudio=none)

    def usable(self, *, measure: bool = False) -> fit.Resources:
        return MACHINE


def program_in(folder: Path, environ: Mapping[str, str] | None = None) -> StillProgram:
    return StillProgram({"QWENCHAT_HOME": str(folder), **(environ or {})})
