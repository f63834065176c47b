"""The line at the top: the chat's title, model and own system prompt, whether it is private, and downloads.

Each part can be clicked.
"""

from dataclasses import dataclass

from textual import events
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.style import Style
from textual.widget import Widget

from qwenchat.i18n import _
from qwenchat.text.safe import clean_line

_LEAST_TITLE = 12
"""Cells that a title has in any case, if it needs them."""


class ChatHeader(Widget):
    """One line; its parts may be untrusted text."""

    @dataclass
    class PartClicked(Message):
        """The user clicked the part that stands for an action, given by its id."""

        action: str

    title: reactive[str] = reactive("")
    """Empty for a chat that has none yet."""
    model: reactive[str] = reactive("")
    has_prompt: reactive[bool] = reactive(False)
    """Whether the chat has a system prompt of its own."""
    private: reactive[bool] = reactive(False)
    downloading: reactive[str] = reactive("")
    """What is being downloaded, in a few words."""

    @property
    def title_words(self) -> str:
        """The title as it is shown."""
        return clean_line(self.title, 100) or _("New chat")

    def render(self) -> Content:
        """Return the line; a long title is cut, so that the other parts have room."""
        model = clean_line(self.model, 60)
        before = Content.assemble(
            Content.styled(_("PRIVATE") + " " if self.private else "", "bold $text-warning"),
            _part(self.downloading, "$text-primary", "downloads", after="  "),
        )
        after = Content.assemble(
            _part(f"✦ {model}" if model else "", "$text-primary", "models", before="  "),
            _part(_("system prompt") if self.has_prompt else "", "$text-accent", "system_prompt", before="  "),
        )
        room = max(self.size.width - before.cell_length - after.cell_length, _LEAST_TITLE)
        title = _part(self.title_words, "bold", "rename").truncate(room, ellipsis=True)
        return Content.assemble(before, title, after)

    def on_click(self, event: events.Click) -> None:
        """Report the part under the pointer."""
        if event.button == 1 and (action := event.style.meta.get("action")):
            self.post_message(self.PartClicked(str(action)))


def _part(words: str, style: str, action: str, *, before: str = "", after: str = "") -> Content:
    """Return words that can be clicked, with space beside them; nothing for none."""
    if not words:
        return Content("")
    return Content.assemble(before, Content.styled(words, style).stylize(Style.from_meta({"action": action})), after)
