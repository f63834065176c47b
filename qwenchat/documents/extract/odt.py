"""Takes the text out of the documents of LibreOffice (ODF): headings, lists, tables, notes, text boxes."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from qwenchat.documents.extract.archive import Event, Kind, ZipArchive
from qwenchat.text.blocks import Blocks

_LEFT_OUT = frozenset(("annotation", "tracked-changes", "ruby-text", "forms", "sequence-decls", "font-face-decls"))
_MOST_REPEATED = 64
"""Columns or spaces for which one element stands."""
_DEEPEST_LIST = 8


@dataclass(slots=True)
class _OdtParagraph:
    level: int = 0
    """Of a heading, from 1."""
    mark: str = ""
    pieces: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _List:
    style: str
    count: int = 0
    is_item_new: bool = False
    """Whether an item began of which nothing was read."""


def pieces(archive: ZipArchive) -> Iterator[str]:
    """Yield the text of a document. Raises Refused and what ZipArchive raises."""
    reader = _Content()
    for event in archive.events("content.xml"):
        reader.read(event)
        if event.kind is Kind.END and event.name in ("p", "h"):
            yield reader.blocks.take()
    yield reader.blocks.take_rest()
    for number, text in enumerate(reader.notes, 1):
        yield f"\n\n[^{number}]: {text}"


class _Content:
    """Reads the events of `content.xml`."""

    def __init__(self) -> None:
        self.blocks = Blocks()
        self.notes: list[str] = []
        self._paragraphs: list[_OdtParagraph] = []
        """Those that are open: a text box or a note stands inside a paragraph."""
        self._lists: list[_List] = []
        self._left_out = 0
        self._note: list[str] | None = None
        """The text of the note that is open."""
        self._is_citation = False
        self._numbered: set[str] = set()
        """The styles of lists whose items have numbers."""
        self._list_style = ""
        self._empty_cells = 0

    def read(self, event: Event) -> None:
        """Read one event."""
        if event.kind is Kind.TEXT:
            self._text(" ".join(event.name.split("\n")))
        elif event.name in _LEFT_OUT:
            self._left_out += 1 if event.kind is Kind.START else -1
        elif self._left_out:
            pass
        elif event.kind is Kind.START:
            self._start(event)
        else:
            self._end(event.name)

    def _text(self, text: str) -> None:
        if self._paragraphs and not self._left_out and not self._is_citation:
            self._paragraphs[-1].pieces.append(text)

    def _start(self, event: Event) -> None:
        name, attributes = event.name, event.attributes
        if name in ("p", "h"):
            is_title = name == "h" or attributes.get("style-name") == "Title"
            level = _number(attributes.get("outline-level", "1")) if is_title else 0
            self._paragraphs.append(_OdtParagraph(level=level, mark=self._item_mark()))
        elif name == "s":
            self._text(" " * min(_number(attributes.get("c", "1")), _MOST_REPEATED))
        elif name in ("tab", "line-break"):
            self._text("\t" if name == "tab" else "\n")
        elif name == "note":
            self._note = []
            self._text(f"[^{len(self.notes) + 1}]")
        elif name == "note-citation":
            self._is_citation = True
        elif name == "list-style":
            self._list_style = attributes.get("name", "")
        elif name == "list-level-style-number":
            self._numbered.add(self._list_style)
        elif name == "list":
            outer = self._lists[-1].style if self._lists else ""
            self._lists.append(_List(attributes.get("style-name", outer)))
        elif name == "list-item" and self._lists:
            self._lists[-1].count += 1
            self._lists[-1].is_item_new = True
        elif name == "table":
            self.blocks.begin_table()
        elif name == "table-row":
            self.blocks.begin_row()
        elif name in ("table-cell", "covered-table-cell"):
            self.blocks.begin_cell()
            self._empty_cells = min(_number(attributes.get("number-columns-repeated", "1")), _MOST_REPEATED) - 1

    def _end(self, name: str) -> None:
        if name in ("p", "h") and self._paragraphs:
            self._add(self._paragraphs.pop())
        elif name == "note" and self._note is not None:
            self.notes.append(" ".join(" ".join(self._note).split()))
            self._note = None
        elif name == "note-citation":
            self._is_citation = False
        elif name == "list":
            del self._lists[-1:]
        elif name == "table":
            self.blocks.end_table()
        elif name in ("table-cell", "covered-table-cell"):
            for _cell in range(self._empty_cells):
                self.blocks.begin_cell()
            self._empty_cells = 0

    def _item_mark(self) -> str:
        """Return the mark of a paragraph, which only the first of an item has."""
        if not self._lists or not self._lists[-1].is_item_new:
            return ""
        current = self._lists[-1]
        current.is_item_new = False
        indent = "  " * (min(len(self._lists), _DEEPEST_LIST) - 1)
        return indent + (f"{current.count}. " if current.style in self._numbered else "- ")

    def _add(self, paragraph: _OdtParagraph) -> None:
        text = "".join(paragraph.pieces)
        if self._note is not None:
            self._note.append(text)
        elif paragraph.level:
            self.blocks.add_heading(text, paragraph.level)
        else:
            self.blocks.add(text, paragraph.mark, is_tight=bool(paragraph.mark))


def _number(text: str) -> int:
    """Return a small number, 1 for what is not one."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 1
