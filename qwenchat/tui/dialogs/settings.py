"""All settings, made from their types: one row each, edited by type, with what the environment overrides marked.

A change is written at once; an invalid one is not written, and its row says why.
"""

import asyncio
from collections.abc import Iterator
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.types import CSSPathType
from textual.widget import Widget
from textual.widgets import Input, Select

from qwenchat import config
from qwenchat.config import Settings
from qwenchat.errors import QwenchatError
from qwenchat.i18n import _
from qwenchat.runtime.program import Program
from qwenchat.text.safe import clean_line
from qwenchat.tui.dialogs.dialog import Complaint, Dialog, plain
from qwenchat.tui.widgets.fields import LineField


class SettingRow(Vertical):
    """One setting: its name, its value, what it means, and what is wrong with what was typed."""

    def __init__(self, key: str, value: str, override: str | None) -> None:
        super().__init__()
        self.key, self.saved = key, value
        self._override = override

    def compose(self) -> ComposeResult:
        with Horizontal(classes="row"):
            yield plain(self.key, classes="name")
            yield self._editor()
        yield plain(_(config.description(self.key)), classes="muted")
        if self._override is not None:
            words = _("! Overridden by the environment: {variable}={value}")
            yield plain(words.format(variable=config.variable(self.key), value=clean_line(self._override)))
        yield Complaint()

    def _editor(self) -> Widget:
        if choices := config.choices(self.key):
            options = [(_meaning(choice), choice) for choice in choices]
            return Select(options, value=self.saved, allow_blank=False, compact=True)
        return LineField(clean_line(self.saved, 2000), _("not set"))


class SettingsScreen(Dialog[bool]):
    """Answers whether anything was changed in the settings file."""

    CSS_PATH: ClassVar[CSSPathType | None] = ["dialog.tcss", "settings.tcss"]

    def __init__(self, program: Program) -> None:
        super().__init__()
        self._program = program
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
        except QwenchatError as error:
            self.query_one("#about-file", Complaint).show(error)
            return
        await self.query_one(".frame").mount_all(self._rows(settings))

    def _rows(self, settings: Settings) -> Iterator[Widget]:
        before = ""
        for key in config.names():
            section = config.section(key)
            if section and section != before:
                yield plain(_(section).removesuffix("."), classes="section")
            before = section
            yield SettingRow(key, _text(config.get(settings, key)), self._program.environ.get(config.variable(key)))

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
        if value == row.saved:
            complaint.show(None)
            return
        try:
            async with self._one_at_a_time:
                await asyncio.to_thread(config.put, self._program.paths.settings, row.key, value)
        except QwenchatError as error:
            complaint.show(error.message)
            return
        complaint.show(None)
        row.saved, self._changed = value, True

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


def _text(value: object) -> str:
    """Return a setting as a user types it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "" if value is None else f"{value}"


def _meaning(choice: str) -> str:
    return {"": _("the default"), "true": _("on"), "false": _("off")}.get(choice, choice)
