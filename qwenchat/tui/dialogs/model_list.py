"""The list of models that the dialogs of models show: filter, details, licence, download, models of other machines.

It opens at once. What is on this computer comes when it was looked at, and what servers offer when they answer: nobody
waits for one. What was chosen is posted; nothing here loads a model.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace
from textual import events, on, work
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Button, Input, OptionList, Static
from textual.widgets.option_list import Option

from qwenchat.engines.remote.api import ServedModel
from qwenchat.errors import QwenchatError
from qwenchat.i18n import _, sentences
from qwenchat.models.reference import (
    CatalogueReference,
    FileReference,
    HubReference,
    RemoteReference,
    parse,
)
from qwenchat.paths import expand_home
from qwenchat.runtime.downloads import BackgroundDownloads, DownloadState
from qwenchat.runtime.program import Program
from qwenchat.runtime.remote_engines import EngineListing
from qwenchat.text.safe import human_size
from qwenchat.tui.dialogs.dialog import Buttons, Complaint, button, plain, relabel
from qwenchat.tui.dialogs.downloads import DownloadList
from qwenchat.tui.dialogs.engines import EngineScreen, EnginesScreen
from qwenchat.tui.dialogs.fields import CarefulList, PathSuggester, aligned
from qwenchat.tui.dialogs.small import ConfirmScreen, TextScreen
from qwenchat.tui.model_choices import ModelChoice, ModelChoices, headings, model_choices
from qwenchat.tui.remote_choices import RemoteChoice, SilentEngine, remote_groups
from qwenchat.tui.textual_private.widgets import EndsItsWork
from qwenchat.tui.widgets.fields import Filter

Choice = ModelChoice | RemoteChoice | SilentEngine


class ModelList(VerticalScroll, EndsItsWork):
    """Models to choose from.

    Until something is typed, those to download are the best of each size of Qwen2, and one of each other family.
    """

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

    class EnginesChanged(Message):
        """The engines in the settings were changed."""

    def __init__(self, program: Program, downloads: BackgroundDownloads, current: str = "") -> None:
        super().__init__(can_focus=False)
        self._program, self._downloads = program, downloads
        self._choices: ModelChoices | None = None
        self._listings: dict[str, EngineListing] = {}
        """What each engine offers, by its name."""
        self._asking: set[str] = set()
        """The engines that have not answered yet."""
        self._shown: list[Choice | None] = []
        """The model of each line of the list; None for headings."""
        self._width = 0
        self._described: Choice | None = None
        self._wanted = current
        """The model to highlight when the list is rebuilt."""
        self._placed: Choice | None = None
        """What was highlighted then, which may be another one while that has not come yet."""

    def compose(self) -> ComposeResult:
        yield Filter(placeholder=_("Type to filter, or enter owner/repo:quant, a path or @engine/model"))
        yield CarefulList(markup=False)
        yield Complaint("about-model")
        yield Complaint("about-folders")
        yield plain(_("Checking this computer…"), classes="details muted")
        use = button(_("Use"), "do", main=True)
        use.display = False
        yield Buttons([use, button(_("Open file…"), "file"), button(_("Engines…"), "engines")])
        yield DownloadList(self._downloads)

    def on_mount(self) -> None:
        """Look at the machine, off the loop; the engines are asked once its models are shown."""
        self.screen.set_focus(self.query_one(Filter))
        self._open()

    def download_recommended(self) -> None:
        """Download the model that suits this machine best."""
        if self._choices and (best := self._choices.recommended):
            self._ask_and_download(best)

    @property
    def highlighted(self) -> Choice | None:
        """The model that Enter is about."""
        at = self.query_one(OptionList).highlighted
        return self._shown[at] if at is not None and at < len(self._shown) else None

    @work(exclusive=True, group="survey")
    async def _open(self) -> None:
        await self._survey()
        self._ask_engines()

    @work(exclusive=True, group="survey")
    async def _look(self) -> None:
        await self._survey()

    async def _survey(self) -> None:
        """Look at the machine and its models, and show them."""
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

    @work(exclusive=True, group="engines")
    async def _ask_engines(self) -> None:
        """Show what engines offered before, ask them all at once, and show each answer as it comes."""
        remote = self._program.remote_engines
        self._listings = {each.server.name: each for each in await asyncio.to_thread(remote.known)}
        self._asking = set(self._listings)
        self._show()
        async for listing in remote.ask():
            self._take(listing)

    @work(group="again")
    async def _ask_again(self, engine: SilentEngine) -> None:
        server = engine.listing.server
        self._asking.add(server.name)
        self._listings[server.name] = replace(engine.listing, error=None)
        self._show()
        self._take(await self._program.remote_engines.listing(server))

    def _take(self, listing: EngineListing) -> None:
        self._asking.discard(listing.server.name)
        self._listings[listing.server.name] = listing
        self._show()

    def _groups(self) -> list[tuple[list[str], list[Choice]]]:
        """Return the headings and the models of each group for the typed words."""
        typed = self.query_one(Input).value.strip()
        words = typed.casefold().split()
        found = self._choices
        here = [choice for choice in found.here if choice.matches(words)] if found else []
        catalogue = found.catalogue if found else []
        others = [each for each in catalogue if (words or self._is_offered(each)) and each.matches(words)]
        elsewhere: list[tuple[list[str], list[Choice]]] = []
        for titles, choices in remote_groups(list(self._listings.values()), self._asking):
            matching: list[Choice] = [choice for choice in choices if choice.matches(words)]
            if matching or not (words or choices):
                elsewhere.append((titles, matching))
        named = [] if here or others or any(choices for _titles, choices in elsewhere) else self._named(typed)
        groups: list[tuple[list[str], list[Choice]]] = [
            (headings(_("On this computer"), _("where")), [*here]),
            *elsewhere,
            (headings(_("To download"), _("download")), [each for each in others if not each.is_relative]),
            (headings(_("Relatives of Qwen2"), _("download")), [each for each in others if each.is_relative]),
            (headings(_("Other"), ""), [*named]),
        ]
        return [(titles, choices) for titles, choices in groups if choices or (titles, choices) in elsewhere]

    def _is_offered(self, choice: ModelChoice) -> bool:
        """Return whether a model to download is shown although nothing was typed."""
        stands_for_others = choice.about_family if choice.is_relative else choice.is_best_of_size
        return bool(stands_for_others) or choice.answers_to(self._wanted) or bool(self._downloads.get(choice.reference))

    def _show(self) -> None:
        """Rebuild the list for the typed words and the width of the dialog."""
        if self._choices is None and not self._listings:
            return
        rows: list[tuple[list[str], Choice | None]] = []
        for titles, choices in self._groups():
            rows += [(titles, None)] if titles else []
            rows += [(self._row(choice), choice) for choice in choices]
        self._shown = [choice for _row, choice in rows]
        lines = aligned([row for row, _offer in rows], max(10, self.size.width - 2))
        listed = self.query_one(OptionList)
        listed.clear_options()
        listed.add_options(
            Option(line) if choice else Option(Content.styled(line, "bold"), disabled=True)
            for line, choice in zip(lines, self._shown, strict=True)
        )
        at = self._first_highlight()
        self._placed = None if at is None else self._shown[at]
        listed.highlighted = at
        if not self._shown:
            self._describe(None)

    def _first_highlight(self) -> int | None:
        lines = [at for at, choice in enumerate(self._shown) if choice]
        wanted = [at for at in lines if (choice := self._shown[at]) and choice.answers_to(self._wanted)]
        return next(iter(wanted or lines), None)

    def _row(self, choice: Choice) -> list[str]:
        row = choice.row()
        if isinstance(choice, ModelChoice) and not choice.local and (download := self._downloads.get(choice.reference)):
            row[-1] = {DownloadState.RUNNING: _("downloading"), DownloadState.PAUSED: _("paused")}.get(
                download.state, row[-1]
            )
        return row

    def _named(self, typed: str) -> Sequence[Choice]:
        """Return what is typed as a model, where it can be one: a file here, on an engine, or on the hub."""
        try:
            reference = parse(typed, self._program.catalogue)
        except QwenchatError:
            is_address = typed.startswith(("http://", "https://"))
            return [ModelChoice(typed)] if is_address else []
        if isinstance(reference, RemoteReference):
            known = [listing.server for listing in self._listings.values() if listing.server.name == reference.engine]
            return [RemoteChoice(server=server, model=ServedModel(id=reference.model)) for server in known]
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
        self._show()

    @on(OptionList.OptionHighlighted)
    def _describe_highlighted(self) -> None:
        highlighted = self.highlighted
        if highlighted and highlighted != self._placed:  # by the user: it stays so, whatever else comes
            self._wanted, self._placed = highlighted.reference, highlighted
        self._describe(highlighted)

    def _describe(self, choice: Choice | None) -> None:
        if choice != self._described:
            self.query_one("#about-model", Complaint).show(None)
        self._described = choice
        details = self.query_one(".details", Static)
        waits = self._choices is None or self._asking
        nothing = _("Checking this computer…") if waits else _("No model by that name.")
        details.update("\n".join(choice.details()) if choice else nothing)
        do = self.query_one("#do", Button)
        do.display = choice is not None and not (isinstance(choice, ModelChoice) and choice.problem)
        if choice is not None:
            relabel(do, self._action(choice))

    def _action(self, choice: Choice) -> str:
        if isinstance(choice, SilentEngine):
            return _("Try again")
        if isinstance(choice, RemoteChoice) or choice.local or self._is_file(choice):
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
        match self.highlighted:
            case None:
                return
            case SilentEngine() as engine:
                self._ask_again(engine)
            case RemoteChoice(reference=reference):
                self.post_message(self.Chosen(reference))
            case choice if choice.problem:
                self.query_one("#about-model", Complaint).show(choice.problem)
            case choice if choice.local:
                self.post_message(self.Chosen(choice.reference))
            case choice if self._is_file(choice):
                await self._use_file(choice.reference)
            case choice:
                self._ask_and_download(choice)

    @on(Button.Pressed, "#file")
    @work(exclusive=True, group="file")
    async def _ask_for_file(self) -> None:
        start = str(_absolute("~")) + "/"
        asking = TextScreen(_("Path of a .gguf file"), start, PathSuggester(".gguf"))
        if path := await self.app.push_screen_wait(asking):
            await self._use_file(path)

    @on(Button.Pressed, "#engines")
    @work(exclusive=True, group="dialog of engines")
    async def _open_engines(self) -> None:
        """Change the engines; the first one is added at once."""
        program = self._program
        dialog = EnginesScreen(program) if program.settings.engines else EngineScreen(program)
        if await self.app.push_screen_wait(dialog):
            self.post_message(self.EnginesChanged())
            self._ask_engines()

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
        download = self._downloads.latest(event.download)
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
