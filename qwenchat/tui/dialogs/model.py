"""The two dialogs that choose a model, and the list of models that both show: filter, details, licence, download.

The list posts what was chosen; the dialogs answer with it. Nothing here loads a model.
"""

import asyncio
from pathlib import Path
from typing import ClassVar

from textual import events, on, work
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.types import CSSPathType
from textual.widgets import Button, Input, OptionList, Static
from textual.widgets.option_list import Option

from qwenchat.errors import QwenchatError
from qwenchat.i18n import _, sentences
from qwenchat.models.reference import CatalogueReference, FileReference, GuideReference, HubReference, parse
from qwenchat.paths import expand_home
from qwenchat.runtime.downloads import BackgroundDownloads, DownloadState
from qwenchat.runtime.program import Program
from qwenchat.text.safe import human_size
from qwenchat.tui.dialogs.dialog import Buttons, Complaint, Dialog, button, plain, relabel
from qwenchat.tui.dialogs.downloads import DownloadList
from qwenchat.tui.dialogs.fields import CarefulList, PathSuggester, aligned
from qwenchat.tui.dialogs.small import ConfirmScreen, TextScreen
from qwenchat.tui.model_choices import ModelChoice, ModelChoices, headings, model_choices
from qwenchat.tui.textual_private import EndsItsWork
from qwenchat.tui.widgets.fields import Filter


