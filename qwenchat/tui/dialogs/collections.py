"""The collections of documents: made, read again and removed here. No file of the user is changed or deleted.

Reading runs while the dialog is open; what was read is stored as it comes, so closing it only stops it.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Button, OptionList
from textual.widgets.option_list import Option

from qwenchat.documents.collections import Collection, CollectionProgress, update_words
from qwenchat.documents.index import OwnedDocument, collection_owner
from qwenchat.errors import QwenchatError
from qwenchat.i18n import _, enumerated, labelled
from qwenchat.paths import shortened
from qwenchat.runtime.program import Program
from qwenchat.text.safe import clean_line
from qwenchat.tui.dialogs.dialog import Buttons, Complaint, Dialog, button, plain
from qwenchat.tui.dialogs.documents import sizes
from qwenchat.tui.dialogs.fields import PathSuggester, aligned
from qwenchat.tui.dialogs.small import ConfirmScreen, TextScreen
from qwenchat.tui.widgets.prose import Prose

_DEFAULT = "documents"
_PROBLEMS = 3
"""Files that can't be read and are named."""


class CollectionsScreen(Dialog[None]):
    """The collections and what can be done with them."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("plus", "add", show=False),
        Binding("delete", "remove", show=False),
    ]

    def __init__(self, program: Program) -> None:
        super().__init__()
        self._program = program
        self._found: list[tuple[Collection, list[OwnedDocument]]] = []

    def heading(self) -> str:
        return _("Collections of documents")

    def body(self) -> ComposeResult:
        yield plain(_("Files and folders that stay indexed under a name."), classes="muted")
        yield OptionList(markup=False)
        yield plain("", id="progress")
        yield Complaint()
        yield Buttons(
            [
                button(_("Add…"), "add", main=True),
                button(_("Update"), "update"),
                button(_("Remove…"), "remove"),
                button(_("Close"), "close"),
            ]
        )

    def enter_on_list(self) -> str:
        return _("update")

    def keys_of(self, focused: Widget | None) -> list[tuple[str, str]]:
        own = super().keys_of(focused)
        return [*own, ("+", _("add")), ("Delete", _("remove"))] if isinstance(focused, OptionList) else own

    def on_mount(self) -> None:
        """List the collections."""
        self.query_one("#progress").display = False
        self._list()

    @work(exclusive=True, group="collections")
    async def _list(self) -> None:
        await self._reread()
        (self.query_one(OptionList) if self._found else self.query_one("#add")).focus()

    async def _reread(self) -> None:
        try:
            self._found = await asyncio.to_thread(self._read)
        except QwenchatError as error:
            self.query_one(Complaint).show(error)
        self._show()

    def _read(self) -> list[tuple[Collection, list[OwnedDocument]]]:
        if not self._program.paths.collections.exists():
            return []
        index = self._program.documents
        return [(each, index.owned(collection_owner(each.name))) for each in self._program.collections.all()]

    @on(events.Resize)
    def _show(self) -> None:
        listed = self.query_one(OptionList)
        at = listed.highlighted or 0
        rows = [_row(collection, owned) for collection, owned in self._found]
        listed.clear_options()
        listed.add_options(map(Option, aligned(rows, max(self.query_one(".frame").size.width - 4, 10))))
        listed.display = bool(rows)
        listed.highlighted = min(at, len(rows) - 1) if rows else None
        for name in ("update", "remove"):
            self.query_one(f"#{name}").display = bool(rows)

    @property
    def _at(self) -> Collection | None:
        at = self.query_one(OptionList).highlighted
        return self._found[at][0] if at is not None and at < len(self._found) else None

    @on(Button.Pressed, "#add")
    def action_add(self) -> None:
        """Add a file or folder to a collection, which may be new, and read it."""
        self._add()

    @work(exclusive=True, group="collections")
    async def _add(self) -> None:
        asking = TextScreen(_("File or folder to add"), suggester=PathSuggester())
        path = await self.app.push_screen_wait(asking)
        if not path:
            return
        at = self._at
        name = await self.app.push_screen_wait(TextScreen(_("Name of the collection"), at.name if at else _DEFAULT))
        if not name:
            return
        try:
            await asyncio.to_thread(self._program.collections.put, name, [Path(path)])
        except QwenchatError as error:
            self.query_one(Complaint).show(error)
            return
        await self._read_again(name)

    @on(OptionList.OptionSelected)
    @on(Button.Pressed, "#update")
    @work(exclusive=True, group="collections")
    async def _update(self) -> None:
        """Read what has changed in a collection."""
        if at := self._at:
            await self._read_again(at.name)

    async def _read_again(self, name: str) -> None:
        complaint, progress = self.query_one(Complaint), self.query_one("#progress", Prose)
        complaint.show(None)
        progress.display = True
        progress.update(labelled(clean_line(shortened(name)), _("reading…")))

        def report(made: CollectionProgress) -> None:
            words = _("Reading {done:,} of {total:,}: {file}")
            progress.update(clean_line(words.format(done=made.done + 1, total=made.total, file=made.name), 300))

        try:
            result = await self._program.collections.update(name, report)
        except QwenchatError as error:
            progress.display = False
            complaint.show(error)
        else:
            progress.update(labelled(clean_line(shortened(name)), update_words(result)))
            complaint.show(" ".join([*result.problems.values()][:_PROBLEMS]))
        await self._reread()

    @on(Button.Pressed, "#remove")
    def action_remove(self) -> None:
        """Remove the collection under the cursor, if the user really wants that."""
        self._remove()

    @work(exclusive=True, group="collections")
    async def _remove(self) -> None:
        at = self._at
        if at is None:
            return
        question = _("Remove the collection {name}?").format(name=clean_line(shortened(at.name)))
        asking = ConfirmScreen(question, _("What was indexed of it is deleted; your files stay."), _("Remove"))
        if not await self.app.push_screen_wait(asking):
            return
        try:
            await asyncio.to_thread(self._program.collections.remove, at.name)
        except QwenchatError as error:
            self.query_one(Complaint).show(error)
        await self._reread()

    @on(Button.Pressed, "#close")
    def _close(self) -> None:
        self.action_close()


def _row(collection: Collection, owned: Sequence[OwnedDocument]) -> list[str]:
    paths = enumerated(shortened(str(path)) for path in collection.paths)
    return [clean_line(shortened(collection.name), 40), *sizes(owned), clean_line(paths, 60)]
