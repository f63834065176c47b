"""The two dialogs that choose a model: the first run's, and the one of later. They answer with what the list posts."""

from collections.abc import Callable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.types import CSSPathType
from textual.widgets import Button, Static

from qwenchat.i18n import _
from qwenchat.models.recommendation import free_words
from qwenchat.models.reference import GuideReference
from qwenchat.runtime.downloads import BackgroundDownloads
from qwenchat.runtime.program import Program
from qwenchat.text.safe import human_size
from qwenchat.tui.dialogs.dialog import Buttons, Dialog, button, plain, relabel
from qwenchat.tui.dialogs.model_list import ModelList
from qwenchat.tui.widgets.fields import Filter


class ModelScreen(Dialog[str | None]):
    """Gives the reference of a model on this machine, or None; downloads go on after it is closed."""

    CSS_PATH: ClassVar[CSSPathType | None] = ["dialog.tcss", "model.tcss"]

    def __init__(
        self,
        program: Program,
        current: str,
        downloads: BackgroundDownloads,
        use_engines: Callable[[], object] = lambda: None,
    ) -> None:
        """`use_engines` is called when the engines in the settings have changed."""
        super().__init__()
        self._program, self._current, self._downloads, self._use_engines = program, current, downloads, use_engines

    def heading(self) -> str:
        return _("Model")

    def body(self) -> ComposeResult:
        yield ModelList(self._program, self._downloads, self._current)

    @on(ModelList.EnginesChanged)
    def _report_engines(self) -> None:
        self._use_engines()

    @on(ModelList.Chosen)
    def _answer_choice(self, event: ModelList.Chosen) -> None:
        self.answer(event.reference)


class WelcomeScreen(Dialog[str | None]):
    """Gives the reference of the model to begin with, or None."""

    CSS_PATH: ClassVar[CSSPathType | None] = ["dialog.tcss", "model.tcss"]

    def __init__(
        self, program: Program, downloads: BackgroundDownloads, use_engines: Callable[[], object] = lambda: None
    ) -> None:
        """`use_engines` is called when the engines in the settings have changed."""
        super().__init__()
        self._program, self._downloads, self._use_engines = program, downloads, use_engines

    def heading(self) -> str:
        return _("Welcome to qwenchat")

    def body(self) -> ComposeResult:
        yield plain(_("Chat with Qwen2 models. Download one once; with it, nothing leaves this computer."))
        yield plain(_("Pick one; ★ = best for this computer."))
        yield plain("", classes="muted", id="machine")
        guide = button(_("Try it now with the built-in guide"), "guide", main=True)
        yield Buttons([guide, button(_("Download the recommended model"), "recommended")], foot=False)
        yield ModelList(self._program, self._downloads)

    @on(ModelList.Surveyed)
    def _show_machine(self, event: ModelList.Surveyed) -> None:
        best, guide = event.found.recommended, self.query_one("#guide")
        offer = self.query_one("#recommended", Button)
        offer.display = best is not None and best.local is None
        if best:
            relabel(offer, _("Download the recommended model") + f" ({human_size(best.size)})")
        guide.display = any(choice.reference == str(GuideReference()) for choice in event.found.here)
        first = next((button for button in (guide, offer) if button.display), None)
        if first and not self.query_one(Filter).value:
            first.focus()
        self.query_one("#machine", Static).update(free_words(event.found.resources))

    @on(Button.Pressed, "#guide")
    def _try_guide(self) -> None:
        self.answer(str(GuideReference()))

    @on(Button.Pressed, "#recommended")
    def _download_recommended(self) -> None:
        self.query_one(ModelList).download_recommended()

    @on(ModelList.EnginesChanged)
    def _report_engines(self) -> None:
        self._use_engines()

    @on(ModelList.Chosen)
    def _answer_choice(self, event: ModelList.Chosen) -> None:
        self.answer(event.reference)
