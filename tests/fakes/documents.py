"""What the pages say, taken apart: headings, links, code, keys. For the tests that hold them to the program."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from devtools import pages

_NOT_IN_ANCHORS = re.compile(r"[^\w\s-]")
_OPERATORS = {"|", "||", "&&", ";", "&", ">", ">>", "<"}
_ASSIGNMENT = re.compile(r"\w+=.*", re.DOTALL)
_SHELLS = ("sh", "bash", "console")


@dataclass(frozen=True)
class Page:
    """One Markdown file."""

    path: Path

    def __str__(self) -> str:
        return self.path.relative_to(pages.ROOT).as_posix()

    @cached_property
    def text(self) -> str:
        return self.path.read_text("utf-8")

    @cached_property
    def _tokens(self) -> list[Token]:
        return MarkdownIt("commonmark").enable("table").parse(self.text)

    @property
    def _inline(self) -> Iterator[Token]:
        for token in self._tokens:
            yield from token.children or ()

    @cached_property
    def headings(self) -> list[str]:
        """Headings as they are written, code marks taken off."""
        return [
            "".join(child.content for child in following.children or ())
            for token, following in zip(self._tokens, self._tokens[1:], strict=False)
            if token.type == "heading_open"
        ]

    @cached_property
    def anchors(self) -> set[str]:
        """What can stand behind `#`, as the sites that show Markdown make it."""
        return {_NOT_IN_ANCHORS.sub("", heading).strip().lower().replace(" ", "-") for heading in self.headings}

    @cached_property
    def links(self) -> list[str]:
        """Where links and pictures lead."""
        found = [token.attrGet("href") or token.attrGet("src") for token in self._inline]
        return [str(link) for link in found if link]

    @cached_property
    def words_in_code(self) -> list[str]:
        """Code within sentences."""
        return [token.content for token in self._inline if token.type == "code_inline"]

    def blocks(self, *languages: str) -> list[str]:
        """Blocks of code in any of these languages."""
        return [t.content for t in self._tokens if t.type == "fence" and t.info.strip() in languages]

    @cached_property
    def keys(self) -> list[str]:
        """Keys of the keyboard."""
        return re.findall(r"<kbd>(.*?)</kbd>", self.text)

    @cached_property
    def shell_lines(self) -> list[list[str]]:
        """Every simple command of the blocks for a shell, as words."""
        return [words for block in self.blocks(*_SHELLS) for words in commands_in(block)]


def all_pages() -> list[Page]:
    """Return every page."""
    return [Page(path) for path in pages.pages()]


def commands_in(script: str) -> list[list[str]]:
    """Return the simple commands of a script: no assignments before them, no redirections, no comments."""
    found: list[list[str]] = []
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        words: list[str] = []
        skipping = False
        for word in [*lexer, ";"]:
            if word in _OPERATORS:
                if words:
                    found.append(words)
                words, skipping = [], word in (">", ">>", "<")
            elif skipping:
                skipping = False
            elif words or not _ASSIGNMENT.fullmatch(word):
                words.append(word)
    return found


def of_qwenchat(words: list[str]) -> list[str] | None:
    """Return the arguments if a simple command runs qwenchat, else None."""
    if words and Path(words[0]).name == "qwenchat":
        return words[1:]
    if len(words) > 2 and Path(words[0]).name.startswith("python") and words[1:3] == ["-m", "qwenchat"]:
        return words[3:]
    return None
