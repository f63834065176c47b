"""What a document is: a name and a text.

Pages are separated by form feeds, headings are lines of Markdown. So a place in a document is a number of characters,
and its page and its heading follow from the text alone. Which file the text came from is not known here.
"""

import re
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property

from qwenchat.chat.message import Attachment

PAGE_BREAK = "\f"
_HEADING = re.compile(r"(?:^|(?<=\f))#{1,6}[ \t]+(\S.*?)[ \t#]*$", re.MULTILINE)


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
        """The headings, each with the place where its line begins."""
        return [(found.start(), found[1]) for found in _HEADING.finditer(self.text)]

    @property
    def pages(self) -> int | None:
        """How many pages it has; None for a document without pages."""
        return len(self._page_breaks) + 1 if self._page_breaks else None

    def page_at(self, place: int) -> int | None:
        """Return the page of a place, the first being 1; None for a document without pages."""
        return bisect_right(self._page_breaks, place - 1) + 1 if self._page_breaks else None

    def heading_at(self, place: int) -> str:
        """Return the last heading that begins at a place or before it, empty where there is none."""
        before = bisect_right(self.headings, place, key=lambda each: each[0])
        return self.headings[before - 1][1] if before else ""


def document_of(attachment: Attachment) -> Document:
    """Return an attachment of a question as a document."""
    return Document(name=attachment.name, media_type=attachment.media_type, text=attachment.text)
