"""Takes the text out of the documents of Word: headings, lists with their numbers, tables, notes, text boxes.

What was deleted with changes tracked is left out. Pages are not: only the program that prints a document knows them.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from qwenchat.documents.extract.archive import Event, Kind, ZipArchive, beside
from qwenchat.text.blocks import Blocks

_LEFT_OUT = frozenset(("del", "moveFrom", "Fallback", "rt", "instrText", "delText"))
"""Elements of which nothing is read: deleted text, what older programs show instead, pronunciation, codes of fields."""
_IN_RUNS = {"tab": "\t", "ptab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
_WIDEST_CELL = 64
"""Columns."""
_LEVELS = 9
_NONE = "0"
"""The number of no list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Style:
    """What a paragraph is."""

    name: str = ""
    based_on: str = ""
    outline: int | None = None
    """The level as a heading, from 0."""
    list_id: str = ""
    list_level: int = 0


@dataclass(slots=True)
class _Level:
    """How the items of a list are numbered."""

    format: str = "decimal"
    text: str = ""
    """The mark, in which `%1` is the number of the first level."""
    start: int = 1


@dataclass(slots=True)
class _WordParagraph:
    style: _Style = _Style()
    pieces: list[str] = field(default_factory=list)


def pieces(archive: ZipArchive, document: str) -> Iterator[str]:
    """Yield the text of a document, whose main part is this entry. Raises Refused and what ZipArchive raises."""
    styles = _styles(archive, beside(document, "styles.xml"))
    body = _Body(styles, _Numbering(archive, beside(document, "numbering.xml")))
    for event in archive.events(document):
        body.read(event)
        if event.kind is Kind.END and event.name == "p":
            yield body.blocks.take()
    yield body.blocks.take_rest()
    for kind in ("footnote", "endnote"):
        yield from body.notes(archive.events_if_present(beside(document, f"{kind}s.xml")), kind)


class _Body:
    """Reads the events of one part."""

    def __init__(self, styles: dict[str, _Style], numbering: "_Numbering") -> None:
        self.blocks = Blocks()
        self._styles, self._numbering = styles, numbering
        self._paragraphs: list[_WordParagraph] = []
        """Those that are open: a text box stands inside a paragraph."""
        self._left_out = self._runs = self._texts = self._properties = 0
        """How many elements of each kind are open."""
        self._span = 1
        self._notes: dict[tuple[str, str], int] = {}
        """The numbers of the notes that were referred to."""

    def read(self, event: Event) -> None:
        """Read one event."""
        if event.kind is Kind.TEXT:
            if self._texts and self._paragraphs and not self._left_out:
                self._paragraphs[-1].pieces.append(event.name)
        elif event.name in _LEFT_OUT:
            self._left_out += 1 if event.kind is Kind.START else -1
        elif self._left_out:
            pass
        elif event.kind is Kind.START:
            self._start(event)
        else:
            self._end(event.name)

    def notes(self, events: Iterable[Event], kind: str) -> Iterator[str]:
        """Yield the notes that were referred to."""
        number: int | None = None
        for event in events:
            if event.name == kind and event.kind is Kind.START:
                number = self._notes.get((kind, event.attributes.get("id", "")))
            elif event.name == kind and event.kind is Kind.END and number is not None:
                text = " ".join(self.blocks.take_rest().split())
                yield f"\n\n[^{number}]: {text}"
                number = None
            elif number is not None:
                self.read(event)

    def _start(self, event: Event) -> None:
        name, attributes = event.name, event.attributes
        if name == "p":
            self._paragraphs.append(_WordParagraph())
        elif name == "pPr":
            self._properties += 1
        elif name in ("pStyle", "outlineLvl", "numId", "ilvl") and self._properties and self._paragraphs:
            self._set_property(name, attributes.get("val", ""))
        elif name == "r":
            self._runs += 1
        elif name == "t":
            self._texts += 1
        elif name in _IN_RUNS and self._runs and self._paragraphs:
            self._paragraphs[-1].pieces.append(_IN_RUNS[name])
        elif name in ("footnoteReference", "endnoteReference") and self._paragraphs:
            note = (name.removesuffix("Reference"), attributes.get("id", ""))
            number = self._notes.setdefault(note, len(self._notes) + 1)
            self._paragraphs[-1].pieces.append(f"[^{number}]")
        elif name == "tbl":
            self.blocks.begin_table()
        elif name == "tr":
            self.blocks.begin_row()
        elif name == "tc":
            self.blocks.begin_cell()
        elif name == "gridSpan":
            self._span = min(_number(attributes.get("val", "")) or 1, _WIDEST_CELL)

    def _end(self, name: str) -> None:
        if name == "p" and self._paragraphs:
            self._add(self._paragraphs.pop())
        elif name == "pPr":
            self._properties -= 1
        elif name == "r":
            self._runs -= 1
        elif name == "t":
            self._texts -= 1
        elif name == "tc":
            for _column in range(self._span - 1):
                self.blocks.begin_cell()
            self._span = 1
        elif name == "tbl":
            self.blocks.end_table()

    def _set_property(self, name: str, value: str) -> None:
        paragraph = self._paragraphs[-1]
        if name == "pStyle":
            paragraph.style = self._styles.get(value, paragraph.style)
        elif name == "outlineLvl":
            paragraph.style = replace(paragraph.style, outline=_number(value))
        elif name == "numId":
            paragraph.style = replace(paragraph.style, list_id=value)
        else:
            paragraph.style = replace(paragraph.style, list_level=_number(value) or 0)

    def _add(self, paragraph: _WordParagraph) -> None:
        text, style = "".join(paragraph.pieces), paragraph.style
        if not text.strip():
            return
        mark = self._numbering.mark(style.list_id, style.list_level)
        if style.outline is not None and style.outline < _LEVELS:
            self.blocks.add_heading(f"{'' if mark == '-' else mark} {text}", style.outline + 1)
        elif mark:
            indent = "  " * min(style.list_level, _LEVELS - 1)
            self.blocks.add(text.lstrip(), f"{indent}{mark} ", is_tight=True)
        else:
            self.blocks.add(text)


