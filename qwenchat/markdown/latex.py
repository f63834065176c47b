r"""Mathematics in LaTeX as readable Unicode: `\frac{a}{b}` is `a/b`, `x^{n+1}` is `xⁿ⁺¹`, a matrix is rows.

Unknown commands stay as they were written. No formula raises, however broken: half of one is shown while an answer
is being written. The module has three parts: LaTeX's names for characters, as tables; `Rows`, the parts of a formula
that take several lines; and the parser.
"""

import re
from dataclasses import dataclass, field
from unicodedata import normalize

from rich.cells import cell_len

_GREEK = """
alpha α beta β gamma γ delta δ epsilon ε varepsilon ε zeta ζ eta η theta θ vartheta ϑ iota ι kappa κ lambda λ mu μ
nu ν xi ξ omicron ο pi π varpi ϖ rho ρ varrho ϱ sigma σ varsigma ς tau τ upsilon υ phi φ varphi φ chi χ psi ψ
omega ω Gamma Γ Delta Δ Theta Θ Lambda Λ Xi Ξ Pi Π Sigma Σ Upsilon Υ Phi Φ Psi Ψ Omega Ω
"""
_LETTERS = """
hbar ℏ ell ℓ Re ℜ Im ℑ wp ℘ aleph ℵ beth ℶ imath ı jmath ȷ partial ∂ nabla ∇ infty ∞ emptyset ∅ varnothing ∅
forall ∀ exists ∃ nexists ∄ neg ¬ lnot ¬ top ⊤ bot ⊥ angle ∠ triangle △ square □ blacksquare ■ checkmark ✓ degree °
prime ′ dagger † ddagger ‡ S § P ¶ copyright © pounds £ euro € yen ¥ ldots … dots … cdots ⋯ vdots ⋮ ddots ⋱ dotsc …
dotsb ⋯ colon : vert | Vert ‖ lvert | rvert | lVert ‖ rVert ‖ langle ⟨ rangle ⟩ lfloor ⌊ rfloor ⌋ lceil ⌈ rceil ⌉
lbrace { rbrace } lbrack [ rbrack ] backslash \\ bullet • star ⋆ ast ∗ circ ∘ clubsuit ♣ spadesuit ♠ qed ∎ mho ℧
"""
_RELATIONS = """
le ≤ leq ≤ leqslant ≤ ge ≥ geq ≥ geqslant ≥ ne ≠ neq ≠ equiv ≡ approx ≈ sim ∼ simeq ≃ cong ≅ propto ∝ ll ≪ gg ≫
prec ≺ succ ≻ preceq ⪯ succeq ⪰ in ∈ notin ∉ ni ∋ subset ⊂ subseteq ⊆ subsetneq ⊊ supset ⊃ supseteq ⊇ parallel ∥
perp ⊥ mid ∣ nmid ∤ models ⊨ vdash ⊢ dashv ⊣ asymp ≍ doteq ≐ triangleq ≜ coloneqq ≔ to → rightarrow → leftarrow ←
gets ← leftrightarrow ↔ Rightarrow ⇒ Leftarrow ⇐ Leftrightarrow ⇔ implies ⟹ impliedby ⟸ iff ⟺ mapsto ↦ uparrow ↑
downarrow ↓ longrightarrow ⟶ longleftarrow ⟵ Longrightarrow ⟹ hookrightarrow ↪ rightharpoonup ⇀ rightleftharpoons ⇌
nearrow ↗ searrow ↘ therefore ∴ because ∵ lt < gt > updownarrow ↕ xrightarrow → rightsquigarrow ⇝ leadsto ⇝
"""
_BINARY = """
times × div ÷ pm ± mp ∓ cdot · cup ∪ cap ∩ setminus ∖ smallsetminus ∖ wedge ∧ land ∧ vee ∨ lor ∨ oplus ⊕ ominus ⊖
otimes ⊗ odot ⊙ bmod mod uplus ⊎ sqcup ⊔ sqcap ⊓ diamond ⋄ bigtriangleup △ amalg ⨿ wr ≀ ltimes ⋉ rtimes ⋊ And &
"""
_LARGE = """
sum ∑ prod ∏ coprod ∐ int ∫ iint ∬ iiint ∭ oint ∮ bigcup ⋃ bigcap ⋂ bigoplus ⨁ bigotimes ⨂ bigvee ⋁ bigwedge ⋀
"""
_FUNCTIONS = """
sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh coth log ln lg exp lim limsup liminf max min sup inf arg
argmax argmin det dim ker deg gcd lcm hom Pr mod tr rank diag span sgn softmax ReLU erf var Var Cov
"""
_SILENT = """
left right big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr displaystyle textstyle scriptstyle limits
nolimits nonumber notag boldmath hline middle allowbreak
"""
_TEXT = """
text textbf textit textrm texttt textsf textup mathrm mathbf mathit mathsf mathtt mathcal mathscr mathfrak bm
boldsymbol pmb operatorname mbox hbox emph underline boxed fbox rm bf cal tag label phantom ensuremath mathop
mathbin mathrel mathord substack underbrace overbrace smash
"""
_SPACES = {",": " ", ":": " ", ";": " ", " ": " ", "!": "", "quad": "  ", "qquad": "    ", "thinspace": " ", "~": " "}

