"""The engines elsewhere: the list of those in the settings, and one engine's settings with a test of it.

Only where a key comes from is asked for and shown, never the key. What a test sends is a fixed sentence.
"""

import asyncio
from collections.abc import Iterator
from typing import ClassVar

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.types import CSSPathType
from textual.widget import Widget
from textual.widgets import Button, Input, OptionList, Select
from textual.widgets.option_list import Option

from qwenchat import config
from qwenchat.chat.sampling import Dialect
from qwenchat.engine_settings import EngineSettings, checked
from qwenchat.errors import QwenchatError, WrongUse
from qwenchat.i18n import _, ngettext
from qwenchat.runtime.engine_check import EngineReport, check_engine, dialect_name, limitations
from qwenchat.runtime.program import Program
from qwenchat.runtime.remote_engines import server_from
from qwenchat.text.safe import clean_line
from qwenchat.tui.dialogs.dialog import Buttons, Complaint, Dialog, button, plain
from qwenchat.tui.dialogs.fields import aligned
from qwenchat.tui.dialogs.small import ConfirmScreen
from qwenchat.tui.parameters import CONTEXT, parse_number
from qwenchat.tui.widgets.fields import LineField
from qwenchat.tui.widgets.prose import Prose

_NO_KEY = ""
_KEY_PLACES = ("key_env", "key_command", "key_file")


class EngineScreen(Dialog[bool]):
    """The settings of an engine, or of one to add; it saves them, and answers whether it did.

    `test`: the engine is tested at once.
    """

    CSS_PATH: ClassVar[CSSPathType | None] = ["dialog.tcss", "engines.tcss"]

    def __init__(self, program: Program, name: str = "", *, test: bool = False, at_key: bool = False) -> None:
        """`at_key`: the dialog opens at the place of the key."""
        super().__init__()
        self._program, self._engine_name, self._tests_at_once, self._at_key = program, name, test, at_key
        self._engine = program.settings.engines.get(name)

    def heading(self) -> str:
        return _("Engine {name}").format(name=self._engine_name) if self._engine else _("Add an engine")

    def body(self) -> ComposeResult:
        engine = self._engine or EngineSettings(url="")
        place = next((each for each in _KEY_PLACES if getattr(engine, each)), _NO_KEY)
        places = {
            _NO_KEY: _("no key"),
            "key_env": _("an environment variable"),
            "key_command": _("a command that prints it"),
            "key_file": _("a file that only you can read"),
        }
        kinds = {"": _("found out by asking")} | {str(kind): dialect_name(kind) for kind in Dialect}
        yield from _row(
            _("Name"), LineField(self._engine_name, _("such as lab; models are then @lab/MODEL"), id="name")
        )
        yield from _row("URL", LineField(engine.url, "http://10.0.0.5:8080", id="url"))
        yield from _row(_("Kind"), _select("kind", kinds, engine.kind or ""))
        yield from _row(_("Key from"), _select("place", places, place))
        value = getattr(engine, place) if place else ""
        yield from _row("", LineField(value, id="key"))
        usual = _("what the server reports")
        yield from _row(_("Context"), LineField(f"{engine.context or ''}", usual, id="context"))
        yield Complaint("about-engine")
        yield plain("", classes="muted", id="result")
        row = [button(_("Save"), "save", main=True), button(_("Test"), "test")]
        if self._engine:
            row.append(button(_("Remove…"), "remove"))
        yield Buttons([*row, button(_("Cancel"), "cancel")])

    def on_mount(self) -> None:
        """Begin with the first field, or at the key."""
        if self._engine:
            self.query_one("#name", Input).disabled = True  # references name it
        self._show_place()
        at = "#place" if self._at_key else "#url" if self._engine else "#name"
        self.set_focus(self.query_one(at))
        if self._tests_at_once:
            self._test()

    @on(Select.Changed, "#place")
    def _show_place(self) -> None:
        """Say what belongs into the field of the key, and show it only where something does."""
        examples = {
            "key_env": _("name of the variable, such as LAB_KEY"),
            "key_command": _("such as: pass show lab"),
            "key_file": _("path of the file, such as ~/.lab-key"),
        }
        place, field = self._chosen("place"), self.query_one("#key", Input)
        field.placeholder = examples.get(place, "")
        if isinstance(field.parent, Widget):
            field.parent.display = bool(place)

    @on(Button.Pressed, "#save")
    @on(Input.Submitted)
    @work(exclusive=True, group="engine")
    async def _save(self) -> None:
        complaint = self.query_one("#about-engine", Complaint)
        try:
            name, engine = self._typed()
            if not self._engine and name in self._program.settings.engines:
                raise WrongUse(_("There is an engine named {name} already.").format(name=name), _("Use another name."))
            exposed = _("Its key is sent unencrypted over the network. Use https where you can.")
            asking = ConfirmScreen(_("Save the engine {name}?").format(name=name), exposed, _("Save"))
            if engine.exposes_key and not await self.app.push_screen_wait(asking):
                return
            await self._write(name, engine)
        except QwenchatError as error:
            complaint.show(error)
            return
        self.answer(True)

    async def _write(self, name: str, engine: EngineSettings | None) -> None:
        """Write an engine's settings; None removes them. Raises WrongUse or FileError."""
        await asyncio.to_thread(config.put_engine, self._program.paths.settings, name, engine)
        self._program.reread_settings()

    @on(Button.Pressed, "#test")
    @work(exclusive=True, group="engine")
    async def _test(self) -> None:
        complaint, result = self.query_one("#about-engine", Complaint), self.query_one("#result", Prose)
        complaint.show(None)
        try:
            name, engine = self._typed()
        except QwenchatError as error:
            complaint.show(error)
            return
        server = server_from(name, engine)
        result.update(_("Asking {host}…").format(host=server.host))
        report = await check_engine(self._program.remote_engines, server, self._program.remote_engine)
        result.update("\n".join(clean_line(line, 400) for line in report_lines(report)))
        complaint.show(report.error)

    @on(Button.Pressed, "#remove")
    @work(exclusive=True, group="engine")
    async def _remove(self) -> None:
        asking = ConfirmScreen(
            _("Remove the engine {name}?").format(name=self._engine_name),
            _("Chats stay as they are; they can't be continued on it."),
            _("Remove"),
        )
        if await self.app.push_screen_wait(asking):
            await self._write(self._engine_name, None)
            self.answer(True)

    @on(Button.Pressed, "#cancel")
    def action_close(self) -> None:
        """Change nothing."""
        self.answer(False)

    def _typed(self) -> tuple[str, EngineSettings]:
        """Return the name and the settings that are in the fields. Raises WrongUse."""
        kind, place, key = self._chosen("kind"), self._chosen("place"), self._text("key")
        if place and not key:
            raise WrongUse(_("The place of the key is missing."), _("Enter it, or choose “no key”."))
        name = self._text("name")
        engine = EngineSettings(
            url=self._text("url"),
            kind=Dialect(kind) if kind else None,
            key_env=key if place == "key_env" else "",
            key_command=key if place == "key_command" else "",
            key_file=key if place == "key_file" else "",
            context=int(parse_number(CONTEXT, self._text("context")) or 0),
        )
        return name, checked(name, engine)

    def _text(self, field: str) -> str:
        return self.query_one(f"#{field}", Input).value.strip()

    def _chosen(self, field: str) -> str:
        return str(self.query_one(f"#{field}", Select).value)


