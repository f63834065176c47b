"""What one session is called and how its model answers: title, tags, model, system prompt, sampling."""

import asyncio
import re
from collections.abc import Callable
from typing import Any, ClassVar

from msgspec.structs import replace
from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.suggester import SuggestFromList
from textual.types import CSSPathType
from textual.widgets import Button, Input, OptionList, TextArea
from textual.widgets.option_list import Option

from qwenchat.chat.sampling import PARAMETERS
from qwenchat.chat.session import Session
from qwenchat.errors import NotFound, QwenchatError, WrongUse
from qwenchat.i18n import _, labelled
from qwenchat.models import reference
from qwenchat.runtime.program import Program
from qwenchat.text.safe import clean, clean_line
from qwenchat.tui.dialogs.dialog import Buttons, Complaint, Dialog, button, plain
from qwenchat.tui.dialogs.small import ConfirmScreen, TextScreen
from qwenchat.tui.parameters import CONTEXT, parse_number, parse_tags
from qwenchat.tui.prompt_library import NamedPrompt, PromptLibrary
from qwenchat.tui.setting_words import as_default, default, of_the_model, sampling_title
from qwenchat.tui.widgets.fields import AreaField, LineField

_CHECKED = (*(each.name for each in PARAMETERS), "model", CONTEXT)


