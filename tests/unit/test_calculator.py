"""The calculator: what people expect of numbers, and nothing that eats the machine."""

import re
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenchat.text.safe import clean
from qwenchat.tools.builtin.calculator import Calculator, calculated
from qwenchat.tools.tool import ToolError


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        *(("37*41", "1517"), ("0.1+0.2", "0.3"), ("1.10*3", "3.3"), ("2**100", "1267650600228229401496703205376")),
        *(("7//2", "3"), ("-7//2", "-4"), ("-7 % 3", "2"), ("-2**2", "-4"), ("2**3**2", "512"), ("2**-2", "0.25")),
        *(("15% of 260", "39"), ("12.5 % of (40+40) + 1", "11"), ("15 % 4", "3")),
        *(("(1+2)*3/4", "2.25"), ("2^10", "1024"), ("5!", "120"), ("1.", "1"), (".5*4", "2"), ("1e3", "1000")),
        *(("（3＋4）×5＝", "35"), ("100÷8", "12.5"), ("5²-3", "22"), ("9−4", "5"), ("37*41 = ?", "1517")),
        *(("sqrt(16)", "4"), ("sqrt(0.25)", "0.5"), ("4**0.5", "2"), ("math.sqrt(9)", "3"), ("SQRT(9)", "3")),
        *(("round(2.5)", "3"), ("round(-2.675, 2)", "-2.68"), ("floor(-1.5)", "-2"), ("ceil(1.2)", "2")),
        *(("max(1, 2.5, 2)", "2.5"), ("sum(1,2,3)", "6"), ("mean(1, 2)", "1.5"), ("gcd(12, 18)", "6")),
        *(
            ("lcm(4, 6, 10)", "60"),
            ("comb(52, 5)", "2598960"),
            ("abs(-3)", "3"),
            ("factorial(20)", "2432902008176640000"),
        ),
        *(("10**3999 - 10**3999 + 1", "1"), ("1/8e20", "0.00000000000000000000125"), ("0*-1", "0")),
    ],
)
def test_exact_values(expression: str, value: str) -> None:
    assert calculated(expression) == (value, True)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        *(("10/3", "3.33333333333333"), ("sqrt(2)", "1.4142135623731"), ("sqrt(2)**2", "2"), ("sin(pi)", "0")),
        *(("pi*2²", "12.5663706143592"), ("log10(1000)", "3"), ("ln(10**400)", "921.034037197618"), ("log(8, 2)", "3")),
        *(
            ("(1+0.05/12)**360", "4.46774431400613"),
            ("1.00001**36500", "1.44051137923452"),
            ("1e20/3", "3.33333333333333e+19"),
        ),
        *(("cos(radians(60))", "0.5"), ("e", "2.71828182845905"), ("cbrt(27)", "3"), ("-(2**0.5)", "-1.4142135623731")),
    ],
)
def test_values_that_have_no_exact_decimal(expression: str, value: str) -> None:
    assert calculated(expression) == (value, False)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("9**9**9", "The result has about 369,693,100 digits; 4,000 are possible."),
        ("9**9**9**9", "about 369,693,100 digits"),
        ("factorial(10**9)", "about 8,565,705,523 digits"),
        ("(10**3000)!", "far too many digits"),
        ("comb(10**9, 5*10**8)", "digits"),
        ("(" * 10_000 + "1" + ")" * 10_000, "longer than 1,000 characters"),
        ("(" * 400 + "1" + ")" * 400, "more than 50 levels"),
        ("-" * 900 + "1", "more than 50 levels"),
        ("**".join(["1.01"] * 150), "more than 50 levels"),
        ("1e999999999", "too large"),
        ("1e-999999999", "too close to zero"),
        ("2**-20000", "too close to zero"),
        ("exp(1000)", "too large"),
        ("10**3999 * sqrt(2)", "too large"),
        ("1/0", "A division by zero has no result."),
        ("0**-5", "A division by zero has no result."),
        ("1 % 0", "A division by zero"),
        ("(-8)**(1/3)", "negative number"),
        ("sqrt(-1)", "negative number"),
        ("log(0)", "The function log has no result"),
        ("asin(2)", "The function asin has no result"),
        ("round(1, 10**9)", "The function round has no result"),
        ("(1/2)!", "no factorial"),
        ("(-1)!", "no factorial"),
        ("gcd(1.5, 2)", "The function gcd has no result"),
        ("15%", "write 15% as 0.15"),
        ("1,234 + 1", "write 1,234 as 1234"),
        ("2pi", 'after "2" before "pi"'),
        ("(1+2", "at the end"),
        ("", "at the end"),
        ("x+1", "The constants are: pi, e, tau."),
        ("eval(1)", "There is no function eval. There are: abs, "),
        ("max()", "can't have 0 arguments"),
        ("abs(1, 2)", "can't have 2 arguments"),
        ("__import__('os')", "not part of an expression"),
        ("().__class__", "not part of an expression"),
        ("1 if 2 else 3", "can't be read"),
        ("'a'*10**9", "not part of an expression"),
        ("[1]*10**9", "not part of an expression"),
    ],
)
def test_what_can_not_be_calculated_is_refused_in_words(expression: str, words: str) -> None:
    with pytest.raises(ToolError) as refused:
        calculated(expression)
    assert words in refused.value.reason


