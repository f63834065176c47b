"""The trash: which chats were deleted, when, and when they will be gone. They are restored or deleted for good here."""

import asyncio
import time
from collections.abc import Awaitable, Sequence
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.types import CSSPathType
from textual.widget import Widget
from textual.widgets import Button, OptionList
from textual.widgets.option_list import Option

from qwenchat.chat.ids import unix_ms
from qwenchat.chat.session import Session
from qwenchat.errors import QwenchatError
from qwenchat.i18n import _, ngettext
from qwenchat.runtime.program import Program
from qwenchat.text.safe import clean_line
from qwenchat.tui.dialogs.dialog import Buttons, Complaint, Dialog, button, plain
from qwenchat.tui.dialogs.fields import aligned
from qwenchat.tui.dialogs.small import ConfirmScreen

_DAY_MS = 86_400_000
_MOST = 500
"""Chats that are listed; those that were deleted earlier are counted."""


class TrashScreen(Dialog[bool]):
    """Answers whether a chat was restored."""

    CSS_PATH: ClassVar[CSSPathType | None] = ["dialog.tcss", "trash.tcss"]
    BINDINGS: ClassVar[list[BindingType]] = [Binding("delete", "delete", show=False)]

    def __init__(self, program: Program) -> None:
        super().__init__()
        self._program = program
        self._has_restored = False
        self._sessions: list[Session] = []
        self._count = 0

    def heading(self) -> str:
        return _("Trash")

    def body(self) -> ComposeResult:
        yield plain(self._how_long(), classes="muted")
        yield OptionList(markup=False)
        yield Complaint()
        row = [
            button(_("Restore"), "restore", main=True),
            button(_("Delete permanently…"), "delete"),
            button(_("Empty trash…"), "empty-trash"),
            button(_("Close"), "close"),
        ]
        yield Buttons(row)

    def enter_on_list(self) -> str:
        return _("restore")

    def keys_of(self, focused: Widget | None) -> list[tuple[str, str]]:
        own = super().keys_of(focused)
        return [*own, ("Delete", _("delete permanently"))] if isinstance(focused, OptionList) else own

    def action_close(self) -> None:
        """Answer whether a chat was restored."""
        self.answer(self._has_restored)

    def on_mount(self) -> None:
        """List what is there."""
        self.set_focus(self.query_one(OptionList))
        self._read()

    def on_resize(self) -> None:
        """Fit the columns to the new width."""
        self._show()

    @work(exclusive=True, group="trash")
    async def _read(self) -> None:
        await self._reread()

    @on(OptionList.OptionSelected)
    @on(Button.Pressed, "#restore")
    @work(exclusive=True, group="trash")
    async def _restore(self) -> None:
        if session := self._chosen:
            trash = self._program.store.trash
            await self._change(asyncio.to_thread(trash.restore, session.id))
            self._has_restored = True

    @on(Button.Pressed, "#delete")
    def action_delete(self) -> None:
        """Delete the chat under the cursor for good, if the user really wants that."""
        self._delete()

    @work(exclusive=True, group="trash")
    async def _delete(self) -> None:
        if session := self._chosen:
            question = _("Delete “{title}” permanently?").format(title=_title(session))
            asking = ConfirmScreen(question, _("This can't be undone."), _("Delete permanently"))
            if await self.app.push_screen_wait(asking):
                await self._change(asyncio.to_thread(self._program.store.trash.delete_forever, session.id))

    @on(Button.Pressed, "#empty-trash")
    @work(exclusive=True, group="trash")
    async def _empty(self) -> None:
        if not self._count:
            return
        question = ngettext("Delete {count} chat permanently?", "Delete {count} chats permanently?", self._count)
        hint = _("This can't be undone. Messages deleted from other chats are removed, too.")
        if await self.app.push_screen_wait(ConfirmScreen(question.format(count=self._count), hint, _("Empty trash"))):
            await self._change(asyncio.to_thread(self._program.store.trash.empty, unix_ms() + 1))

    @on(Button.Pressed, "#close")
    def _close(self) -> None:
        self.action_close()

    @property
    def _chosen(self) -> Session | None:
        at = self.query_one(OptionList).highlighted
        return self._sessions[at] if at is not None and at < len(self._sessions) else None

    async def _change(self, work: Awaitable[object]) -> None:
        """Wait for a change of the trash, then list what is left; an error is shown."""
        complaint = self.query_one(Complaint)
        complaint.show(None)
        try:
            await work
        except QwenchatError as error:
            complaint.show(error)
        await self._reread()

    async def _reread(self) -> None:
        listing = self._program.store.listing
        try:
            listed = await asyncio.to_thread(listing.newest, _MOST, trashed=True)
            self._count = await asyncio.to_thread(listing.count, trashed=True)
        except QwenchatError as error:
            self.query_one(Complaint).show(error)
            return
        self._sessions = [each.session for each in listed]
        self._show()

    def _show(self) -> None:
        """Show the chats; the cursor stays at its line."""
        listed = self.query_one(OptionList)
        at = listed.highlighted or 0
        width = listed.scrollable_content_region.width or self.app.size.width
        listed.clear_options()
        listed.add_options(Option(line) for line in aligned(self._rows(self._sessions), width))
        if more := self._count - len(self._sessions):
            listed.add_option(Option(_("… and {count} more").format(count=more), disabled=True))
        if self._sessions:
            listed.highlighted = min(at, len(self._sessions) - 1)
        else:
            listed.add_option(Option(_("The trash is empty."), disabled=True))

    def _rows(self, sessions: Sequence[Session]) -> list[tuple[str, str, str]]:
        rows = []
        for session in sessions:
            deleted = session.trashed or 0
            expires = _moment(deleted + self._days * _DAY_MS, "%Y-%m-%d")
            gone = _("expires {when}").format(when=expires) if self._days else ""
            rows.append((_title(session), _("deleted {when}").format(when=_moment(deleted, "%Y-%m-%d %H:%M")), gone))
        return rows

    @property
    def _days(self) -> int:
        return self._program.settings.sessions.empty_trash_after_days

    def _how_long(self) -> str:
        if not self._days:
            return _("Deleted chats stay here until you delete them permanently.")
        days = self._days
        words = ngettext("Chats can be restored for {days} day.", "Chats can be restored for {days} days.", days)
        return words.format(days=days)


def _title(session: Session) -> str:
    return clean_line(session.title, 60) or _("New chat")


def _moment(when: int, form: str) -> str:
    return time.strftime(form, time.localtime(when / 1000))
