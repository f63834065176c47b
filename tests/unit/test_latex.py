"""LaTeX as a person reads it in a terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenchat.markdown.latex import display, inline


@pytest.mark.parametrize(
    ("latex", "read"),
    [
        (r"\frac{a}{b}", "a/b"),
        (r"\frac{a+b}{2c}", "(a + b)/(2c)"),
        (r"x^{n+1}", "xⁿ⁺¹"),
        (r"e^{i\pi} + 1 = 0", "e^(iπ) + 1 = 0"),
        (r"a_{ij}", "aᵢⱼ"),
        (r"\sum_{i=1}^{n} i", "∑ᵢ₌₁ⁿ i"),
        (r"\int_0^\infty f(x)\,dx", "∫₀^∞ f(x) dx"),
        (r"\sqrt{2}", "√2"),
        (r"\sqrt[3]{x+1}", "∛(x + 1)"),
        (r"\lim_{x \to 0} \sin x", "lim_(x → 0) sin x"),
        (r"\alpha \leq \beta \neq \Omega", "α ≤ β ≠ Ω"),
        (r"A \times B \cdot C", "A × B · C"),
        (r"\mathbb{R}^n \in \mathcal{X}", "ℝⁿ ∈ X"),
        (r"\hat{y} = \mathbf{W}x", "ŷ = Wx"),
        (r"\text{if } x > 0", "if x > 0"),
        (r"\left( \frac{1}{2} \right)^2", "(1/2)²"),
        (r"P(A \mid B)", "P(A ∣ B)"),
        (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", "(1, 2; 3, 4)"),
        (r"\unknown{x}", r"\unknown{x}"),
        (r"-x - y", "−x − y"),
        (r"\{1, 2\}", "{1, 2}"),
        (r"50\%", "50%"),
    ],
)
def test_a_formula_in_a_line(latex: str, read: str) -> None:
    assert inline(latex) == read


def test_a_matrix_is_rows() -> None:
    assert display(r"A = \begin{bmatrix} 1 & 2 \\ 3 & 44 \end{bmatrix}") == ["A = ⎡ 1  2  ⎤", "    ⎣ 3  44 ⎦"]


def test_cases_and_aligned_lines() -> None:
    assert display(r"f = \begin{cases} x & x > 0 \\ 0 & \text{else} \end{cases}") == ["f = ⎧ x  x > 0", "    ⎩ 0  else"]
    assert display(r"\begin{aligned} a &= b \\ &= c \end{aligned}") == ["a = b", "  = c"]
    assert display("a = b \\\\ c = d") == ["a = b", "c = d"]


@given(
    st.lists(
        st.sampled_from(
            [
                "\\frac",
                "{",
                "}",
                "^",
                "_",
                "\\begin{cases}",
                "\\end{cases}",
                "&",
                "\\\\",
                "x",
                "\\",
                "[",
                "]",
                "\\sqrt",
                "\\left",
                "'",
                " ",
                "中",
            ]
        ),
        max_size=40,
    ).map("".join)
)
def test_broken_formulas_never_raise(latex: str) -> None:
    assert isinstance(inline(latex), str)
    assert display(latex)


def test_deep_nesting_ends() -> None:
    assert inline("{" * 5000 + "x") is not None
    assert inline("\\frac" * 5000) is not None
    assert inline("^" * 5000) is not None
    assert display("\\begin{cases}" * 3000)
    assert display("\\sqrt[" * 5000)
    assert display("\\begin{matrix}" + "\\\\[" * 5000)
