"""The page beside the answer: a title, the text of a document, and a line in which words to be found are typed."""

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, Static

from qwenchat.chat.message import Citation
from qwenchat.i18n import _
from qwenchat.text.safe import clean_line
from qwenchat.tui.transcript.document_view import DocumentView
from qwenchat.tui.transcript.transcript import Transcript, TranscriptEvent
from qwenchat.tui.widgets.fields import LineField


class DocumentPanel(Vertical):
    """Shows one document at a time, beside the chat; where there is no room for both, in its place."""

    SCOPED_CSS = False
    DEFAULT_CSS = """
    #page {
        display: none;
        width: 1fr;
        border-left: solid $panel;
    }
    ChatScreen.page #page {
        display: block;
    }
    ChatScreen.page.narrow #chat {
        display: none;
    }
    ChatScreen.page.narrow #page {
        border-left: none;
    }
    ChatScreen.page.sidebar.narrow #page {
        display: none;
    }
    #document-title {
        height: 1;
        padding: 0 2;
        background: $surface;
        color: $text-primary;
        text-wrap: nowrap;
        text-overflow: ellipsis;
    }
    #document {
        height: 1fr;
    }
    #document-find {
        display: none;
        margin: 0 2;
        background: $panel;
    }
    #page.finding #document-find {
        display: block;
    }
    """  # here, and not in the program's style sheet, which the first frame waits for

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._title = Static(id="document-title", markup=False)
        self.view = DocumentView(self._show_title, id="document")
        self.find_line = LineField(placeholder=_("Find in this document"), id="document-find", compact=True)
        self._document, self._first = "", 0
        """Of the document, and the character at which the passage begins."""
        self._citation: Citation | None = None
        """What is shown; None for a document as such."""
        self._found = ""
        """Where the search stands."""

    def compose(self) -> ComposeResult:
        yield self._title
        yield self.view
        yield self.find_line

    def show(self, name: str, text: str, *, passage: tuple[int, int] = (0, 0), of: Citation | None = None) -> None:
        """Show a document at a passage, given by its first and end character, which is that of a citation."""
        self._document, self._first, self._citation = name, passage[0], of
        self.end_find()
        self.view.show_text(text, *passage)
        self._show_title()

    def _show_title(self) -> None:
        """Show name, page and heading of what is being read."""
        at, citation = self.view.read, self._citation
        if at is None:
            return
        name = clean_line(self._document)
        here = at.start <= self._first <= at.start + len(at.text)
        words = [
            f"[{citation.number}] {name}" if citation else name,
            _("page {page}").format(page=at.page) if at.page else "",
            self._found,
            clean_line(citation.heading) if citation and here else "",
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
