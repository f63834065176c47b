"""LaTeX's names for characters. Tables only."""

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
"""Say how to set a formula, not what it says."""

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