FUNCTIONS = frozenset(_FUNCTIONS.split())
"""Shown as their names."""

SILENT = frozenset(_SILENT.split())
"""Commands about layout, which are dropped."""

TEXT = frozenset(_TEXT.split())
"""Commands whose argument is shown as it is."""

ACCENTS = {
    "hat": "\u0302", "widehat": "\u0302", "bar": "\u0304", "overline": "\u0304", "vec": "\u20d7", "dot": "\u0307",
    "ddot": "\u0308", "tilde": "\u0303", "widetilde": "\u0303", "check": "\u030c", "breve": "\u0306",
    "overrightarrow": "\u20d7", "not": "\u0338",
}  # fmt: skip
"""Combining characters for commands that mark a letter."""

DOUBLE_STRUCK = dict(zip("CHNPQRZ", "ℂℍℕℙℚℝℤ", strict=True)) | {"E": "𝔼", "1": "𝟙", "F": "𝔽", "I": "𝕀", "D": "𝔻"}

SUPERSCRIPT = dict(
    zip(
        "0123456789+-−=()abcdefghijklmnoprstuvwxyzABDEGHIJKLMNOPRTUVWαβγδεθιφχ′*∗∘",
        "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻᴬᴮᴰᴱᴳᴴᴵᴶᴷᴸᴹᴺᴼᴾᴿᵀᵁⱽᵂᵅᵝᵞᵟᵋᶿᶥᶲᵡ′**°",
        strict=True,
    )
)
SUBSCRIPT = dict(
    zip(
        "0123456789+-−=()aehijklmnoprstuvxβγρφχ",
        "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓᵦᵧᵨᵩᵪ",
        strict=True,
    )
)
BRACKETS = {
    "pmatrix": ("⎛⎜⎝", "⎞⎟⎠", "()"),
    "bmatrix": ("⎡⎢⎣", "⎤⎥⎦", "[]"),
    "Bmatrix": ("⎧⎨⎩", "⎫⎬⎭", "{}"),
    "vmatrix": ("│││", "│││", "||"),
    "Vmatrix": ("‖‖‖", "‖‖‖", "‖‖"),
    "cases": ("⎧⎨⎩", "   ", "{ "),
}
"""Environment -> (left top, middle, bottom), (right ...), the pair for one line."""


def _pairs(table: str) -> dict[str, str]:
    words = table.split()
    return dict(zip(words[::2], words[1::2], strict=True))


RELATIONS = _pairs(_RELATIONS)
"""Set with a space on either side."""
BINARY = _pairs(_BINARY)
LARGE = _pairs(_LARGE)
SYMBOLS = _pairs(_GREEK) | _pairs(_LETTERS) | RELATIONS | BINARY | LARGE | _SPACES


@dataclass(slots=True)
class Rows:
    """A matrix, cases or aligned lines: what takes several lines where there is room for them."""

    environment: str
    rows: list[list[str]] = field(default_factory=lambda: [[""]])

    def inline(self) -> str:
        """Return the rows on one line, semicolons between them."""
        pair = BRACKETS.get(self.environment, ("", "", "  "))[2]
        rows = "; ".join(", ".join(cell.strip() for cell in row) for row in self.rows)
        return f"{pair[0]}{rows}{pair[1]}".strip()

    def lines(self) -> list[str]:
        """Return the rows with their columns aligned, in tall brackets."""
        widths: list[int] = []
        for row in self.rows:
            widths += [0] * (len(row) - len(widths))
            widths[: len(row)] = map(max, widths, map(cell_len, row))
        aligned = not self.environment.endswith(("matrix", "array", "cases"))
        gap = " " if aligned else "  "
        out = []
        for row in self.rows:
            cells = []
            for index, (cell, width) in enumerate(zip(row, widths, strict=False)):
                space = " " * (width - cell_len(cell))
                cells.append(space + cell if aligned and index % 2 == 0 and len(row) > 1 else cell + space)
            out.append(gap.join(cells).rstrip() if aligned else gap.join(cells))
        left, right, _ = BRACKETS.get(self.environment, ("", "", ""))
        if not left:
            return out
        if len(out) == 1:
            return [self.inline()]
        place = [0, *[1] * (len(out) - 2), 2]
        full = max(map(cell_len, out))
        return [
            f"{left[p]} {line}{' ' * (full - cell_len(line))} {right[p]}".rstrip()
            for p, line in zip(place, out, strict=True)
        ]


