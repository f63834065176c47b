"""Downloads as the chat tells of them: how far they are while they run, that one is done, why one failed."""

from qwenchat.errors import QwenchatError
from qwenchat.i18n import _, labelled
from qwenchat.text.safe import clean_line
from qwenchat.tui.dialogs import open as screens
from qwenchat.tui.screens.conversation import Conversation, void


class Downloading(Conversation):
    """What goes on in the background, whatever dialog is open."""

    def action_downloads(self) -> None:
        """See, pause, resume or cancel downloads."""
        self.ask(screens.downloads(self.downloads), void)

    def on_conversation_fetched(self, fetched: Conversation.Fetched) -> None:
        """Tell how a download stands."""
        from qwenchat.runtime.downloads import DownloadState  # noqa: PLC0415 - the chat opens without it

        download, arriving = fetched.download, self.downloads.summary()
        if arriving != self.arriving:
            self.arriving = arriving
            self.show_header()
        if download.state is DownloadState.DONE:
            words = _("{model} is here. Ctrl+O or /model {model} takes it.")
            self.tell(words.format(model=clean_line(download.reference)))
        elif download.state is DownloadState.FAILED:
            why, hint = _("The download failed."), _("/downloads shows it; resume it there.")
            error = download.error or QwenchatError(why)
            self.tell_error(QwenchatError(labelled(download.reference, error.message), error.hint or hint))
