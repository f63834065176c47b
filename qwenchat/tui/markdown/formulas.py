r"""Finds formulas in Markdown: `\(…\)` and `$…$` in a line, `\[…\]` and `$$…$$` in a line or as a block.

Money is not mathematics: a dollar sign opens and closes a formula only where nothing else makes sense of it.
A block opens by its first line alone, so that what follows never changes what came before it.
"""

import re

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline

# A formula in a line is shorter than 1,000 characters, so that a text full of openings is not read again and again.
_BRACKETED = re.compile(r"\\\((.{1,999}?)\\\)|\\\[(.{1,999}?)\\\]|\$\$(.{1,999}?)\$\$", re.DOTALL)
_DOLLARS = re.compile(r"\$(?![\s$])((?:\\.|[^$\\\n]){1,999}?)(?<!\s)\$(?![\w$])")
_LOOKS_MATHEMATICAL = re.compile(r"[\\^_=<>+*/|′']|^.$|^[A-Za-z]{1,2}$|^[A-Za-z]\(.*\)$|^\w+\s*-\s*\w+$|[^\x00-\x7f]")
_MONEY = re.compile(r"^[\d.,\s]+(?:[-–/+]\s*)?$")
_CLOSING = {"$$": "$$", "\\[": "\\]"}
_OPENS = re.compile(r"[\\=^_{]|^\s*$")


def formulas(md: MarkdownIt) -> None:
    """Add the rules. Tokens are `formula` (in a line) and `formula_block`, the LaTeX in `content`."""
    md.inline.ruler.before("escape", "formula", _inline)
    md.block.ruler.before("fence", "formula_block", _block, {"alt": ["paragraph", "blockquote", "list"]})


def _inline(state: StateInline, silent: bool) -> bool:
    character = state.src[state.pos]
    if character not in "\\$":
        return False
    match = _BRACKETED.match(state.src, state.pos, state.posMax)
    if match:
        latex = next(group for group in match.groups() if group is not None)
    else:
        match = _DOLLARS.match(state.src, state.pos, state.posMax)
        if not match or not _is_formula(state, latex := match.group(1)):
            return False
    if not latex.strip():
        return False
    if not silent:
        token = state.push("formula", "math", 0)
        token.content = latex.strip()
    state.pos = match.end()
    return True


def _is_formula(state: StateInline, latex: str) -> bool:
    before = state.src[state.pos - 1] if state.pos else " "
    if before.isascii() and (before.isalnum() or before == "\\"):
        return False
    return bool(_LOOKS_MATHEMATICAL.search(latex)) and not _MONEY.match(latex)


def _block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    if state.is_code_block(start):
        return False
    first = state.src[state.bMarks[start] + state.tShift[start] : state.eMarks[start]]
    close = _CLOSING.get(first[:2])
    if close is None:
        return False
    rest = first[2:]
    body, found, after = rest.partition(close)
    if (found and (after.strip(" .,;。，；") or not body.strip())) or (not found and not _OPENS.search(rest)):
        return False
    if silent:
        return True
    lines = [body]
    line = start + 1
    while not found and line < end and not state.isEmpty(line) and state.sCount[line] >= state.blkIndent:
        text = state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]]
        body, found, after = text.partition(close)
        lines.append(body)
        line += 1
    state.line = line
    token = state.push("formula_block", "math", 0)
    token.block = True
    token.map = [start, line]
    token.content = "\n".join(lines).strip()
    token.info = after.strip()
    token.hidden = not found
    return True
