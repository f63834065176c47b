"""Picks a model: what is on this machine, what can be downloaded, how well each fits."""

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.types import CSSPathType

from qwenchat.i18n import _
from qwenchat.program import Program
from qwenchat.tui.downloads import Downloads
from qwenchat.tui.screens.dialog import Dialog
from qwenchat.tui.screens.model_list import ModelList


class ModelScreen(Dialog[str | None]):
    """Gives the reference of a model on this machine, or None; downloads go on after it is closed."""

    CSS_PATH: ClassVar[CSSPathType | None] = ["dialog.tcss", "model_list.tcss"]

    def __init__(self, program: Program, current: str, downloads: Downloads) -> None:
        super().__init__()
        self._program, self._current, self._downloads = program, current, downloads

    def heading(self) -> str:
        return _("Model")

    def body(self) -> ComposeResult:
        yield ModelList(self._program, self._downloads, self._current)

    @on(ModelList.Chosen)
    def _take(self, event: ModelList.Chosen) -> None:
        self.answer(event.reference)
