"""Imports chats from files, of qwenchat or of other programs: says how many came, and names what was refused.

Files are given by their paths, typed or dropped; what they contain is up to `sessions.importers`.
"""

import asyncio
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from textual import events, on, work
from textual.app import ComposeResult
from textual.types import CSSPathType
from textual.widget import Widget
from textual.widgets import Button, Input, Static

from qwenchat.errors import FileError, QwenchatError, WrongUse
from qwenchat.i18n import _, enumerated, labelled, ngettext
from qwenchat.paths import expand_home
from qwenchat.runtime.program import Program
from qwenchat.sessions import importers, records
from qwenchat.text.safe import clean, clean_line
from qwenchat.tui.arguments import IMPORTED
from qwenchat.tui.dialogs.dialog import Buttons, Complaint, Dialog, button, plain
from qwenchat.tui.dialogs.fields import PathSuggester
from qwenchat.tui.widgets.fields import LineField
from qwenchat.tui.widgets.prompt import dropped_path

_BETWEEN_PATHS = re.compile(r"(?<!\\)\s")
_MOST_PROBLEMS = 50
"""Refused files and chats that are named; the others are counted."""


class PathsLine(LineField):
    """One or more paths with spaces between them, as a shell takes them."""

    def __init__(self, value: str) -> None:
        super().__init__(value, _("Type paths or drop files here"), suggester=PathsSuggester(*IMPORTED))

    def on_paste(self, event: events.Paste) -> None:
        """Insert dropped files behind those that are there; a terminal may write each on a line."""
        event.stop()
        event.prevent_default()
        pasted = clean_line(" ".join(event.text.split("\n")), 100_000)
        gap = " " if self.value and not self.value.endswith(" ") else ""
        self.insert_text_at_cursor(gap + pasted.strip() + " ")


class PathsSuggester(PathSuggester):
    """Suggests what the last of several paths may become."""

    async def get_suggestion(self, value: str) -> str | None:
        """Return the whole text with the last path completed."""
        last = _BETWEEN_PATHS.split(value)[-1]
        before = value[: len(value) - len(last)]
        found = await super().get_suggestion(re.sub(r"\\(.)", r"\1", last))
        return before + found.replace(" ", "\\ ") if found else None


class ImportScreen(Dialog[bool]):
    """Imports files into the store and answers whether a chat came; it stays open where something was refused.

    It begins at once where `paths` are given.
    """

    CSS_PATH: ClassVar[CSSPathType | None] = ["dialog.tcss", "import.tcss"]

    def __init__(self, program: Program, paths: str = "") -> None:
        super().__init__()
        self._program, self._paths = program, paths
        self._has_imported = self._is_busy = False

    def heading(self) -> str:
        return _("Import chats")

    def body(self) -> ComposeResult:
        names = enumerated(form.name for form in importers.formats())
        yield plain(_("Exported files (.json, .jsonl, .zip) of: {names}").format(names=names), classes="muted")
        yield PathsLine(self._paths)
        yield Complaint()
        yield Buttons([button(_("Import"), "import", main=True), button(_("Close"), "close")])
        yield plain("", id="report")

    def on_mount(self) -> None:
        """Import what is named already."""
        if self._paths:
            self._start()

    def keys_of(self, focused: Widget | None) -> list[tuple[str, str]]:
        return [("Enter", _("import"))] if isinstance(focused, Input) else super().keys_of(focused)

    def action_close(self) -> None:
        """Answer whether anything was imported."""
        self.answer(self._has_imported)

    @on(Input.Submitted)
    @on(Button.Pressed, "#import")
    def _start(self) -> None:
        if not self._is_busy:
            self._is_busy = True
            self._import()

    @on(Button.Pressed, "#close")
    def _close(self) -> None:
        self.action_close()

    @work(group="import")
    async def _import(self) -> None:
        complaint, report = self.query_one(Complaint), self.query_one("#report", Static)
        complaint.show(None)
        try:
            paths = paths_named(self.query_one(Input).value)
            if not paths:
                raise WrongUse(_("No file given."), _("Type its path, or drop it here."))
            outcome = ImportOutcome()
            for path in paths:
                report.add_class("shown")
                report.update(clean(_("Importing {file}…").format(file=path.name)))
                outcome += await asyncio.to_thread(_import_file, self._program, path)
                self._has_imported = outcome.new > 0
        except QwenchatError as error:
            report.remove_class("shown")
            complaint.show(error)
            return
        finally:
            self._is_busy = False
        if outcome.losses:
            report.update("\n".join((outcome.words, "", *outcome.losses)))
        else:
            self.app.notify(outcome.words, markup=False)
            self.action_close()


@dataclass(frozen=True, slots=True)
class ImportOutcome:
    """What came of one or more files."""

    new: int = 0
    """Chats that were not here, or have grown."""
    there: int = 0
    empty: int = 0
    problems: tuple[str, ...] = ()
    """The files and chats that were refused, and why, a line each."""
    notes: tuple[str, ...] = ()
    """Which messages of the others were left out, and why, a line each."""

    def __add__(self, other: "ImportOutcome") -> "ImportOutcome":
        return ImportOutcome(
            new=self.new + other.new,
            there=self.there + other.there,
            empty=self.empty + other.empty,
            problems=self.problems + other.problems,
            notes=self.notes + other.notes,
        )

    @property
    def words(self) -> str:
        """The numbers as a line."""
        words = ngettext(
            "Imported {new} chat ({there} already here, {empty} empty, {bad} skipped)",
            "Imported {new} chats ({there} already here, {empty} empty, {bad} skipped)",
            self.new,
        )
        return words.format(new=self.new, there=self.there, empty=self.empty, bad=len(self.problems))

    @property
    def losses(self) -> list[str]:
        """What was refused, as much as can be read."""
        lines = [*(f"✗ {problem}" for problem in self.problems), *self.notes]
        shown = [clean_line(line, 300) for line in lines[:_MOST_PROBLEMS]]
        more = len(lines) - len(shown)
        return [*shown, _("… and {count} more").format(count=more)] if more else shown


def paths_named(typed: str) -> list[Path]:
    """Return the files that a line names: one path as it is, or several as a shell takes them. Raises FileError."""
    typed = typed.strip()
    try:
        is_one = bool(typed) and expand_home(typed).is_file()
        words = [typed] if is_one else shlex.split(typed)
    except (OSError, ValueError):  # an open quotation mark
        words = [typed]
    return [expand_home(str(dropped_path(word))) for word in words]


def _import_file(program: Program, path: Path) -> ImportOutcome:
    """Import a file; one that can't be read is a problem. Raises StoreError."""
    try:
        found = importers.read(records.records_of(path))
    except FileError as error:
        return ImportOutcome(problems=(labelled(path.name, error.message),))
    new = program.store.add_archives(found.archives) if found.archives else 0
    notes = tuple(
        labelled(
            path.name,
            ngettext(
                "{count} message was left out: {reason}", "{count} messages were left out: {reason}", count
            ).format(count=count, reason=reason),
        )
        for reason, count in found.left_out.items()
    )
    return ImportOutcome(
        new=new,
        there=len(found.archives) - new,
        empty=found.empty,
        problems=tuple(labelled(enumerated((path.name, problem.place)), problem.reason) for problem in found.problems),
        notes=notes,
    )
