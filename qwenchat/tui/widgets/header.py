"""The line at the top: the chat's title and model, whether it is private, and show downloads."""

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from qwenchat.i18n import _
from qwenchat.text.safe import clean_line


class ChatHeader(Widget):
    """One line; its parts may be untrusted text."""

    title: reactive[str] = reactive("")
    """Empty for a chat that has none yet."""
    model: reactive[str] = reactive("")
    private: reactive[bool] = reactive(False)
    downloading: reactive[str] = reactive("")
    """What is being downloaded, in a few words."""

    @property
    def title_words(self) -> str:
        """The title as it is shown."""
        return clean_line(self.title, 100) or _("New chat")

    def render(self) -> Content:
        """Return the line."""
        model = clean_line(self.model, 60)
        return Content.assemble(
            Content.styled(_("PRIVATE") + " " if self.private else "", "bold $text-warning"),
            Content.styled(self.downloading + "  " if self.downloading else "", "$text-primary"),
            Content.styled(self.title_words, "bold"),
            Content.styled(f"  ✦ {model}" if model else "", "$text-primary"),
        )