class ModelList(VerticalScroll, EndsItsWork):
    """Models to choose from. Until something is typed the catalogue shows the best of each size, or `every` one."""

    class Chosen(Message):
        """A model that is on this machine is to be used."""

        def __init__(self, reference: str) -> None:
            super().__init__()
            self.reference = reference

    class Surveyed(Message):
        """The machine and its models were looked at."""

        def __init__(self, found: ModelChoices) -> None:
            super().__init__()
            self.found = found

    def __init__(
        self, program: Program, downloads: BackgroundDownloads, current: str = "", *, every: bool = True
    ) -> None:
        super().__init__(can_focus=False)
        self._program, self._downloads, self._every = program, downloads, every
        self._choices: ModelChoices | None = None
        self._shown: list[ModelChoice | None] = []
        """The model of each line of the list; None for headings."""
        self._width = 0
        self._described: ModelChoice | None = None
        self._wanted = current
        """The model to highlight when the list is rebuilt."""

    def compose(self) -> ComposeResult:
        yield Filter(placeholder=_("Type to filter, or enter owner/repo:quant or a path"))
        yield CarefulList(markup=False)
        yield Complaint("about-model")
        yield Complaint("about-folders")
        yield plain(_("Checking this computer…"), classes="details muted")
        yield Buttons([button(_("Use"), "do", main=True), button(_("Open file…"), "file")])
        yield DownloadList(self._downloads)

    def on_mount(self) -> None:
        """Look at the machine, off the loop."""
        self.query_one(Filter).focus()
        self.query_one("#do").display = False
        self._look()

    def download_recommended(self) -> None:
        """Download the model that suits this machine best."""
        if self._choices and (best := self._choices.recommended):
            self._ask_and_download(best)

    @property
    def highlighted(self) -> ModelChoice | None:
        """The model that Enter is about."""
        at = self.query_one(OptionList).highlighted
        return self._shown[at] if at is not None and at < len(self._shown) else None

    @work(exclusive=True, group="survey")
    async def _look(self) -> None:
        try:
            self._choices = await asyncio.to_thread(model_choices, self._program)
        except QwenchatError as error:
            self.query_one("#about-model", Complaint).show(error)
            return
        if not self._wanted:
            self._wanted = self._choices.recommended.reference if self._choices.recommended else ""
        unread = sentences(*(words for problem in self._choices.problems for words in (problem.message, problem.hint)))
        self.query_one("#about-folders", Complaint).show(unread)
        self._show()
        self.post_message(self.Surveyed(self._choices))

    def _show(self) -> None:
        """Rebuild the list for the typed words and the width of the dialog."""
        if self._choices is None:
            return
        typed = self.query_one(Input).value.strip()
        words = typed.casefold().split()
        here = [choice for choice in self._choices.here if choice.matches(words)]
        others = [
            choice
            for choice in self._choices.catalogue
            if choice.matches(words) and (words or self._every or choice.is_best_of_size)
        ]
        named = [] if here or others else self._named(typed)
        groups = [
            (headings(_("On this computer"), _("where")), here),
            (headings(_("To download"), _("download")), others),
            (headings(_("Other"), ""), named),
        ]
        rows: list[tuple[list[str], ModelChoice | None]] = []
        for titles, choices in groups:
            rows += [(titles, None), *((self._row(choice), choice) for choice in choices)] if choices else []
        self._shown = [choice for _row, choice in rows]
        lines = aligned([row for row, _offer in rows], max(10, self.size.width - 2))
        listed = self.query_one(OptionList)
        listed.clear_options()
        listed.add_options(
            Option(line) if choice else Option(Content.styled(line, "bold"), disabled=True)
            for line, choice in zip(lines, self._shown, strict=True)
        )
        listed.highlighted = self._first_highlight()
        if not self._shown:
            self._describe(None)

    def _first_highlight(self) -> int | None:
        lines = [at for at, choice in enumerate(self._shown) if choice]
        wanted = [at for at in lines if (choice := self._shown[at]) and choice.answers_to(self._wanted)]
        return next(iter(wanted or lines), None)

    def _row(self, choice: ModelChoice) -> list[str]:
        row = choice.row()
        if not choice.local and (download := self._downloads.get(choice.reference)):
            row[-1] = {DownloadState.RUNNING: _("downloading"), DownloadState.PAUSED: _("paused")}.get(
                download.state, row[-1]
            )
        return row

    def _named(self, typed: str) -> list[ModelChoice]:
        """Return what is typed as a model, where it can be one: a file here, or a repository on the hub."""
        try:
            reference = parse(typed, self._program.catalogue)
        except QwenchatError:
            is_address = typed.startswith(("http://", "https://"))
            return [ModelChoice(typed)] if is_address else []
        return [ModelChoice(typed)] if isinstance(reference, FileReference | HubReference | CatalogueReference) else []

    def _is_file(self, choice: ModelChoice) -> bool:
        if choice.local or choice.published or "://" in choice.reference:
            return False
        return isinstance(parse(choice.reference, self._program.catalogue), FileReference)

    @on(Input.Changed)
    def _filter(self) -> None:
        self._wanted = ""
        self._show()

    @on(events.Resize)
    def _fit(self) -> None:
        if self.size.width == self._width:
            return
        self._width = self.size.width
        if self.highlighted:
            self._wanted = self.highlighted.reference
        self._show()

    @on(OptionList.OptionHighlighted)
    def _describe_highlighted(self) -> None:
        self._describe(self.highlighted)

    def _describe(self, choice: ModelChoice | None) -> None:
        if choice != self._described:
            self.query_one("#about-model", Complaint).show(None)
        self._described = choice
        details = self.query_one(".details", Static)
        details.update("\n".join(choice.details()) if choice else _("No model by that name."))
        do = self.query_one("#do", Button)
        do.display = choice is not None and not choice.problem
        if choice is not None:
            relabel(do, self._action(choice))

    def _action(self, choice: ModelChoice) -> str:
        if choice.local or self._is_file(choice):
            return _("Use {model}").format(model=choice.name)
        download = self._downloads.get(choice.reference)
        if download and download.state is DownloadState.RUNNING:
            return _("Downloading…")
        if download:
            return _("Resume download")
        size = f" ({human_size(choice.size)})" if choice.size else ""
        return _("Download {model}").format(model=choice.name) + size

    @on(OptionList.OptionSelected)
    @on(Button.Pressed, "#do")
    async def _use_or_download(self) -> None:
        choice = self.highlighted
        if choice is None:
            return
        if choice.problem:
            self.query_one("#about-model", Complaint).show(choice.problem)
        elif choice.local:
            self.post_message(self.Chosen(choice.reference))
        elif self._is_file(choice):
            await self._use_file(choice.reference)
        else:
            self._ask_and_download(choice)

    @on(Button.Pressed, "#file")
    @work(exclusive=True, group="file")
    async def _ask_for_file(self) -> None:
        start = str(_absolute("~")) + "/"
        asking = TextScreen(_("Path of a .gguf file"), start, PathSuggester(".gguf"))
        if path := await self.app.push_screen_wait(asking):
            await self._use_file(path)

    async def _use_file(self, path: str) -> None:
        """Choose a file on the disk if it can be used, or say why not."""
        try:
            reference = FileReference(_absolute(path))
            entry = await asyncio.to_thread(self._program.library.model, reference)
        except QwenchatError as error:
            self.query_one("#about-model", Complaint).show(error)
            return
        if entry.problem:
            self.query_one("#about-model", Complaint).show(entry.problem)
        else:
            self.post_message(self.Chosen(str(reference)))

    @work(exclusive=True, group="agreement")
    async def _ask_and_download(self, choice: ModelChoice) -> None:
        """Download a model, after the user has accepted what must be accepted."""
        asking = self._objection(choice)
        if asking is None or await self.app.push_screen_wait(asking):
            self._downloads.start(choice.reference)

    def _objection(self, choice: ModelChoice) -> ConfirmScreen | None:
        """Return the dialog that the user must accept before a download; None if the licence needs none."""
        if choice.must_accept and choice.published:
            model = choice.published.model
            terms = _("{model} has the {licence} licence, which has its own terms.")
            where = _("Read it first: {url}").format(url=model.licence_url)
            return ConfirmScreen(terms.format(model=model.title, licence=model.licence), where, _("Accept"))
        if choice.assessment and not choice.assessment.can_run:
            question = _("{model} does not fit this computer. Download it anyway?").format(model=choice.name)
            return ConfirmScreen(question, "\n".join(choice.details()[2:]), _("Download"))
        return None

    @on(DownloadList.Changed)
    def _follow_download(self, event: DownloadList.Changed) -> None:
        download = event.download
        if download.state is DownloadState.FAILED:
            self.query_one("#about-model", Complaint).show(download.error or _("The download failed."))
        if download.state is DownloadState.DONE:
            self._wanted = str(download.path)
            self.query_one(Filter).focus()  # Enter uses it
            self._look()
        elif (choice := self.highlighted) and choice.reference == download.reference:
            relabel(self.query_one("#do", Button), self._action(choice))


