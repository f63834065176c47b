"""The first thing that a person sees: what this is, what this machine can run, and how to begin."""

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.types import CSSPathType
from textual.widgets import Static

from qwenchat.i18n import _
from qwenchat.runtime.downloads import BackgroundDownloads
from qwenchat.runtime.program import Program
from qwenchat.text.safe import human_size
from qwenchat.tui.dialogs.dialog import Dialog, plain
from qwenchat.tui.dialogs.model import ModelList


class WelcomeScreen(Dialog[str | None]):
    """Gives the reference of the model to begin with, or None."""

    CSS_PATH: ClassVar[CSSPathType | None] = ["dialog.tcss", "model.tcss"]

    def __init__(self, program: Program, downloads: BackgroundDownloads) -> None:
        super().__init__()
        self._program, self._downloads = program, downloads

    def heading(self) -> str:
        return _("Welcome to qwenchat")

    def body(self) -> ComposeResult:
        yield plain(_("Chat with Qwen2 models on this machine: a model is downloaded once, then nothing leaves here."))
        yield plain(_("Choose one; ★ is what suits this machine best."))
        yield plain("", classes="muted", id="machine")
        yield ModelList(self._program, self._downloads, every=False)

    @on(ModelList.Surveyed)
    def _machine(self, event: ModelList.Surveyed) -> None:
        has = event.found.resources
        told = _("Free here: {ram} of memory, {disk} on the disk.")
        if has.gpu_available:
            told = _("Free here: {ram} of memory, {gpu} on accelerators, {disk} on the disk.")
        sizes = {"ram": has.ram_available, "gpu": has.gpu_available, "disk": has.disk_free}
        said = told.format(**{name: human_size(size) for name, size in sizes.items()})
        estimate = _("~ marks an estimate.")
        self.query_one("#machine", Static).update(f"{said} {estimate}")

    @on(ModelList.Chosen)
    def _take(self, event: ModelList.Chosen) -> None:
        self.answer(event.reference)
