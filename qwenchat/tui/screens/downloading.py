"""Downloads as the chat tells of them: how far they are while they run, that one is done, why one failed."""

from qwenchat.errors import QwenchatError
from qwenchat.i18n import _, labelled
from qwenchat.text import clean_line
from qwenchat.tui.screens import open as screens
from qwenchat.tui.screens.conversation import Conversation, void


class Downloading(Conversation):
    """What goes on in the background, whatever dialog is open."""

    def action_downloads(self) -> None:
        """See, pause, resume or cancel downloads."""
        self.ask(screens.downloads(self.downloads), void)

    def on_conversation_fetched(self, fetched: Conversation.Fetched) -> None:
        """Tell how a download stands."""
        from qwenchat.tui.downloads import State  # noqa: PLC0415 - the chat opens without it

        download, arriving = fetched.download, self._arriving()
        if arriving != self.arriving:
            self.arriving = arriving
            self.show_header()
        if download.state is State.DONE:
            words = _("{model} is here. Ctrl+O or /model {model} takes it.")
            self.tell(words.format(model=clean_line(download.reference)))
        elif download.state is State.FAILED:
            why, hint = _("The download failed."), _("/downloads shows it; resume it there.")
            error = download.error or QwenchatError(why)
            self.tell_error(QwenchatError(labelled(download.reference, error.message), error.hint or hint))

    def _arriving(self) -> str:
        """Return how far the first running download is, and how many run beside it; nothing while none runs."""
        from qwenchat.tui.downloads import State  # noqa: PLC0415

        running = [download for download in self.downloads.all() if download.state is State.RUNNING]
        if not running:
            return ""
        first, beside = running[0], len(running) - 1
        share = "" if first.share is None else f"{first.share:.0%} "
        return f"↓ {share}{clean_line(first.reference, 40)}" + (f" +{beside}" if beside else "")
