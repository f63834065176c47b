"""The page beside the answer: a title, the text of a document, and a line in which words to be found are typed."""

from dataclasses import dataclass

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, Static

from qwenchat.i18n import _
from qwenchat.text.safe import clean_line
from qwenchat.tui.transcript.document_view import DocumentView
from qwenchat.tui.transcript.transcript import Transcript, TranscriptEvent
from qwenchat.tui.widgets.fields import LineField


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownDocument:
    """What is shown of a document."""

    name: str
    text: str
    first: int = 0
    end: int = 0
    """First and end character of the passage; the same for none."""
    heading: str = ""
    """What the passage stands below."""
    number: int | None = None
    """Of the source."""


class DocumentPanel(Vertical):
    """Shows one document at a time."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._title = Static(id="document-title", markup=False)
        self.view = DocumentView(self._show_title, id="document")
        self.find_line = LineField(placeholder=_("Find in this document"), id="document-find", compact=True)
        self._shown: ShownDocument | None = None
        self._found = ""
        """Where the search stands."""

    def compose(self) -> ComposeResult:
        yield self._title
        yield self.view
        yield self.find_line

    def show(self, document: ShownDocument) -> None:
        """Show a document at a passage."""
        self._shown = document
        self.end_find()
        self.view.show_text(document.text, document.first, document.end)
        self._show_title()

    def _show_title(self) -> None:
        """Show name, page and heading of what is being read."""
        shown, at = self._shown, self.view.read
        if shown is None or at is None:
            return
        here = at.start <= shown.first < at.start + len(at.text) + 1
        words = [
            f"[{shown.number}] {clean_line(shown.name)}" if shown.number else clean_line(shown.name),
            _("page {page}").format(page=at.page) if at.page else "",
            self._found,
            clean_line(shown.heading) if here else "",
        ]
        self._title.update(Content(" · ".join(filter(None, words))))

    # Finding

    def begin_find(self) -> None:
        """Show the line and go there."""
        self.add_class("finding")
        self.find_line.focus()

    def end_find(self) -> bool:
        """Take the line and the marks away; return whether there was something to take away."""
        was_finding = self.has_class("finding")
        self.remove_class("finding")
        if self.find_line.has_focus:
            self.view.focus()
        self.find_line.value = ""
        self.view.finder.find("")
        return was_finding

    @on(Input.Changed, "#document-find")
    def _find(self, event: Input.Changed) -> None:
        event.stop()
        if event.value != self.view.finder.words:
            self.view.find(event.value)

    @on(Input.Submitted, "#document-find")
    def _leave_line(self, event: Input.Submitted) -> None:
        """Go from match to match with the keys of the view."""
        event.stop()
        self.view.focus()

    @on(Transcript.Found)
    def _show_found(self, event: Transcript.Found) -> None:
        event.stop()
        self._found = f"{event.message}/{event.messages}" if event.words else ""
        self._show_title()

    # What a chat would do with its messages

    @on(Transcript.Selected)
    @on(Transcript.FollowingChanged)
    @on(Transcript.ActionChosen)
    def _ignore(self, event: TranscriptEvent) -> None:
        event.stop()
        if isinstance(event, Transcript.Selected) and event.message:
            self.view.select(None)
