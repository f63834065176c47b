"""Picks a model: what is on this machine, what can be downloaded, how well each fits.

The list of models with everything that goes with it: filter, details, licence, download. Both dialogs that choose
a model show it; it tells what was chosen and closes nothing.
"""

import asyncio
from pathlib import Path
from typing import ClassVar

from textual import events, on, work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.types import CSSPathType
from textual.widgets import Button, Input, OptionList, Static
from textual.widgets.option_list import Option

from qwenchat.errors import QwenchatError
from qwenchat.i18n import _
from qwenchat.models.reference import LocalFile, OnHub, Published, parse
from qwenchat.paths import at_home
from qwenchat.runtime.downloads import Downloads, State
from qwenchat.runtime.program import Program
from qwenchat.text.safe import human_size
from qwenchat.tui.dialogs.dialog import Complaint, Dialog, button, buttons, plain, relabel
from qwenchat.tui.dialogs.downloads import DownloadList
from qwenchat.tui.dialogs.fields import CarefulList, Filter, PathSuggester, aligned
from qwenchat.tui.dialogs.small import ConfirmScreen, TextScreen
from qwenchat.tui.model_choices import Offer, Survey, headings, survey
from qwenchat.tui.textual_private import EndsItsWork


class ModelList(Vertical, EndsItsWork):
    """Models to choose from. Until something is typed the catalogue shows the best of each size, or `every` one."""

    class Chosen(Message):
        """A model that is on this machine is to be used."""

        def __init__(self, reference: str) -> None:
            super().__init__()
            self.reference = reference

    class Surveyed(Message):
        """The machine and its models were looked at."""

        def __init__(self, found: Survey) -> None:
            super().__init__()
            self.found = found

    def __init__(self, program: Program, downloads: Downloads, current: str = "", *, every: bool = True) -> None:
        super().__init__()
        self._program, self._downloads, self._every = program, downloads, every
        self._survey: Survey | None = None
        self._shown: list[Offer | None] = []
        """What each line of the list offers; None for headings."""
        self._width = 0
        self._described: Offer | None = None
        self._wanted = current
        """What to highlight when the list is made anew."""

    def compose(self) -> ComposeResult:
        yield Filter(placeholder=_("type to filter, or owner/repo:quant, or a path"))
        yield CarefulList(markup=False)
        yield Complaint()
        yield plain(_("Looking at this machine…"), classes="details muted")
        yield buttons([button(_("Use it"), "do", main=True), button(_("A file on this disk…"), "file")])
        yield DownloadList(self._downloads)

    def on_mount(self) -> None:
        """Look at the machine, off the loop."""
        self.query_one(Filter).focus()
        self.query_one("#do").display = False
        self._look()

    @property
    def highlighted(self) -> Offer | None:
        """The model that Enter is about."""
        at = self.query_one(OptionList).highlighted
        return self._shown[at] if at is not None and at < len(self._shown) else None

    @work(exclusive=True, group="survey")
    async def _look(self) -> None:
        try:
            self._survey = await asyncio.to_thread(survey, self._program)
        except QwenchatError as error:
            self.query_one(Complaint).show(error)
            return
        if not self._wanted:
            best = next((offer for offer in self._survey.offers if offer.recommended), None)
            self._wanted = best.reference if best else ""
        self._show()
        self.post_message(self.Surveyed(self._survey))

    def _show(self) -> None:
        """Make the list anew, for what is typed and the room there is."""
        if self._survey is None:
            return
        typed = self.query_one(Input).value.strip()
        words = typed.casefold().split()
        here = [offer for offer in self._survey.here if offer.matches(words)]
        others = [o for o in self._survey.catalogue if o.matches(words) and (words or self._every or o.best_of_size)]
        named = [] if here or others else self._named(typed)
        groups = [
            (headings(_("On this machine"), _("where")), here),
            (headings(_("To download"), _("download")), others),
            (headings(_("By its name"), ""), named),
        ]
        rows: list[tuple[list[str], Offer | None]] = []
        for titles, offers in groups:
            rows += [(titles, None), *((self._row(offer), offer) for offer in offers)] if offers else []
        self._shown = [offer for _row, offer in rows]
        lines = aligned([row for row, _offer in rows], max(10, self.size.width - 2))
        listed = self.query_one(OptionList)
        listed.clear_options()
        listed.add_options(
            Option(line) if offer else Option(Content.styled(line, "bold"), disabled=True)
            for line, offer in zip(lines, self._shown, strict=True)
        )
        listed.highlighted = self._place()
        if not self._shown:
            self._describe(None)

    def _place(self) -> int | None:
        lines = [at for at, offer in enumerate(self._shown) if offer]
        wanted = [at for at in lines if (offer := self._shown[at]) and offer.answers_to(self._wanted)]
        return next(iter(wanted or lines), None)

    def _row(self, offer: Offer) -> list[str]:
        row = offer.row()
        if not offer.entry and (download := self._downloads.get(offer.reference)):
            row[-1] = {State.RUNNING: _("downloading"), State.PAUSED: _("paused")}.get(download.state, row[-1])
        return row

    def _named(self, typed: str) -> list[Offer]:
        """Return what is typed as a model, where it can be one: a file here, or a repository on the hub."""
        try:
            reference = parse(typed, self._program.catalog)
        except QwenchatError:
            is_address = typed.startswith(("http://", "https://"))
            return [Offer(typed)] if is_address else []
        return [Offer(typed)] if isinstance(reference, LocalFile | OnHub | Published) else []

    def _is_file(self, offer: Offer) -> bool:
        if offer.entry or offer.published or "://" in offer.reference:
            return False
        return isinstance(parse(offer.reference, self._program.catalog), LocalFile)

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
    def _about(self) -> None:
        self._describe(self.highlighted)

    def _describe(self, offer: Offer | None) -> None:
        if offer != self._described:
            self.query_one(Complaint).show(None)
        self._described = offer
        details = self.query_one(".details", Static)
        details.update("\n".join(offer.details()) if offer else _("Nothing here is called that."))
        do = self.query_one("#do", Button)
        do.display = offer is not None and not offer.problem
        if offer is not None:
            relabel(do, self._action(offer))

    def _action(self, offer: Offer) -> str:
        if offer.entry or self._is_file(offer):
            return _("Use {model}").format(model=offer.name)
        download = self._downloads.get(offer.reference)
        if download and download.state is State.RUNNING:
            return _("Downloading…")
        if download:
            return _("Carry the download on")
        size = f" ({human_size(offer.size)})" if offer.size else ""
        return _("Download {model}").format(model=offer.name) + size

    @on(OptionList.OptionSelected)
    @on(Button.Pressed, "#do")
    async def _do(self) -> None:
        offer = self.highlighted
        if offer is None:
            return
        if offer.problem:
            self.query_one(Complaint).show(offer.problem)
        elif offer.entry:
            self.post_message(self.Chosen(offer.reference))
        elif self._is_file(offer):
            await self._use_file(offer.reference)
        else:
            self._ask_and_download(offer)

    @on(Button.Pressed, "#file")
    @work(exclusive=True, group="file")
    async def _file(self) -> None:
        start = str(_absolute("~")) + "/"
        asking = TextScreen(_("The path of a .gguf file"), start, PathSuggester(".gguf"))
        if path := await self.app.push_screen_wait(asking):
            await self._use_file(path)

    async def _use_file(self, path: str) -> None:
        """Choose a file on the disk if it can be used, or say why not."""
        try:
            reference = LocalFile(_absolute(path))
            entry = await asyncio.to_thread(self._program.library.entry, reference)
        except QwenchatError as error:
            self.query_one(Complaint).show(error)
            return
        if entry.problem:
            self.query_one(Complaint).show(entry.problem)
        else:
            self.post_message(self.Chosen(str(reference)))

    @work(exclusive=True, group="agreement")
    async def _ask_and_download(self, offer: Offer) -> None:
        """Download a model once the person has agreed to what has to be agreed to."""
        asking = self._doubt(offer)
        if asking is None or await self.app.push_screen_wait(asking):
            self._downloads.start(offer.reference)

    def _doubt(self, offer: Offer) -> ConfirmScreen | None:
        """Return what a person has to agree to before a download."""
        if offer.must_accept and offer.published:
            model = offer.published.model
            terms = _("{model} comes under the {licence} licence, which has terms of its own.")
            where = _("Read it first: {url}").format(url=model.licence_url)
            return ConfirmScreen(terms.format(model=model.title, licence=model.licence), where, _("I accept it"))
        if offer.advice and not offer.advice.can_run:
            question = _("{model} does not fit this machine. Download it all the same?").format(model=offer.name)
            return ConfirmScreen(question, "\n".join(offer.details()[2:]), _("Download"))
        return None

    @on(DownloadList.Changed)
    def _progress(self, event: DownloadList.Changed) -> None:
        download = event.download
        if download.state is State.FAILED:
            self.query_one(Complaint).show(download.error or _("The download failed."))
        if download.state is State.DONE:
            self._wanted = str(download.path)
            self.query_one(Filter).focus()  # Enter uses it
            self._look()
        elif (offer := self.highlighted) and offer.reference == download.reference:
            relabel(self.query_one("#do", Button), self._action(offer))


def _absolute(path: str) -> Path:
    return at_home(path).absolute()


class ModelScreen(Dialog[str | None]):
    """Gives the reference of a model on this machine, or None; downloads go on after it is closed."""

    CSS_PATH: ClassVar[CSSPathType | None] = ["dialog.tcss", "model.tcss"]

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