class SessionScreen(Dialog[Session | None]):
    """Gives the session with what was changed, or None. It saves nothing itself but prompts of the library."""

    CSS_PATH: ClassVar[CSSPathType | None] = ["dialog.tcss", "session.tcss"]

    def __init__(self, program: Program, session: Session, model_name: str = "", *, at_system: bool = False) -> None:
        """`model_name` is the name of the session's model to show; its reference by default.

        The dialog opens at the title, or `at_system` at the system prompt.
        """
        super().__init__()
        is_elsewhere = session.model.startswith("@")
        shown = session.model if is_elsewhere else model_name or session.model
        self._program, self._session, self._model_name = program, session, clean_line(shown)
        self._at_system = at_system
        self._models = {self._model_name: session.model}
        """References by the names that the field of the model takes."""
        self._prompts = PromptLibrary(program.paths.config / "prompts")
        self._listed: list[NamedPrompt] = []

    def heading(self) -> str:
        return _("Chat settings")

    def body(self) -> ComposeResult:
        session = self._session
        yield from _field(
            _("Title"), "title", clean_line(session.title), as_default(_("taken from the first question"))
        )
        yield from _field(_("Tags"), "tags", ", ".join(map(clean_line, session.tags)), _("separated by commas"))
        yield from _field(_("Model"), "model", self._model_name, self._usual_model())
        yield Complaint("about-model")
        if host := self._program.remote_engines.host_of(session.model):
            yield plain(_("Runs on {host}: what you write goes there.").format(host=host), classes="muted")
        usual = self._program.settings.model.context
        tokens = as_default(f"{usual:,}") if usual else default("model.context")
        yield from _field(_("Context"), "context", f"{session.context or ''}", tokens)
        yield Complaint("about-context")
        yield plain(_("System prompt"), classes="label")
        yield AreaField(clean(session.system), id="system", placeholder=_("empty = model default"))
        yield plain(_("Saved prompts (Enter to use)"), classes="label", id="library")
        yield OptionList(id="prompts", markup=False)
        keep, delete = button(_("Save to prompts…"), "save"), button(_("Delete prompt"), "delete")
        yield Buttons([keep, delete], foot=False)
        yield Complaint("about-prompts")
        yield plain(_("Sampling (empty = default)"), classes="label")
        for each in PARAMETERS:
            value = getattr(session.sampling, each.name)
            usual = getattr(self._program.sampling, each.name)
            with Horizontal(classes="row"):
                yield plain(sampling_title(each.name), classes="name")
                yield LineField("" if value is None else f"{value}", _shown(usual), id=each.name)
            yield Complaint(f"about-{each.name}")
        yield plain(_("Stop sequences, one per line (\\n = newline)"), classes="label")
        yield AreaField("\n".join(map(_escaped, session.sampling.stop)), id="stop")
        yield Buttons([button(_("Save"), "keep", main=True), button(_("Cancel"), "cancel")])

    def on_mount(self) -> None:
        """Begin at the title or the system prompt; the library is read off the loop."""
        area = self.query_one("#system", TextArea)
        area.move_cursor(area.document.end)
        self.set_focus(area if self._at_system else self.query_one("#title"))
        self._list_prompts()
        self._suggest_models()

    @work(exclusive=True, group="models")
    async def _suggest_models(self) -> None:
        """Complete the names of the models on this machine, and of those that engines offered, as they are typed."""
        for model in await asyncio.to_thread(self._program.library.usable):
            name = str(model.name) if reference.path_in(model.reference) else model.reference
            self._models.setdefault(clean_line(name), model.reference)
        for listing in await asyncio.to_thread(self._program.remote_engines.known):
            for served in listing.models:
                self._models.setdefault(clean_line(listing.reference(served)), listing.reference(served))
        self.query_one("#model", Input).suggester = SuggestFromList(self._models, case_sensitive=False)

    @work(exclusive=True, group="list of prompts")
    async def _list_prompts(self) -> None:
        self._listed, problems = await asyncio.to_thread(self._prompts.read)
        self.query_one("#about-prompts", Complaint).show(problems[0] if problems else None)
        listed = self.query_one("#prompts", OptionList)
        listed.clear_options()
        listed.add_options(Option(Content(labelled(each.name, clean_line(each.text, 60)))) for each in self._listed)
        for widget in (listed, self.query_one("#library"), self.query_one("#delete")):
            widget.display = bool(self._listed)

    @on(OptionList.OptionSelected, "#prompts")
    def _choose_prompt(self, event: OptionList.OptionSelected) -> None:
        area = self.query_one("#system", TextArea)
        area.replace(self._listed[event.option_index].text, area.document.start, area.document.end)  # can be undone

    @on(Button.Pressed, "#save")
    @work(exclusive=True, group="prompts")
    async def _save_prompt(self) -> None:
        text = self.query_one("#system", TextArea).text
        if name := await self.app.push_screen_wait(TextScreen(_("Save the prompt as"))):
            known = any(prompt.name == name for prompt in self._listed)
            question = _("Replace the prompt {name}?").format(name=name)
            if not known or await self.app.push_screen_wait(ConfirmScreen(question, yes=_("Replace"))):
                await self._change_prompts(self._prompts.save, name, text)

    @on(Button.Pressed, "#delete")
    @work(exclusive=True, group="prompts")
    async def _delete_prompt(self) -> None:
        at = self.query_one("#prompts", OptionList).highlighted
        if at is None:
            self.query_one("#about-prompts", Complaint).show(_("Select the prompt to delete first."))
            return
        prompt = self._listed[at]
        question = _("Delete the prompt {name}?").format(name=prompt.name)
        if await self.app.push_screen_wait(ConfirmScreen(question, clean_line(prompt.text), _("Delete"))):
            await self._change_prompts(self._prompts.delete, prompt)

    async def _change_prompts(self, change: Callable[..., None], *what: object) -> None:
        complaint = self.query_one("#about-prompts", Complaint)
        try:
            await asyncio.to_thread(change, *what)
        except QwenchatError as error:
            complaint.show(error)
        else:
            self._list_prompts()

    @on(Input.Changed)
    def _check(self, event: Input.Changed) -> None:
        if event.input.id in _CHECKED:
            self._value(event.input.id)

    @on(Button.Pressed, "#keep")
    @on(Input.Submitted)
    def _save(self) -> None:
        values: dict[str, Any] = {}
        for name in _CHECKED:
            value, wrong = self._value(name)
            if wrong:
                self.query_one(f"#{name}").focus()
                return
            values[name] = value
        model, context = values.pop("model"), values.pop(CONTEXT)
        stop = self.query_one("#stop", TextArea).text.split("\n")
        values["stop"] = tuple(_unescaped(clean(line)) for line in stop if line)
        changed = replace(
            self._session,
            title=clean_line(self.query_one("#title", Input).value),
            tags=parse_tags(self.query_one("#tags", Input).value),
            model=model,
            context=context,
            system=clean(self.query_one("#system", TextArea).text).strip(),
            sampling=replace(self._session.sampling, **values),
        )
        self.answer(changed)

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.action_close()

    def _value(self, name: str) -> tuple[object, bool]:
        """Return a field's value and whether it is wrong; what is wrong is shown below the field."""
        text = self.query_one(f"#{name}", Input).value.strip()
        complaint = self.query_one(f"#about-{name}", Complaint)
        try:
            value = self._model(text) if name == "model" else parse_number(name, text)
        except (WrongUse, NotFound) as error:
            complaint.show(error)
            return None, True
        complaint.show(None)
        return value, False

    def _usual_model(self) -> str:
        usual = clean_line(self._program.settings.model.default)
        return as_default(usual) if usual else default("model.default")

    def _model(self, text: str) -> str:
        """Return a model's reference, given that or its name. Raises WrongUse or NotFound where it can mean nothing."""
        if text in self._models:
            return self._models[text]
        if text:
            try:
                reference.parse(text, self._program.catalogue)
            except QwenchatError:
                self._program.library.parse(text)
        return clean_line(text)


def _field(label: str, name: str, value: str, placeholder: str) -> ComposeResult:
    with Horizontal(classes="row"):
        yield plain(label, classes="name")
        yield LineField(value, placeholder, id=name)


def _shown(value: object) -> str:
    return of_the_model() if value is None else as_default(f"{value}")


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], text)
