"""What a document is: a name and a text.

Pages are separated by form feeds, headings are lines of Markdown. So a place in a document is a number of characters,
and its page and its heading follow from the text alone. Which file the text came from is not known here.
"""

import re
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath

from qwenchat.chat.message import Attachment

PAGE_BREAK = "\f"
_LONGEST_HEADING = 200
"""Characters of a heading; the rest of a longer line is not repeated with every place below it."""
_HEADING = re.compile(
    r"^ {0,3}(?P<fence>`{3,}|~{3,})(?s:.*?)(?:^ {0,3}(?P=fence)|\Z)"  # code, whose comments are no headings
    r"|(?:^|(?<=\f))#{1,6}[ \t](?P<heading>.*)$",
    re.MULTILINE,
)
_WITH_HEADINGS = (".md", ".markdown", ".txt", ".text")


@dataclass(frozen=True, kw_only=True)
class Document:
    """A document as text."""

    name: str
    """A clean line: the name of the file; for one of a folder, the path below it."""
    media_type: str
    """Of the file, such as `application/pdf`."""
    text: str

    @property
    def attachment(self) -> Attachment:
        """The document as a file that goes with a question."""
        return Attachment(self.name, self.media_type, self.text.encode())

    @cached_property
    def digest(self) -> str:
        """The sha256 of the text in UTF-8, in hex: documents with the same text are the same."""
        return self.attachment.digest

    @cached_property
    def _page_breaks(self) -> list[int]:
        return [found.start() for found in re.finditer(PAGE_BREAK, self.text)]

    @cached_property
    def headings(self) -> list[tuple[int, str]]:
        """The headings, each with the place where its line begins; source code has none."""
        is_prose = not self.media_type.startswith("text/") or self.media_type in ("text/markdown", "text/html")
        if not is_prose and PurePath(self.name).suffix.lower() not in _WITH_HEADINGS:
            return []
        found = ((each.start(), (each["heading"] or "").strip(" \t#")) for each in _HEADING.finditer(self.text))
        return [(place, heading[:_LONGEST_HEADING]) for place, heading in found if heading]

    @property
    def pages(self) -> int | None:
        """How many pages it has; None for a document without pages."""
        return len(self._page_breaks) + 1 if self._page_breaks else None

    def page_at(self, place: int) -> int | None:
        """Return the page of a place, the first being 1; None for a document without pages."""
        return bisect_right(self._page_breaks, place - 1) + 1 if self._page_breaks else None

    def heading_at(self, place: int) -> str:
        """Return the last heading that begins at a place or before it, empty where no heading does."""
        before = bisect_right(self.headings, place, key=lambda each: each[0])
        return self.headings[before - 1][1] if before else ""


def document_of(attachment: Attachment) -> Document:
    """Return an attachment of a question as a document."""
    return Document(name=attachment.name, media_type=attachment.media_type, text=attachment.text)