def _absolute(path: str) -> Path:
    return expand_home(path).absolute()


class ModelScreen(Dialog[str | None]):
    """Gives the reference of a model on this machine, or None; downloads go on after it is closed."""

    CSS_PATH: ClassVar[CSSPathType | None] = ["dialog.tcss", "model.tcss"]

    def __init__(self, program: Program, current: str, downloads: BackgroundDownloads) -> None:
        super().__init__()
        self._program, self._current, self._downloads = program, current, downloads

    def heading(self) -> str:
        return _("Model")

    def body(self) -> ComposeResult:
        yield ModelList(self._program, self._downloads, self._current)

    @on(ModelList.Chosen)
    def _answer_choice(self, event: ModelList.Chosen) -> None:
        self.answer(event.reference)


class WelcomeScreen(Dialog[str | None]):
    """Gives the reference of the model to begin with, or None."""

    CSS_PATH: ClassVar[CSSPathType | None] = ["dialog.tcss", "model.tcss"]

    def __init__(self, program: Program, downloads: BackgroundDownloads) -> None:
        super().__init__()
        self._program, self._downloads = program, downloads

    def heading(self) -> str:
        return _("Welcome to qwenchat")

    def body(self) -> ComposeResult:
        yield plain(_("Chat with Qwen2 models. Download one once; after that, nothing leaves this computer."))
        yield plain(_("Pick one; ★ = best for this computer."))
        yield plain("", classes="muted", id="machine")
        guide = button(_("Try it now with the built-in guide"), "guide", main=True)
        yield Buttons([guide, button(_("Download the recommended model"), "recommended")], foot=False)
        yield ModelList(self._program, self._downloads, every=False)

    @on(ModelList.Surveyed)
    def _show_machine(self, event: ModelList.Surveyed) -> None:
        has = event.found.resources
        words = _("Free: {ram} of memory, {disk} of disk space.")
        if has.gpu_available:
            words = _("Free: {ram} of memory, {gpu} of GPU memory, {disk} of disk space.")
        sizes = {"ram": has.ram_available, "gpu": has.gpu_available, "disk": has.disk_free}
        free = words.format(**{name: human_size(size) for name, size in sizes.items()})
        best, guide = event.found.recommended, self.query_one("#guide")
        offer = self.query_one("#recommended", Button)
        offer.display = best is not None and best.local is None
        if best:
            relabel(offer, _("Download the recommended model") + f" ({human_size(best.size)})")
        guide.display = any(choice.reference == str(GuideReference()) for choice in event.found.here)
        first = next((button for button in (guide, offer) if button.display), None)
        if first and not self.query_one(Filter).value:
            first.focus()
        self.query_one("#machine", Static).update(sentences(free, _("~ = estimate.")))

    @on(Button.Pressed, "#guide")
    def _try_guide(self) -> None:
        self.answer(str(GuideReference()))

    @on(Button.Pressed, "#recommended")
    def _download_recommended(self) -> None:
        self.query_one(ModelList).download_recommended()

    @on(ModelList.Chosen)
    def _answer_choice(self, event: ModelList.Chosen) -> None:
        self.answer(event.reference)
