"""What was read of an attached file or folder, as the model would read it. Nothing can be changed here."""

from textual.app import ComposeResult
from textual.widget import Widget

from qwenchat.documents.document import PAGE_BREAK
from qwenchat.i18n import _, enumerated, ngettext, sentences
from qwenchat.text.safe import clean, clean_line, human_size
from qwenchat.tui.attached import Attached
from qwenchat.tui.dialogs.dialog import Dialog, plain
from qwenchat.tui.widgets.fields import AreaField

_MOST_CHARACTERS = 100_000
"""Of a text that are shown: laying out more would be felt."""


class AttachedScreen(Dialog[None]):
    """The text of a file; of a folder the names of its files, and what was skipped."""

    def __init__(self, attached: Attached) -> None:
        super().__init__()
        self._attached = attached

    def heading(self) -> str:
        return clean_line(self._attached.title)

    def body(self) -> ComposeResult:
        text = _files_of(self._attached) if self._attached.is_folder else _text_of(self._attached)
        if hint := self._hint(len(text)):
            yield plain(hint, classes="muted")
        yield AreaField(text[:_MOST_CHARACTERS], read_only=True, soft_wrap=True, show_line_numbers=False)

    def keys_of(self, focused: Widget | None) -> list[tuple[str, str]]:
        return [("↑↓", _("scroll"))]

    def on_mount(self) -> None:
        """Focus the text, so that keys scroll it."""
        self.set_focus(self.query_one(AreaField))

    def _hint(self, length: int) -> str:
        """Return what is to be known about the text."""
        of = self._attached
        skipped = len(of.skipped)
        words = ngettext("{count:,} file was skipped.", "{count:,} files were skipped.", skipped)
        return sentences(
            words.format(count=skipped) if skipped else "",
            _("Left out: {what}.").format(what=enumerated(of.left_out)) if of.left_out else "",
            _("The beginning is shown, {count:,} characters.").format(count=_MOST_CHARACTERS)
            if length > _MOST_CHARACTERS
            else "",
        )


def _files_of(folder: Attached) -> str:
    lines = [f"{clean_line(each.name, 500)} · {human_size(len(each.data))}" for each in folder.documents]
    if folder.skipped:
        lines += ["", _("Skipped:"), *(clean_line(sentence, 500) for sentence in folder.skipped)]
    return "\n".join(lines)


def _text_of(file: Attached) -> str:
    """Return the text of a file, with a line before each page."""
    pages = "".join(document.text for document in file.documents).split(PAGE_BREAK)
    if len(pages) == 1:
        return clean(pages[0])
    words = _("page {number}")
    return "\n\n".join(f"── {words.format(number=at)} ──\n{clean(text)}" for at, text in enumerate(pages, 1))
