"""The line at the top: the chat's title, model, host, system prompt, documents and tools, and what is downloaded.

It says whether the chat is private, too. Each part can be clicked.
"""

from dataclasses import dataclass

from rich.cells import cell_len
from textual import events
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.style import Style
from textual.widget import Widget

from qwenchat.i18n import _
from qwenchat.text.safe import clean_line
from qwenchat.tui.model_names import with_host

_LEAST_TITLE = 12
"""Cells that a title has in any case, if it needs them."""


class ChatHeader(Widget):
    """One line; its parts may be untrusted text."""

    @dataclass(eq=False, repr=False)
    class PartClicked(Message):
        """The user clicked the part that stands for an action, given by its id."""

        action: str

    title: reactive[str] = reactive("")
    """Empty for a chat that has none yet."""
    model: reactive[str] = reactive("")
    host: reactive[str] = reactive("")
    """Where the model runs; empty for this computer."""
    has_prompt: reactive[bool] = reactive(False)
    """Whether the chat has a system prompt of its own."""
    has_tools: reactive[bool] = reactive(False)
    """Whether the model may call tools."""
    has_documents: reactive[bool] = reactive(False)
    """Whether questions are about documents."""
    private: reactive[bool] = reactive(False)
    downloading: reactive[str] = reactive("")
    """What is being downloaded, in a few words."""

    @property
    def title_words(self) -> str:
        """The title as it is shown."""
        return clean_line(self.title, 100) or _("New chat")

    def render(self) -> Content:
        """Return the line; a long title is cut, so that the other parts have room, and of those the host stays."""
        before = Content.assemble(
            Content.styled(_("PRIVATE") + " " if self.private else "", "bold $text-warning"),
            _part(self.downloading, "$text-primary", "downloads", after="  "),
        )
        system = _part(_("system prompt") if self.has_prompt else "", "$text-accent", "system_prompt", before="  ")
        tools = _part(_("tools") if self.has_tools else "", "$text-accent", "tools", before="  ")
        documents = _part(_("docs") if self.has_documents else "", "$text-accent", "docs", before="  ")
        after = Content.assemble(system, documents, tools)
        left = self.size.width - before.cell_length
        model = self._model(left, others=_LEAST_TITLE + after.cell_length)
        room = max(left - model.cell_length - after.cell_length, 0 if self.host else _LEAST_TITLE)
        title = _part(self.title_words, "bold", "rename").truncate(room, ellipsis=True)
        return Content.assemble(before, title, model, after)

    def _model(self, left: int, *, others: int) -> Content:
        """Return the model and its host, which takes the room of the `others` too if it needs it."""
        name, before, mark = clean_line(self.model, 60), "  ", "✦ "
        room = max(left - others, min(cell_len(f"{before}{mark}@ {self.host}"), left)) - len(before + mark)
        words = mark + with_host(name, self.host, max(room, 1)) if name else ""
        return _part(words, "$text-warning" if self.host else "$text-primary", "models", before=before)

    def on_click(self, event: events.Click) -> None:
        """Report the part under the pointer."""
        if event.button == 1 and (action := event.style.meta.get("action")):
            self.post_message(self.PartClicked(str(action)))


def _part(words: str, style: str, action: str, *, before: str = "", after: str = "") -> Content:
    """Return words that can be clicked, with space beside them; nothing for none."""
    if not words:
        return Content("")
    return Content.assemble(before, Content.styled(words, style).stylize(Style.from_meta({"action": action})), after)