class EnginesScreen(Dialog[bool]):
    """The engines of the settings; it answers whether any was changed."""

    CSS_PATH: ClassVar[CSSPathType | None] = ["dialog.tcss", "engines.tcss"]
    BINDINGS: ClassVar[list[BindingType]] = [Binding("plus", "add", show=False)]

    def __init__(self, program: Program) -> None:
        super().__init__()
        self._program = program
        self._changed = False

    def heading(self) -> str:
        return _("Engines on other machines")

    def body(self) -> ComposeResult:
        yield plain(_("Their models are in the list of models, as @NAME/MODEL."), classes="muted")
        yield OptionList(markup=False)
        yield Buttons([button(_("Add…"), "add", main=True), button(_("Close"), "close")])

    def enter_on_list(self) -> str:
        return _("edit")

    def keys_of(self, focused: Widget | None) -> list[tuple[str, str]]:
        own = super().keys_of(focused)
        return [*own, ("+", _("add"))] if isinstance(focused, OptionList) else own

    def on_mount(self) -> None:
        """List the engines."""
        self.set_focus(self.query_one(OptionList) if self._program.settings.engines else self.query_one("#add"))

    @on(events.Resize)
    def _show(self) -> None:
        listed, engines = self.query_one(OptionList), self._program.settings.engines
        hosts = {server.name: server.host for server in self._program.remote_engines.servers}
        rows = [
            [name, hosts[name], dialect_name(engine.kind) if engine.kind else "", _("with a key") * engine.has_key]
            for name, engine in engines.items()
        ]
        at = listed.highlighted
        listed.clear_options()
        listed.add_options(Option(line) for line in aligned(rows, max(self.query_one(".frame").size.width - 4, 10)))
        listed.display = bool(rows)
        listed.highlighted = min(at or 0, len(rows) - 1) if rows else None

    @on(OptionList.OptionSelected)
    def _edit(self, event: OptionList.OptionSelected) -> None:
        self._open([*self._program.settings.engines][event.option_index])

    @on(Button.Pressed, "#add")
    def action_add(self) -> None:
        """Add an engine."""
        self._open()

    @work(exclusive=True, group="engine")
    async def _open(self, name: str = "") -> None:
        if await self.app.push_screen_wait(EngineScreen(self._program, name)):
            self._changed = True
            self._show()

    @on(Button.Pressed, "#close")
    def action_close(self) -> None:
        """Answer whether an engine was changed."""
        self.answer(self._changed)


def report_lines(report: EngineReport) -> Iterator[str]:
    """Yield what a test found out, a sentence a line."""
    listing, info, timings = report.listing, report.info, report.timings
    if listing.error is None:
        count = len(listing.models)
        words = ngettext(
            "{host} answers as {kind}, with {count} model.", "{host} answers as {kind}, with {count} models.", count
        )
        yield words.format(host=listing.server.host, kind=dialect_name(listing.dialect), count=count)
    if info:
        words = _("{model} has a context window of {window:,} tokens.")
        yield words.format(model=report.model, window=info.n_ctx)
        yield from info.warnings
    if timings:
        words = _("First token after {first:.2f} s, then {speed:.1f} tokens/s.")
        yield words.format(first=timings.ttft_s, speed=timings.decode_tps)
    yield from limitations(report)


def _select(name: str, words: dict[str, str], value: str) -> Select[str]:
    options = [(shown, key) for key, shown in words.items()]
    return Select(options, value=value, allow_blank=False, compact=True, id=name)


def _row(label: str, field: Widget) -> ComposeResult:
    with Horizontal(classes="row"):
        yield plain(label, classes="name")
        yield field
