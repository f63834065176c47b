r"""Mathematics in LaTeX as readable Unicode: `\frac{a}{b}` is `a/b`, `x^{n+1}` is `xⁿ⁺¹`, a matrix is rows.

What is not known stays as it was written. No formula raises, however broken: half of one is shown while an answer
is being written.
"""

import re
from unicodedata import normalize

from qwenchat.tui.markdown import symbols
from qwenchat.tui.markdown.formula_rows import Rows, beside, tidy

_PIECE = re.compile(r"\\[A-Za-z]+\*?|\\.|[{}^_&~]|\s+|.", re.DOTALL)
_DEEPEST = 40
_BEFORE_A_SIGN = "=<>+−×÷·([{,;/|≤≥≠≈∈→⇒"
_ROOTS = {"": "√", "2": "√", "3": "∛", "4": "∜"}
_PLAIN = {"&": " ", "~": " ", "'": "′", "=": " = ", "<": " < ", ">": " > ", "-": "−"}


def inline(latex: str) -> str:
    """Return a formula as one line of Unicode."""
    return tidy("".join(part if isinstance(part, str) else part.inline() for part in _Reader(latex).all()))


def display(latex: str) -> list[str]:
    """Return a formula as the lines of a block, matrices and aligned rows with a line each."""
    blocks: list[list[str]] = []
    text = ""
    for part in _Reader(latex).all():
        if isinstance(part, str):
            text += part
            continue
        blocks += [tidy(text).splitlines() or [""], part.lines()]
        text = ""
    blocks.append([line.strip() for line in tidy(text).split("\n")] if text.strip() else [""])
    return [line.rstrip() for line in beside([block for block in blocks if block != [""]])] or [""]