def beside(blocks: list[list[str]]) -> list[str]:
    """Set blocks side by side, each centred on the tallest."""
    height = max(map(len, blocks), default=0)
    rows = [""] * height
    for block in blocks:
        width = max(map(cell_len, block))
        above = (height - len(block)) // 2
        for y in range(height):
            line = block[y - above] if 0 <= y - above < len(block) else ""
            rows[y] += (" " if rows[y] else "") + line + " " * (width - cell_len(line))
    return rows


def tidy(text: str) -> str:
    """Return a formula without the spaces that its notation leaves over."""
    text = re.sub(r"[ \t]+", " ", text)
    return re.sub(r" ?\n ?", "\n", re.sub(r"([(\[⟨|]) | (?=[)\]⟩,;.])", r"\1", text)).strip()


_PIECE = re.compile(r"\\[A-Za-z]+\*?|\\.|[{}^_&~]|\s+|.", re.DOTALL)
_DEEPEST = 40
_BEFORE_A_SIGN = "=<>+−×÷·([{,;/|≤≥≠≈∈→⇒"
_ROOTS = {"": "√", "2": "√", "3": "∛", "4": "∜"}
_PLAIN = {"&": " ", "~": " ", "'": "′", "=": " = ", "<": " < ", ">": " > ", "-": "−"}


def inline(latex: str) -> str:
    """Return a formula as one line of Unicode."""
    return tidy("".join(part if isinstance(part, str) else part.inline() for part in _LatexParser(latex).all()))


def display(latex: str) -> list[str]:
    """Return a formula as the lines of a block, matrices and aligned rows with a line each."""
    blocks: list[list[str]] = []
    text = ""
    for part in _LatexParser(latex).all():
        if isinstance(part, str):
            text += part
            continue
        blocks += [tidy(text).splitlines() or [""], part.lines()]
        text = ""
    blocks.append([line.strip() for line in tidy(text).split("\n")] if text.strip() else [""])
    return [line.rstrip() for line in beside([block for block in blocks if block != [""]])] or [""]


class _LatexParser:
    """Parses LaTeX by recursive descent."""

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
        table = SUPERSCRIPT if mark == "^" else SUBSCRIPT
        close = text.replace(" ", "")
        if not close:
            return ""
        if all(character in table for character in close):
            return "".join(table[character] for character in close)
        return f"{mark}{close}" if len(close) == 1 else f"{mark}({text})"

    def _command(self, name: str) -> str | Rows:
        if name in SILENT:
            if self._next() == ".":
                self._at += 1
            return ""
        if name in TEXT:
            return self._argument_raw() if name.startswith(("text", "mbox")) else self._argument()
        if name in FUNCTIONS:
            return f" {name}{' ' if self._next() not in ('^', '_', '(') else ''}"
        if name in SYMBOLS:
            symbol = SYMBOLS[name]
            spaced = name in RELATIONS or (name in BINARY and name != "cdot")
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
                raised = "".join(SUPERSCRIPT.get(c, c) for c in degree)
                text = f"{_ROOTS.get(degree, f'{raised}√')}{_grouped(self._argument())}"
            case "pmod":
                text = f" (mod {self._argument()})"
            case "overset" | "stackrel" | "underset":
                script, base = self._argument(), self._argument()
                text = f" {base.strip()}{'_' if name == 'underset' else '^'}({script.strip()}) "
            case "mathbb":
                text = "".join(DOUBLE_STRUCK.get(c, c) for c in self._argument())
            case "begin":
                text = self._environment(self._argument_raw())
            case "end":
                text = self._argument_raw()[:0]
            case "{" | "}" | "$" | "%" | "&" | "#" | "_" | "|":
                text = "‖" if name == "|" else name
            case _ if name in ACCENTS:
                text = normalize("NFC", "".join(c + ACCENTS[name] for c in self._argument().strip()))
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
        """Read `{…}` verbatim."""
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
    """Return whether a sign after these parts joins two terms; otherwise it is the sign of one."""
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
