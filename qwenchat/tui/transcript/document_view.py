"""The text of a document as it is read beside an answer: page after page, with the passage that is cited marked.

The pages are messages of a transcript of their own, so that only what is visible is laid out, however long the document
is, and words are found, selected and copied as in a chat. The text is untrusted: nothing in it is read as markup.
"""

from collections.abc import Callable, Iterator

from rich.cells import cell_len

from qwenchat.chat.message import Message, Role, text_parts
from qwenchat.chat.tree import VariantPlace
from qwenchat.documents.document import PAGE_BREAK
from qwenchat.i18n import _
from qwenchat.markdown.lines import BLANK, Line, Run, prefixed, wrap
from qwenchat.text.safe import clean
from qwenchat.text.wrap import drawable
from qwenchat.tui.transcript.drawing import Look
from qwenchat.tui.transcript.find import mentions
from qwenchat.tui.transcript.message_layout import MessageLayout
from qwenchat.tui.transcript.transcript import Transcript

_LONGEST = 4_000
"""Characters of a section: a longer page is several."""
_ABOVE = 3
"""The part of the view, as a divisor, that is left above the passage. The page there is the one that is being read."""


class Section(Message, frozen=True, kw_only=True):
    """A page of a document, or a part of a long one."""

    start: int
    """Where it begins in the document, in characters."""
    page: int | None
    """The first being 1; None in a document without pages."""
    begins_page: bool
    marked: tuple[int, int]
    """First and end character that are marked; the same for none."""


def sections(text: str, first: int, end: int) -> Iterator[Section]:
    """Yield the sections of a document, of which the characters from `first` to `end` are marked."""
    at = 0
    pages = text.split(PAGE_BREAK)
    for number, page in enumerate(pages, 1):
        inside = 0
        while inside < len(page) or not inside:
            cut = inside + _LONGEST
            stop = len(page) if cut >= len(page) else (page.rfind("\n", inside, cut) + 1 or cut)
            start = at + inside
            size = stop - inside
            yield Section(
                id=str(start),
                session="",
                parent=None,
                role=Role.ASSISTANT,
                parts=text_parts(page[inside:stop]),
                created=0,
                start=start,
                page=number if len(pages) > 1 else None,
                begins_page=not inside,
                marked=(min(max(first - start, 0), size), min(max(end - start, 0), size)),
            )
            inside = stop or 1  # an empty page is one section
        at += len(page) + len(PAGE_BREAK)


class SectionLayout(MessageLayout):
    """A section and its lines."""

    __slots__ = ("marked_line",)

    def __init__(self, message: Message, variant: VariantPlace) -> None:
        super().__init__(message, variant)
        self.marked_line: int | None = None
        """The first line that is marked, once it is laid out; None for none."""

    def lay_out(self, look: Look) -> list[Line]:
        """Return its lines; a mark stands left of those of the passage."""
        if self.lines is not None and self._look is look:
            return self.lines
        self._look = look
        self.strips.clear()
        self.marked_line = None
        section = self.message
        if not isinstance(section, Section):
            raise TypeError("a document consists of sections")
        lines = _page_rule(section.page, look) if section.begins_page and section.page else []
        self.above = len(lines)
        first, end = section.marked
        text, at = section.text, 0
        for written in text.split("\n"):
            low, high = (min(max(place - at, 0), len(written)) for place in (first, end))
            pieces = [written[:low], written[low:high], written[high:]]
            is_marked = low < high or first < at < end  # the latter is a blank line
            if is_marked and self.marked_line is None:
                self.marked_line = len(lines)
            lines += _paragraph(pieces, look, is_marked=is_marked)
            at += len(written) + 1
        self.lines = lines or [BLANK]
        return self.lines


class DocumentView(Transcript):
    """Shows a document. `on_moved` is called when another part of it is being read."""

    FOCUS_ON_CLICK = True

    def __init__(self, on_moved: Callable[[], object], *, id: str | None = None) -> None:
        super().__init__(id=id, layout=SectionLayout)
        self._on_moved = on_moved
        self._wanted = ""
        """The section whose passage is to be shown as soon as the view has a size; empty for none."""

    def show_text(self, text: str, first: int, end: int) -> None:
        """Show a document, at the characters from `first` to `end`, which are marked."""
        found = list(sections(text, first, end))
        at = next((each for each in reversed(found) if each.start <= first), found[0])
        self.load(found, show=at.id)
        self._wanted = at.id
        self.call_after_refresh(self._show_passage)

    def on_resize(self) -> None:
        """Show what could not be shown before, once it is laid out for the new width."""
        if self._wanted:
            self.call_after_refresh(self._show_passage)

    def _show_passage(self) -> None:
        index = self.position(self._wanted)
        if index is None or not self.viewport.height or self.column.look.width != self.viewport.columns:
            return
        self._wanted = ""
        self.column.measure(index)
        layout = self.column.layouts[index]
        line = layout.marked_line if isinstance(layout, SectionLayout) else None
        above = self.viewport.height // _ABOVE if line is not None else 0
        self.viewport.go_to(self.column.start(index) + (line or 0) - above)
        self._on_moved()

    def find(self, words: str) -> None:
        """Mark words and show the first place where they are, from here on; empty words mark nothing."""
        at, ahead = self.read, self.messages
        if at:
            ahead = ahead[self.position(at.id) :]
        self.finder.find(words, next((each.id for each in ahead if words and mentions(each.text, words)), None))

    @property
    def read(self) -> Section | None:
        """What is being read."""
        column, viewport = self.column, self.viewport
        if not column.layouts:
            return None
        top = viewport.top + (viewport.height // _ABOVE if viewport.top else 0)
        section = column.layouts[column.at(top)].message
        return section if isinstance(section, Section) else None

    def action_turn_page(self, step: int) -> None:
        """Go to the beginning of the next page, or of the one before with -1; without pages, by what is visible."""
        at = self.read
        if at is None:
            return
        if at.page is None:
            self.scroll_relative(y=step * max(self.viewport.height - 1, 1))
            return
        wanted = at.page + step
        for index, layout in enumerate(self.column.layouts):
            if isinstance(section := layout.message, Section) and section.page == wanted:
                self.column.measure(index)
                self.viewport.go_to(self.column.start(index))
                break

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Report that another part is read."""
        super().watch_scroll_y(old_value, new_value)
        self._on_moved()


def _page_rule(page: int, look: Look) -> list[Line]:
    """Return a line above a page that says its number; it is never found or copied."""
    words = " " + _("page {page}").format(page=page) + " "
    width = look.measure
    rule = wrap([("──" + words + "─" * max(width - cell_len(words) - 2, 0), look.palette.muted)], width)[0]
    return [Line(rule.segments, rule.width, len(rule.text))]


def _paragraph(pieces: list[str], look: Look, *, is_marked: bool) -> list[Line]:
    """Return a line of the document as wrapped lines; the second of its three pieces is the passage."""
    palette = look.palette
    styles = (palette.text, palette.text + palette.question, palette.text)
    runs: list[Run] = [
        (drawable(clean(piece)), style) for piece, style in zip(pieces, styles, strict=True) if clean(piece)
    ]
    beside: Run = ("▌ ", palette.selected) if is_marked else ("  ", palette.text)
    return prefixed(wrap(runs, max(look.measure - 2, 8)), beside, beside)
