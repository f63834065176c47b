"""Downloads as the chat reports them: how far they are while they run, that one is done, why one failed."""

from typing import TYPE_CHECKING

from qwenchat.errors import QwenchatError, Recovery, RecoveryKind
from qwenchat.i18n import _, labelled
from qwenchat.text.safe import clean_line
from qwenchat.tui.actions import Methods
from qwenchat.tui.controllers.context import ChatContext
from qwenchat.tui.dialogs import open as dialogs
from qwenchat.tui.widgets.header import ChatHeader

if TYPE_CHECKING:
    from qwenchat.runtime.downloads import Download


class DownloadController:
    """Reports background downloads, also while a dialog is open."""

    def __init__(self, context: ChatContext, *, header: ChatHeader) -> None:
        self._context, self._header = context, header

    @property
    def methods(self) -> Methods:
        """What carries out the action on downloads."""
        return {"downloads": self.open_list}

    def open_list(self) -> None:
        """Show all downloads, to pause, resume or cancel them."""
        self._context.ask(dialogs.downloads(self._context.downloads))

    def report(self, download: "Download") -> None:
        """Show how a download is doing."""
        from qwenchat.runtime.downloads import DownloadState  # noqa: PLC0415 - the screen is drawn without it

        self._header.downloading = self._context.downloads.summary()
        if self._context.downloads.latest(download) is not download:
            return  # what came after it is reported, too
        if download.state is DownloadState.DONE:
            words = _("{model} has been downloaded. To use it, press Ctrl+O or type /model {model}.")
            self._context.notify(words.format(model=clean_line(download.reference)))
            self._context.run(self._context.chats.ask_without_model())
        elif download.state is DownloadState.FAILED:
            error = download.error or QwenchatError(_("The download failed."))
            message = labelled(download.reference, error.message)
            resume = Recovery(RecoveryKind.RESUME_DOWNLOAD)
            recoveries = (*(each for each in error.recoveries if each != resume), resume)
            self._context.notify_error(QwenchatError(message, error.hint, recoveries=recoveries))