class _Numbering:
    """Counts the items of lists."""

    def __init__(self, archive: ZipArchive, entry: str) -> None:
        self._levels: defaultdict[str, dict[int, _Level]] = defaultdict(dict)
        """Of each abstract list."""
        self._abstract: dict[str, str] = {}
        """Which abstract list a list is made from."""
        self._counts: defaultdict[str, dict[int, int]] = defaultdict(dict)
        abstract = list_id = ""
        level = _Level()
        for event in archive.events_if_present(entry):
            value = event.attributes.get("val", "")
            if event.kind is not Kind.START:
                list_id = "" if event.name == "num" else list_id
            elif event.name == "abstractNum":
                abstract = event.attributes.get("abstractNumId", "")
            elif event.name == "num":
                list_id = event.attributes.get("numId", "")
            elif event.name == "abstractNumId":
                self._abstract[list_id] = value
            elif event.name == "lvl" and not list_id:
                level = self._levels[abstract].setdefault(_number(event.attributes.get("ilvl", "")) or 0, _Level())
            elif event.name == "start":
                level.start = 1 if (number := _number(value)) is None else number
            elif event.name == "numFmt":
                level.format = value
            elif event.name == "lvlText":
                level.text = value[:100]

    def mark(self, list_id: str, at: int) -> str:
        """Count an item of a list and return its mark: `-` for a bullet, empty for what is in no list."""
        abstract = self._abstract.get(list_id)
        if list_id == _NONE or abstract is None:
            return ""
        levels, counts = self._levels.get(abstract, {}), self._counts[abstract]
        level = levels.get(at, _Level(text=f"%{at + 1}."))
        counts[at] = counts.get(at, level.start - 1) + 1
        for deeper in [each for each in counts if each > at]:
            del counts[deeper]
        if level.format == "bullet":
            return "-"
        if level.format == "none":
            return ""
        mark = level.text
        for each in range(_LEVELS):
            one = levels.get(each, _Level())
            mark = mark.replace(f"%{each + 1}", _counted(counts.get(each, one.start), one.format))
        return " ".join(mark.split())


def _counted(number: int, numbering: str) -> str:
    if numbering in ("lowerLetter", "upperLetter") and 0 < number <= 26:
        return chr(ord("a" if numbering == "lowerLetter" else "A") + number - 1)
    return str(number)


def _styles(archive: ZipArchive, entry: str) -> dict[str, _Style]:
    """Return the styles by their identifiers, with what they inherit."""
    own: dict[str, _Style] = {}
    identifier = ""
    style = _Style()
    for event in archive.events_if_present(entry):
        value = event.attributes.get("val", "")
        if event.kind is Kind.END and event.name == "style":
            own[identifier] = style
        elif event.kind is not Kind.START:
            continue
        elif event.name == "style":
            identifier, style = event.attributes.get("styleId", ""), _Style()
        elif event.name == "name":
            style = replace(style, name=value.lower())
        elif event.name == "basedOn":
            style = replace(style, based_on=value)
        elif event.name == "outlineLvl":
            style = replace(style, outline=_number(value))
        elif event.name == "numId":
            style = replace(style, list_id=value)
        elif event.name == "ilvl":
            style = replace(style, list_level=_number(value) or 0)
    return {each: _inherited(own, each) for each in own}


def _inherited(own: dict[str, _Style], identifier: str) -> _Style:
    style = own[identifier]
    outline, list_id, list_level = style.outline, style.list_id, style.list_level
    for _ancestor in range(_LEVELS):
        if outline is None and style.name.startswith("heading "):
            level = _number(style.name.removeprefix("heading "))
            outline = level - 1 if level else None
        if outline is None and style.name == "title":
            outline = 0
        if not list_id:
            list_id, list_level = style.list_id, style.list_level
        if style.based_on not in own:
            break
        style = own[style.based_on]
        outline = style.outline if outline is None else outline
    return _Style(name=own[identifier].name, outline=outline, list_id=list_id, list_level=list_level)


def _number(text: str) -> int | None:
    """Return a small number, None for what is not one."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else None
