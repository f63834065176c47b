"""Splits text into tokens for the search index: folded words, overlapping pairs of Chinese characters, symbols.

FTS5 indexes the result of `index_text`, never the text itself, and queries pass through the same `tokens`, so the two
always agree. Any change here invalidates existing indexes and needs a migration that rebuilds them.

- Letters and digits form a word; FTS5's Porter stemmer then treats `running` and `runs` like `run`.
- In scripts without spaces (Chinese, Japanese, Korean, Thai...), each character forms a pair with the next one; the
  last character of a run stands alone. A substring of two or more characters is searched for as a phrase of pairs, a
  single character as the beginning of a pair.
- Symbols (`+ # _ $ @`, emoji...) are words of one character: `C++` is the phrase `c + +`. Punctuation is ignored.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence

TOKENIZER = "porter ascii tokenchars '+#$%&@<=>^~_|'"
"""FTS5's tokeniser for the result of `index_text`; the migrations contain the same text."""

_LONGEST = 64
"""Characters of a word that are indexed; the rest of a hash or a base64 line is useless for search."""

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3040-\u30ff"
    "\u3100-\u318f\u31a0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff"
    "\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
_PIECE = re.compile(
    rf"(?P<unspaced>[{_UNSPACED}]+)|(?P<word>[^\W_{_UNSPACED}]+)|(?P<symbol>[+#$%&@<=>^~_|]|[^\x00-\x7f\w\s])"
)
_ACCENTS = re.compile("[\u0300-\u036f]")


def fold(text: str) -> str:
    """Return `text` without case, accents, ligatures and full-width forms."""
    if not text.isascii():
        bare = _ACCENTS.sub("", unicodedata.normalize("NFKD", text))
        text = unicodedata.normalize("NFKC", bare)
    return text.casefold()


def tokens(folded: str) -> Iterator[tuple[str, int, int]]:
    """Yield each token of a folded text with its begin and end positions."""
    for found in _PIECE.finditer(folded):
        piece, start = found[0], found.start()
        if found.lastgroup == "word":
            yield piece[:_LONGEST], start, found.end()
        elif found.lastgroup == "unspaced":
            for at in range(len(piece)):
                pair = piece[at : at + 2]
                yield pair, start + at, start + at + len(pair)
        elif piece.isascii() or unicodedata.category(piece).startswith("S"):
            yield piece, start, found.end()


def index_text(text: str) -> str:
    """Return the text that FTS5 indexes instead of `text`: its tokens, separated by spaces."""
    return " ".join(token for token, _start, _end in tokens(fold(text)))


def unspaced(token: str) -> bool:
    """Return whether a token is a pair or a single character of a script without spaces."""
    found = _PIECE.match(token)
    return found is not None and found.lastgroup == "unspaced"


def phrase(text: str) -> str:
    """Return the FTS5 expression that finds `text` as a phrase; empty if nothing in it is indexed.

    A Chinese run at the end of the phrase may continue in the indexed text. So its last token, a single character, is
    omitted if the pair before it contains it; otherwise it is searched for as the beginning of a pair.
    """
    found = [token for token, _start, _end in tokens(fold(text))]
    if not found or len(found[-1]) > 1 or not unspaced(found[-1]):
        return quoted(found)
    if len(found) > 1 and len(found[-2]) == 2 and unspaced(found[-2]):
        return quoted(found[:-1])
    return quoted(found) + " *"


def quoted(found: Sequence[str]) -> str:
    """Return tokens as one FTS5 phrase; tokens never contain quotation marks."""
    return '"' + " ".join(found) + '"' if found else ""
