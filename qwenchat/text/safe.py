"""Makes untrusted text safe: text from a model, a file, a hub or an import is hostile until it has passed through here.

`clean` makes any text safe to draw, print or copy: it removes all control characters except newline and tab. Markup is
not escaped: text must always be drawn as text, never as markup.
"""

import re
import unicodedata

from qwenchat.text.clusters import cut

# C0 except tab and newline, DEL, C1; bidirectional overrides and isolates, which make a line read as another one;
# lone surrogates, which no terminal or file accepts.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_ESCAPED_BYTES = re.compile("[\udc80-\udcff]+")
_NEWLINES = re.compile("\r\n|\u2028|\u2029|\x85")


def clean(text: str) -> str:
    """Return `text` without control characters; all line endings become newlines."""
    return _UNSAFE.sub("", _NEWLINES.sub("\n", text))


def encodable(text: str) -> str:
    """Return `text` without lone surrogates, which can't be encoded or stored; nothing else changes.

    Those by which Python stands for bytes of the command line become the UTF-8 text that the bytes are; others, and
    bytes that are not UTF-8, become U+FFFD.
    """
    paired = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    read = _ESCAPED_BYTES.sub(
        lambda found: found[0].encode("ascii", "surrogateescape").decode("utf-8", "replace"), paired
    )
    return read.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def clean_line(text: str, limit: int = 200) -> str:
    """Return `text` as one short clean line, for a title, a name or an error message."""
    line = " ".join(clean(text).split())
    return line if len(line) <= limit else cut(line, limit - 1).rstrip() + "…"


def joined(*texts: str) -> str:
    """Join texts as paragraphs of one text; empty texts are skipped."""
    return "\n\n".join(text for text in texts if text)


def fenced(text: str) -> str:
    """Return text in a Markdown code fence that is longer than any fence inside it."""
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}\n{text.rstrip()}\n{fence}"


def safe_name(text: str, limit: int = 80) -> str:
    """Return `text` as a file name that is valid on Linux, macOS and Windows and never leads out of its folder.

    The result is never empty, has at most `limit` characters and at most 200 bytes in UTF-8.
    """
    name = re.sub(r'[<>:"/\\|?*\t]+', "-", clean_line(unicodedata.normalize("NFC", text), limit))
    name = name.encode()[:200].decode(errors="ignore").strip(" .-")
    if not name or re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?", name):
        return f"_{name}"
    return name


def human_size(count: float) -> str:
    """Return a number of bytes in the units that hubs use, powers of 1000: `4.68 GB`."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(count) < 999.5 or unit == "TB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.3g} {unit}"


def human_time(seconds: float) -> str:
    """Return a duration as `1:02:03` or `2:03`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


class StreamCleaner:
    """`clean` for text that arrives in pieces: a carriage return at the end of a piece waits for the next piece."""

    def __init__(self) -> None:
        self._pending = ""

    def feed(self, piece: str) -> str:
        """Return the next piece of clean text."""
        piece = self._pending + piece
        self._pending = "\r" if piece.endswith("\r") else ""
        return clean(piece.removesuffix("\r"))


_LONGEST, _LONGEST_LINE = 20_000, 2_000
"""Characters of code, and of one of its lines, up to which it is highlighted."""
_LONG_SPACE = re.compile(r"\s{400}")


def can_highlight(code: str) -> bool:
    """Return whether pygments is certain to highlight this code quickly.

    Its time can grow with the square of the text's length, and hostile text can exploit that.
    """
    short = len(code) <= _LONGEST and all(len(line) <= _LONGEST_LINE for line in code.split("\n"))
    return short and not _LONG_SPACE.search(code)
