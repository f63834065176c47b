"""Markdown for notes and wikis: front matter, then a heading for each turn and its text.

A message can't affect the rest of the document: its headings are lowered by two levels, so that none passes for a turn;
an open fence or HTML block is closed or escaped before the next turn; and link definitions are escaped, because they
would create links in other messages. Reasoning is quoted; tool calls and their results are fenced.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

from qwenchat.chat.message import Message, Reasoning, Text, ToolCall
from qwenchat.i18n import _
from qwenchat.sessions.archive import Archive, json_text
from qwenchat.sessions.exporters import ExportFormat
from qwenchat.sessions.reading_order import (
    attached,
    model_of,
    moment,
    notes,
    ordered,
    part_label,
    speaker,
    title_of,
    to_read,
)
from qwenchat.text.safe import clean, fenced

_ACTIVE = re.compile(r"[\\`*\[\]<>&~$|]|(?<!\w)_|_(?!\w)|#+$")
"""What could be mark-up within one line."""
_OPENER = re.compile(r"^([ \t>]*)<(?=[!?]|script|pre|style|textarea)", re.IGNORECASE | re.MULTILINE)
"""The HTML blocks that a blank line does not end (CommonMark 4.6, start conditions 1 to 5)."""


def write(archives: Iterable[Archive], all_branches: bool) -> Iterator[str]:
    """Yield each session, a message at a time."""
    blocks = MarkdownIt("commonmark").disable("inline")
    for archive in archives:
        yield _front_matter(archive)
        yield f"\n# {_plain(title_of(archive))}\n"
        if archive.session.system:
            label = _("System prompt")
            yield f"\n## {_plain(label)}\n\n{contained(archive.session.system, blocks)}\n"
        for entry in ordered(archive, all_branches):
            yield f"\n## {_plain(speaker(entry))}\n\n*{_plain(notes(entry))}*\n"
            for attachment in entry.message.attachments:
                name, text = attached(attachment)
                label = _("Attached:")
                yield f"\n**{_plain(label)}** {_plain(name)}\n"
                yield f"\n{fenced(text)}\n" if text else ""
            yield from _body(entry.message, blocks)


def _body(message: Message, blocks: MarkdownIt) -> Iterator[str]:
    for part in to_read(message.parts):
        label = f"**{_plain(part_label(part))}**"
        if isinstance(part, Text):
            yield f"\n{contained(part.text, blocks)}\n" if part.text else ""
        elif isinstance(part, Reasoning):
            lines = [label, "", *contained(part.text, blocks).split("\n")]
            yield "\n" + "\n".join(f"> {line}".rstrip() for line in lines) + "\n"
        else:
            words = part.arguments if isinstance(part, ToolCall) else part.text
            yield f"\n{label}\n\n{fenced(clean(words))}\n"


def contained(text: str, blocks: MarkdownIt) -> str:
    """Return equivalent Markdown without headings of levels 1 and 2, open blocks and link definitions.

    `blocks` parses CommonMark's blocks.
    """
    text = clean(text).strip("\n")
    for _attempt in range(6):
        lines = text.split("\n")
        env: dict[str, Any] = {}
        tokens = blocks.parse(f"{text}\n\n## end", env)
        if defined := _definitions(env):
            text = "\n".join(_undefined(line) if n in defined else line for n, line in enumerate(lines))
        elif tokens[-1].type == "heading_close" and tokens[-1].level == 0:
            return _lower_headings(lines, tokens[:-3])
        else:
            text = _closed(lines, [token for token in tokens if token.level == 0][-1])
    return fenced(text)


def _definitions(env: dict[str, Any]) -> set[int]:
    """Return the lines in which the parser found the beginnings of link definitions."""
    return {found["map"][0] for found in (*env.get("references", {}).values(), *env.get("duplicate_refs", ()))}


def _undefined(line: str) -> str:
    return line.replace("[", "\\[", 1)


def _closed(lines: list[str], last: Token) -> str:
    """Return the text with its open last block closed, or its opening escaped."""
    text = "\n".join(lines)
    if last.type == "fence":
        return f"{text}\n{last.markup}"
    start = last.map[0] if last.map else 0
    return "\n".join([*lines[:start], _OPENER.sub(r"\1\\<", "\n".join(lines[start:]))])


def _lower_headings(lines: list[str], tokens: list[Token]) -> str:
    """Return the text with its headings lowered by two levels; underlined ones are rewritten with number signs."""
    for opening, inline in pairwise(tokens):
        if opening.type != "heading_open" or opening.level or not opening.map:
            continue
        first, end = opening.map
        words = " ".join(inline.content.split())
        if opening.markup in "=-":
            words = re.sub("#+$", r"\\\g<0>", words)
        sign = "#" * min(int(opening.tag[1]) + 2, 6)
        lines[first:end] = [f"{sign} {words}".rstrip(), *[""] * (end - first - 1)]
    return "\n".join(lines).rstrip()


def _front_matter(archive: Archive) -> str:
    """Return YAML; JSON strings and arrays are valid YAML."""
    session = archive.session
    fields = {
        "title": json_text(title_of(archive)),
        "id": json_text(session.id),
        "model": json_text(model_of(archive)),
        "created": f"{moment(session.created):%Y-%m-%dT%H:%M:%SZ}",
        "updated": f"{moment(session.updated):%Y-%m-%dT%H:%M:%SZ}",
        "tags": json_text(session.tags),
    }
    return "\n".join(["---", *(f"{name}: {value}" for name, value in fields.items()), "---", ""])


def _plain(line: str) -> str:
    return _ACTIVE.sub(lambda found: "\\" + found[0], line)


FORMAT = ExportFormat("md", ".md", many=False, write=write)
