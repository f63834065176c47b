"""Downloads as a list: how far each is, with pause, resume and cancel. `runtime.downloads` carries them out."""

from collections.abc import Callable
from typing import ClassVar

from rich.cells import set_cell_size
from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.types import CSSPathType
from textual.widgets import Button

from qwenchat.i18n import _
from qwenchat.runtime.downloads import BackgroundDownloads, Download, DownloadState, state_text
from qwenchat.text.safe import clean_line
from qwenchat.tui.dialogs.dialog import Dialog, button, plain, relabel
from qwenchat.tui.dialogs.small import ConfirmScreen
from qwenchat.tui.textual_private.widgets import EndsItsWork

_NAME = 18
"""Cells of a name; a longer one is cut here and shown whole when the user is asked about it."""
_BAR = 16


class DownloadRow(Horizontal):
    """One download."""

    def __init__(self, download: Download) -> None:
        super().__init__()
        self.download = download
        self._bar, self._state = plain("", classes="bar"), plain("", classes="state muted")
        self._turn, self._cancel = button("", "turn"), button(_("Cancel"), "cancel")

    def compose(self) -> ComposeResult:
        with Vertical():
            yield self._bar
            yield self._state
        yield self._turn
        yield self._cancel

    def on_mount(self) -> None:
        """Show it, though the dialog may be closing."""
        self.show(self.download)

    def show(self, download: Download) -> None:
        """Show its state."""
        self.download = download
        self._bar.update(_bar(download))
        self._state.update(clean_line(state_text(download), 300))
        relabel(self._turn, _("Pause") if download.state is DownloadState.RUNNING else _("Resume"))
        self._turn.display = self._cancel.display = download.state is not DownloadState.DONE


class DownloadList(Vertical, EndsItsWork):
    """All downloads, up to date; it takes no room while there are none."""

    class Changed(Message):
        """The state of a download changed."""

        def __init__(self, download: Download) -> None:
            super().__init__()
            self.download = download

    def __init__(self, downloads: BackgroundDownloads) -> None:
        super().__init__()
        self._downloads = downloads
        self._stop_listening: Callable[[], None] | None = None

    async def on_mount(self) -> None:
        """Show what is under way and listen."""
        self._stop_listening = self._downloads.listen(lambda download: self.post_message(self.Changed(download)))
        for download in self._downloads.all():
            await self._show(download)

    def on_unmount(self) -> None:
        """Listen no more."""
        if self._stop_listening:
            self._stop_listening()

    @on(Changed)
    async def _show_change(self, event: Changed) -> None:
        await self._show(self._downloads.latest(event.download))

    async def _show(self, download: Download) -> None:
        row = next((row for row in self.query(DownloadRow) if row.download.reference == download.reference), None)
        if download.state is DownloadState.CANCELLED:
            if row:
                await row.remove()
        elif row:
            row.show(download)
        else:
            await self.mount(DownloadRow(download))

    @on(Button.Pressed, "#turn")
    def _pause_or_resume(self, event: Button.Pressed) -> None:
        event.stop()
        download = _row_of(event.button).download
        if download.state is DownloadState.RUNNING:
            self._downloads.pause(download.reference)
        else:
            self._downloads.start(download.reference)

    @on(Button.Pressed, "#cancel")
    @work(exclusive=True, group="agreement")
    async def _cancel(self, event: Button.Pressed) -> None:
        event.stop()
        reference = _row_of(event.button).download.reference
        question = _("Cancel the download of {model}?").format(model=clean_line(reference))
        hint = _("The part downloaded so far will be deleted. To continue later, pause the download instead.")
        if await self.app.push_screen_wait(
            ConfirmScreen(question, hint, _("Cancel download"), no=_("Keep downloading"))
        ):
            self._downloads.cancel(reference)


class DownloadsScreen(Dialog[None]):
    """The list on its own."""

    CSS_PATH: ClassVar[CSSPathType | None] = ["dialog.tcss", "model.tcss"]

    def __init__(self, downloads: BackgroundDownloads) -> None:
        super().__init__()
        self._downloads = downloads

    def heading(self) -> str:
        return _("Downloads")

    def body(self) -> ComposeResult:
        if not self._downloads.all():
            yield plain(_("No downloads."))
        yield DownloadList(self._downloads)


def _row_of(widget: Button) -> DownloadRow:
    return next(node for node in widget.ancestors if isinstance(node, DownloadRow))


def _bar(download: Download) -> Content:
    name = set_cell_size(clean_line(download.reference, 60), _NAME)
    if download.fraction is None:
        return Content(name)
    full = round(download.fraction * _BAR)
    bar = ("━" * full, "$primary"), ("─" * (_BAR - full), "$text-muted")
    return Content.assemble(name, " ", *bar, f" {download.fraction:4.0%}")
