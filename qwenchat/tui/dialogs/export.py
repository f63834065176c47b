"""Writes sessions to files: format, branches, place, and how it will begin."""

import asyncio
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.types import CSSPathType
from textual.widgets import Button, Input, Select, Static

from qwenchat.chat.session import Session
from qwenchat.errors import QwenchatError, WrongUse
from qwenchat.i18n import _, labelled, ngettext
from qwenchat.paths import expand_home
from qwenchat.runtime.program import Program
from qwenchat.sessions import export_destination, exporters
from qwenchat.sessions.export_destination import Export
from qwenchat.text.safe import clean
from qwenchat.tui.dialogs.dialog import Buttons, Complaint, Dialog, button, plain
from qwenchat.tui.dialogs.fields import PathSuggester
from qwenchat.tui.dialogs.small import ConfirmScreen
from qwenchat.tui.widgets.fields import LineField

_PREVIEW_LINES = 40
_PREVIEW_CHARACTERS = 8_000


class ExportScreen(Dialog[None]):
    """Exports sessions, given by their ids; a notification says how many files were written."""

    CSS_PATH: ClassVar[CSSPathType | None] = ["dialog.tcss", "export.tcss"]

    def __init__(self, program: Program, session_ids: Sequence[str]) -> None:
        super().__init__()
        self._program, self._ids = program, tuple(session_ids)
        self._sessions: list[Session] = []
        self._suggested = ""
        """The path that was filled in, which changes with the format unless the user typed another."""

    def heading(self) -> str:
        count = len(self._ids)
        return _("Export chat") if count == 1 else _("Export {count} chats").format(count=count)

    def body(self) -> ComposeResult:
        words = {
            "md": _("Markdown, to read and edit"),
            "html": _("a web page"),
            "txt": _("plain text"),
            "json": _("everything, can be imported again"),
            "jsonl": _("for training tools"),
            "sharegpt": _("ShareGPT, for training tools"),
        }
        names = sorted(exporters.names(), key=lambda name: [*words, name].index(name))
        options = [(labelled(name, words[name]) if name in words else name, name) for name in names]
        yield Select(options, value=names[0], allow_blank=False, compact=True, id="format")
        branches = [(_("Current branch only"), False), (_("All branches"), True)]
        yield Select(branches, value=False, allow_blank=False, compact=True, id="branches")
        yield plain("", classes="muted", id="left-out")
        yield plain(_("File, folder (ending in /) or .zip"), classes="label")
        yield LineField(suggester=PathSuggester())
        yield Complaint()
        yield Buttons([button(_("Export"), "write", main=True), button(_("Cancel"), "cancel")])
        yield plain(_("Preview"), classes="label")
        yield plain("", id="preview")

    def on_mount(self) -> None:
        """Read the sessions, off the loop."""
        self.set_focus(self.query_one("#format"))
        self._open()

    @work(exclusive=True, group="open")
    async def _open(self) -> None:
        try:
            self._sessions = await asyncio.to_thread(self._read)
        except QwenchatError as error:
            self.query_one(Complaint).show(error)
            return
        self._format_chosen()

    def _read(self) -> list[Session]:
        return [self._program.store.session(session_id) for session_id in self._ids]

    @property
    def _export(self) -> Export:
        form = exporters.named(str(self.query_one("#format", Select).value))
        every = self.query_one("#branches", Select).value is True
        return Export(self._program.store, self._sessions, form, every, self._program.model_name)

    @on(Select.Changed)
    def _format_chosen(self) -> None:
        """Suggest a place that goes with the format, and show how it begins."""
        if not self._sessions:
            return
        export, place = self._export, self.query_one(Input)
        if place.value in ("", self._suggested):
            name = export.files()[0][0] if len(self._sessions) == 1 else f"qwenchat-{export.form.name}.zip"
            self._suggested = place.value = str(_here() / name)
        self._preview()

    @work(exclusive=True, group="preview")
    async def _preview(self) -> None:
        preview = self.query_one("#preview", Static)
        try:
            preview.update(await asyncio.to_thread(_beginning, self._export))
            left_out = await asyncio.to_thread(self._export.left_out)
        except QwenchatError as error:
            self.query_one(Complaint).show(error)
            return
        words = ngettext(
            "{count:,} message on other branches is left out.",
            "{count:,} messages on other branches are left out.",
            left_out,
        )
        note = self.query_one("#left-out", Static)
        note.update(words.format(count=left_out))
        note.display = left_out > 0

    @on(Button.Pressed, "#write")
    @on(Input.Submitted)
    @work(exclusive=True, group="write")
    async def _write(self) -> None:
        place, complaint = self.query_one(Input).value.strip(), self.query_one(Complaint)
        complaint.show(None)
        try:
            if not place:
                raise WrongUse(_("No destination given."), _("Enter a file, a folder or a .zip."))
            expanded = _expanded(place)
            force = await self._may_replace(expanded)
            written = await asyncio.to_thread(export_destination.write, self._export, expanded, _nowhere, force)
        except QwenchatError as error:
            complaint.show(error)
            return
        count = len(written.files)
        words = ngettext("Saved to {first}", "Saved {count} files: {first}, …", count)
        first = clean(str(written.files[0])) if count else expanded
        self.app.notify(words.format(count=count, first=first), markup=False)
        self.answer(None)

    async def _may_replace(self, place: str) -> bool:
        """Ask before a file is replaced; False leaves it to the export to refuse."""
        if not await asyncio.to_thread(_is_file, place):
            return False
        question = _("{path} already exists.").format(path=place)
        asking = ConfirmScreen(clean(question), yes=_("Replace"))
        return await self.app.push_screen_wait(asking)

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.action_close()


def _beginning(export: Export) -> str:
    """Return the first lines of what would be written of the first session."""
    text = ""
    for piece in export.text(export.sessions[:1]):
        text += piece
        if len(text) > _PREVIEW_CHARACTERS:
            break
    return "\n".join(islice(clean(text[:_PREVIEW_CHARACTERS]).splitlines(), _PREVIEW_LINES))


def _here() -> Path:
    """Return the folder to suggest: where the program was started, or home where that folder is gone."""
    try:
        return Path.cwd()
    except OSError:
        return Path.home()


def _is_file(place: str) -> bool:
    """Say whether a file is there; a place that can't be looked at is for the export to refuse."""
    try:
        return Path(place).is_file()
    except OSError:
        return False


def _expanded(place: str) -> str:
    """Return a place with `~` resolved and its last slash, which means a folder, kept. Raises FileError."""
    return str(expand_home(place)) + "/" * place.endswith(("/", "\\"))


def _nowhere(piece: str) -> None:
    """Take what would go to standard output; a place is always given here."""