@pytest.mark.parametrize(
    "expression",
    [
        "lcm(" + ",".join(f"9**{4100 + i}" for i in range(90)) + ")",
        "sum(" + ",".join(f"1/3**{2400 + i}" for i in range(80)) + ")",
        "mean(" + ",".join(f"1/{3 + 2 * i}**2000" for i in range(80)) + ")",
        "*".join(["1.1**3000"] * 90),
        "+".join(["1400!"] * 160),
    ],
)
def test_many_large_steps_stay_small(expression: str) -> None:
    try:
        assert len(calculated(expression)[0]) < 5_000
    except ToolError as error:
        assert "too large" in error.reason or "digits" in error.reason


Known = tuple[str, Fraction | None]
"""An expression and its value; None where it divides by zero."""


def combined(parts: tuple[Known, str, Known]) -> Known:
    (text, one), operator, (other_text, other) = parts
    value = None
    if one is not None and other is not None and not (operator in ("/", "%") and other == 0):
        value = {"+": one + other, "-": one - other, "*": one * other}.get(operator)
        if value is None:
            value = one / other if operator == "/" else one % other
    return f"({text} {operator} {other_text})", value


numbers = st.decimals(0, 10**6, places=3).map(lambda number: (f"{number:f}", Fraction(number)))
expressions = st.recursive(
    numbers, lambda inner: st.tuples(inner, st.sampled_from("+-*/%"), inner).map(combined), max_leaves=12
)


@given(expressions)
def test_arithmetic_is_that_of_fractions(known: Known) -> None:
    expression, value = known
    if value is None:
        with pytest.raises(ToolError, match="division by zero"):
            calculated(expression)
        return
    shown, is_exact = calculated(expression)
    assert Fraction(shown) == value if is_exact else abs(Fraction(shown) - value) <= abs(value) / 10**14


@settings(max_examples=300)
@given(st.text(alphabet="0123456789.+-*/%^!(), eπ²sqrtloginfactorial", max_size=60) | st.text(max_size=60))
def test_any_text_is_a_value_or_is_refused_in_words(text: str) -> None:
    try:
        shown, _is_exact = calculated(text)
    except ToolError as error:
        assert clean(error.reason) == error.reason
    else:
        assert re.fullmatch(r"-?[0-9]+([.][0-9]+)?(e[+-][0-9]+)?", shown)


async def test_the_tool_says_what_it_calculated() -> None:
    tool = Calculator()
    assert await tool.run({"expression": "37*41 ="}) == "37*41 = 1517"
    assert await tool.run({"expression": "10/3"}) == "10/3 ≈ 3.33333333333333"
    with pytest.raises(ToolError, match="do not follow the schema"):
        await tool.run({"expr": "1"})