class _Reader:
    """Reads LaTeX by recursive descent."""

    def __init__(self, latex: str) -> None:
        self._pieces: list[str] = _PIECE.findall(latex)
        self._at = 0
        self._depth = 0

    def all(self) -> list[str | Rows]:
        """Return the whole formula as text and rows."""
        parts: list[str | Rows] = []
        while self._at < len(self._pieces):
            parts += self._until(frozenset())
            if self._at < len(self._pieces):  # a closing brace that nothing opened
                self._at += 1
        return parts

    def _until(self, stops: frozenset[str]) -> list[str | Rows]:
        parts: list[str | Rows] = []
        while self._at < len(self._pieces):
            piece = self._pieces[self._at]
            if piece in stops or (piece == "}" and not stops):
                break
            self._at += 1
            parts.append(self._item(piece, parts))
        return parts

    def _item(self, piece: str, before: list[str | Rows]) -> str | Rows:
        if piece.isspace():
            return " " if not piece.strip(" \t") else ""
        if piece == "{":
            return self._group()
        if piece in "^_":
            return self._script(piece)
        if piece[0] == "\\" and len(piece) > 1:
            return self._command(piece[1:].rstrip("*"))
        if piece in "+-" and _ends_a_term(before):
            return f" {_PLAIN.get(piece, piece)} "
        return _PLAIN.get(piece, piece)

    def _group(self) -> str:
        """Read up to the closing brace, the opening one being behind."""
        self._depth += 1
        if self._depth > _DEEPEST:
            self._depth -= 1
            return ""
        text = "".join(p if isinstance(p, str) else p.inline() for p in self._until(frozenset("}")))
        self._at += 1
        self._depth -= 1
        return text

    def _argument(self) -> str:
        while self._at < len(self._pieces) and self._pieces[self._at].isspace():
            self._at += 1
        if self._at >= len(self._pieces) or self._pieces[self._at] in ("}", "&", "\\\\", "\\end"):
            return ""
        piece = self._pieces[self._at]
        self._at += 1
        self._depth += 1
        item = self._item(piece, []) if self._depth < _DEEPEST else ""
        self._depth -= 1
        return item if isinstance(item, str) else item.inline()

    def _optional(self) -> str:
        """Read `[…]` where it follows."""
        if self._next() != "[" or self._depth >= _DEEPEST:
            return ""
        self._at += 1
        self._depth += 1
        text = "".join(str(part) for part in self._until(frozenset("]")))
        self._depth -= 1
        self._at += 1
        return text

    def _script(self, mark: str) -> str:
        text = tidy(self._argument())
        table = symbols.SUPERSCRIPT if mark == "^" else symbols.SUBSCRIPT
        close = text.replace(" ", "")
        if not close:
            return ""
        if all(character in table for character in close):
            return "".join(table[character] for character in close)
        return f"{mark}{close}" if len(close) == 1 else f"{mark}({text})"

    def _command(self, name: str) -> str | Rows:
        if name in symbols.SILENT:
            if self._next() == ".":
                self._at += 1
            return ""
        if name in symbols.TEXT:
            return self._argument_raw() if name.startswith(("text", "mbox")) else self._argument()
        if name in symbols.FUNCTIONS:
            return f" {name}{' ' if self._next() not in ('^', '_', '(') else ''}"
        if name in symbols.SYMBOLS:
            symbol = symbols.SYMBOLS[name]
            spaced = name in symbols.RELATIONS or (name in symbols.BINARY and name != "cdot")
            return f" {symbol} " if spaced else symbol
        return self._structure(name)

    def _structure(self, name: str) -> str | Rows:
        text: str | Rows
        match name:
            case "\\" | "cr" | "newline":
                text = "\n"
            case "frac" | "dfrac" | "tfrac" | "cfrac":
                text = f"{_grouped(self._argument(), product=True)}/{_grouped(self._argument())}"
            case "binom":
                text = f"C({self._argument()}, {self._argument()})"
            case "sqrt":
                degree = self._optional()
                raised = "".join(symbols.SUPERSCRIPT.get(c, c) for c in degree)
                text = f"{_ROOTS.get(degree, f'{raised}√')}{_grouped(self._argument())}"
            case "pmod":
                text = f" (mod {self._argument()})"
            case "overset" | "stackrel" | "underset":
                script, base = self._argument(), self._argument()
                text = f" {base.strip()}{'_' if name == 'underset' else '^'}({script.strip()}) "
            case "mathbb":
                text = "".join(symbols.DOUBLE_STRUCK.get(c, c) for c in self._argument())
            case "begin":
                text = self._environment(self._argument_raw())
            case "end":
                text = self._argument_raw()[:0]
            case "{" | "}" | "$" | "%" | "&" | "#" | "_" | "|":
                text = "‖" if name == "|" else name
            case _ if name in symbols.ACCENTS:
                text = normalize("NFC", "".join(c + symbols.ACCENTS[name] for c in self._argument().strip()))
            case _:
                text = f"\\{name}{{{self._argument()}}}" if self._next() == "{" else f"\\{name}"
        return text

    def _environment(self, name: str) -> str | Rows:
        rows = Rows(name.rstrip("*"))
        if name == "array":
            self._argument_raw()
        stops = frozenset(("&", "\\\\", "\\end"))
        self._depth += 1
        while self._at < len(self._pieces) and self._depth < _DEEPEST:
            parts = self._until(stops)
            rows.rows[-1][-1] += tidy("".join(p if isinstance(p, str) else p.inline() for p in parts))
            piece = self._pieces[self._at] if self._at < len(self._pieces) else "\\end"
            self._at += 1
            if piece == "&":
                rows.rows[-1].append("")
            elif piece == "\\\\":
                self._optional()
                rows.rows.append([""])
            else:
                self._argument_raw()
                break
        self._depth -= 1
        if len(rows.rows) > 1 and not any(cell.strip() for cell in rows.rows[-1]):
            rows.rows.pop()
        return rows

    def _argument_raw(self) -> str:
        """Read `{…}` as it stands."""
        while self._next().isspace():
            self._at += 1
        if self._next() != "{":
            return self._argument()
        depth, start = 0, self._at
        while self._at < len(self._pieces):
            depth += {"{": 1, "}": -1}.get(self._pieces[self._at], 0)
            self._at += 1
            if depth == 0:
                break
        return "".join(self._pieces[start : self._at]).removeprefix("{").removesuffix("}")

    def _next(self) -> str:
        return self._pieces[self._at] if self._at < len(self._pieces) else ""


def _ends_a_term(parts: list[str | Rows]) -> bool:
    """Whether a sign after these parts joins two terms and is not the sign of one."""
    last = next((part for part in reversed(parts) if not isinstance(part, str) or part.strip()), "")
    return not isinstance(last, str) or last.rstrip()[-1:] not in _BEFORE_A_SIGN


def _grouped(text: str, product: bool = False) -> str:
    """Return text in parentheses where a fraction or root needs them; a numerator may be a `product`."""
    text = tidy(text)
    flat = text
    while (inner := re.sub(r"\([^()]*\)|\|[^|]+\|", "", flat)) != flat:
        flat = inner
    if product:
        simple = not re.search(r"[\s+−=<>,;/]", flat)
    else:
        simple = bool(re.fullmatch(r"√?(\w?[.′⁰-ₜᵃ-ᶿⱼⱽ∞\u0300-\u036f\u20d7!^_]*|[A-Za-z]+|\d+)", flat))
    return text if simple else f"({text})"
