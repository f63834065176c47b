"""All settings, made from their types: one row each, edited by type, with what the environment overrides marked.

A change is written at once; an invalid one is not written, and its row says why. Esc takes back what is being typed.
"""

import asyncio
from collections.abc import Iterator, Mapping
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.suggester import SuggestFromList
from textual.types import CSSPathType
from textual.widget import Widget
from textual.widgets import Input, Select

from qwenchat import config
from qwenchat.config import Settings
from qwenchat.errors import QwenchatError
from qwenchat.i18n import _
from qwenchat.paths import expand_home, folder_problem
from qwenchat.runtime.program import Program
from qwenchat.text.safe import clean_line
from qwenchat.tui import setting_words
from qwenchat.tui.dialogs.dialog import Complaint, Dialog, plain
from qwenchat.tui.themes import load_all
from qwenchat.tui.widgets.fields import LineField


class SettingRow(Vertical):
    """One setting: its title, its value, what it means, and what is wrong with what was typed.

    `choices` are the values that it can have, each with its meaning; without them any text can be typed. The field of
    a setting that has its default value is empty, and says what that is.
    """

    def __init__(self, key: str, value: str, override: str | None, choices: Mapping[str, str]) -> None:
        super().__init__()
        self.key, self.saved = key, value
        self._override, self._choices = override, choices

    def compose(self) -> ComposeResult:
        with Horizontal(classes="row"):
            yield plain(setting_words.title(self.key), classes="name")
            yield self._editor()
        description = _(config.description(self.key))
        yield plain(f"{description} ({self.key})", classes="muted")
        if self._override is not None:
            words = _("! Overridden by the environment: {variable}={value}")
            yield plain(words.format(variable=config.variable(self.key), value=clean_line(self._override)))
        yield Complaint()

    @property
    def typed(self) -> str:
        """The saved value as its field shows it."""
        is_default = self.saved == setting_words.as_typed(config.get(Settings(), self.key))
        return "" if is_default else clean_line(self.saved, 2000)

    def _editor(self) -> Widget:
        default = setting_words.default(self.key)
        if self._choices:
            without = setting_words.as_typed(config.get(Settings(), self.key))
            words = {value: default if value == without else meaning for value, meaning in self._choices.items()}
            if self.saved not in words:
                words[self.saved] = _("{value} (not found)").format(value=clean_line(self.saved, 60))
            return Select([(words[value], value) for value in words], value=self.saved, allow_blank=False, compact=True)
        suggester = SuggestFromList(["hf", "hf-mirror", "modelscope"]) if self.key == "hub.source" else None
        return LineField(self.typed, default, suggester=suggester)


class SettingsScreen(Dialog[bool]):
    """Answers whether anything was changed in the settings file; `at` is the key of the setting to begin with."""

    CSS_PATH: ClassVar[CSSPathType | None] = ["dialog.tcss", "settings.tcss"]
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "take_back", show=False)]

    def __init__(self, program: Program, at: str = "") -> None:
        super().__init__()
        self._program, self._at = program, at
        self._changed = False
        self._one_at_a_time = asyncio.Lock()
        """Writing a setting reads the file first: two at once would lose one."""

    def heading(self) -> str:
        return _("Settings")

    def body(self) -> ComposeResult:
        yield plain(_("Changes are saved when you press Enter or leave a field."), classes="muted")
        yield Complaint("about-file")

    def on_mount(self) -> None:
        """Read the file, off the loop."""
        self._open()

    @work(exclusive=True, group="open")
    async def _open(self) -> None:
        try:
            settings = await asyncio.to_thread(config.load, self._program.paths.settings, {})
            titles = (await asyncio.to_thread(load_all, self._program.paths.config / "themes")).titles
        except QwenchatError as error:
            self.query_one("#about-file", Complaint).show(error)
            return
        await self.query_one(".frame").mount_all(self._rows(settings, titles))
        begins = next((row for row in self.query(SettingRow) if row.key == self._at), self)
        begins.query("Input, Select").first().focus()

    def _rows(self, settings: Settings, themes: Mapping[str, str]) -> Iterator[Widget]:
        before = ""
        for key in config.names():
            section = config.section(key)
            if section and section != before:
                yield plain(_(section).removesuffix("."), classes="section")
            before = section
            choices = {choice: setting_words.meaning(choice) for choice in config.choices(key)}
            if key == "theme":
                choices = {"": ""} | {name: clean_line(_(title) if title else name) for name, title in themes.items()}
            override = self._program.environ.get(config.variable(key))
            yield SettingRow(key, setting_words.as_typed(config.get(settings, key)), override, choices)

    @on(Input.Submitted)
    @on(Input.Blurred)
    def _save_typed(self, event: Input.Submitted | Input.Blurred) -> None:
        self._save(_row_of(event.input), event.value.strip())

    @on(Select.Changed)
    def _save_chosen(self, event: Select.Changed) -> None:
        self._save(_row_of(event.select), str(event.value))

    @work(group="save")
    async def _save(self, row: SettingRow, value: str) -> None:
        complaint = row.query_one(Complaint)
        if value in (row.saved, row.typed):
            complaint.show(None)
            return
        try:
            async with self._one_at_a_time:
                await asyncio.to_thread(config.put, self._program.paths.settings, row.key, value)
        except QwenchatError as error:
            complaint.show(error.message)
            return
        row.saved, self._changed = value, True
        complaint.show(await asyncio.to_thread(_doubt, row.key, value))

    def action_take_back(self) -> None:
        """Take back what is being typed; close where nothing is."""
        if isinstance(self.focused, Input) and self.focused.value != (row := _row_of(self.focused)).typed:
            self.focused.value = row.typed
            row.query_one(Complaint).show(None)
        else:
            self.action_close()

    def action_close(self) -> None:
        """Save what is being typed, then answer whether anything was changed."""
        self._finish()

    @work(exclusive=True, group="finish")
    async def _finish(self) -> None:
        if isinstance(self.focused, Input):
            self._save(_row_of(self.focused), self.focused.value.strip())
        for busy in [worker for worker in self.workers if worker.group in ("open", "save")]:
            await busy.wait()  # Textual's Select can't be taken away while it is still being put in
        self.answer(self._changed)


def _row_of(widget: Widget) -> SettingRow:
    return next(node for node in widget.ancestors if isinstance(node, SettingRow))


def _doubt(key: str, value: str) -> str:
    """Return what is odd about a saved value; empty for most."""
    if key not in ("hub.folder", "hub.folders", "tools.folders"):
        return ""
    folders = [value] if key == "hub.folder" else value.split(",")
    problems = {name.strip(): folder_problem(expand_home(name.strip())) for name in folders if name.strip()}
    words = _("Saved, but {folder} can't be searched now: {reason}.")
    return " ".join(words.format(folder=name, reason=reason) for name, reason in problems.items() if reason)
