"""Text as the search index sees it: folded words, Chinese in overlapping pairs, symbols that carry meaning.

FTS5 sees `index_text`, never the text itself, and what a user types passes through the same `tokens`; so the two
can't disagree. A change here makes every index that exists wrong: it needs a migration that builds them anew.

- Letters and digits form a word; FTS5's Porter stemmer then takes `running` and `runs` for `run`.
- Scripts without spaces (Chinese, Japanese, Korean, Thai...) give each character with the one after it, and the last
  of a run alone. A substring of two or more characters is a phrase of pairs, one character the beginning of a pair.
- Symbols (`+ # _ $ @`, emoji...) are words of one character: `C++` is the phrase `c + +`. Punctuation is left out.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence

TOKENIZER = "porter ascii tokenchars '+#$%&@<=>^~_|'"
"""What splits and stems `index_text` in FTS5; the migrations say the same."""

_LONGEST = 64
"""Characters of a word that count: the rest of a hash or a base64 line says nothing."""

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
    """Yield each token of a folded text with where it begins and ends."""
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
    """Return what FTS5 is to index in place of `text`: its tokens with spaces between."""
    return " ".join(token for token, _start, _end in tokens(fold(text)))


def unspaced(token: str) -> bool:
    """Whether a token is a pair or a single character of a script without spaces."""
    found = _PIECE.match(token)
    return found is not None and found.lastgroup == "unspaced"


def phrase(text: str) -> str:
    """Return the FTS5 expression that finds `text` as a phrase, empty where nothing in it is indexed.

    A run of Chinese that ends the phrase may go on in the text. So the last token, its last character alone, is left
    out where a pair before it holds it, and else is the beginning of a pair.
    """
    found = [token for token, _start, _end in tokens(fold(text))]
    if not found or len(found[-1]) > 1 or not unspaced(found[-1]):
        return quoted(found)
    if len(found) > 1 and len(found[-2]) == 2 and unspaced(found[-2]):
        return quoted(found[:-1])
    return quoted(found) + " *"


def quoted(found: Sequence[str]) -> str:
    """Return tokens as one FTS5 phrase; no token holds a quotation mark."""
    return '"' + " ".join(found) + '"' if found else ""
