"""Calculates an expression. It evaluates nothing but numbers, operators and the functions named here.

Numbers are exact fractions as long as that is possible, so that 0.1+0.2 is 0.3 and integers have all their digits;
what has no exact value, such as sqrt(2), is a float. Every operation is limited before it is done: no expression takes
much time or memory. Names are those of Python's `math`; `^` is a power.
"""

import decimal
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from types import MappingProxyType
from typing import Annotated, NoReturn

from msgspec import Meta

from qwenchat.chat.tools import ToolSpec
from qwenchat.text.safe import clean_line
from qwenchat.tools.arguments import Arguments, given, schema_of
from qwenchat.tools.tool import ToolError

_LONGEST = 1_000
"""Characters of an expression."""
_DEEPEST = 50
"""Parentheses, signs and powers inside each other."""
_MOST_DIGITS = 4_000
"""Of a numerator or denominator."""
_MOST_BITS = int(_MOST_DIGITS * math.log2(10))
_SHOWN_DIGITS = 15
"""Of a result that is rounded, as many as a float has for certain."""
_DECIMALS = 30
"""Decimal places up to which a result is shown exactly."""
_TOKEN = re.compile(
    r"\s*(?:((?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)|((?:math\.)?[a-z_]\w*)|(\*\*|//|[-+*/%^(),!]))", re.ASCII
)
_AS_ASCII = str.maketrans(
    {chr(code + 0xFEE0): chr(code) for code in range(0x21, 0x7F)}
    | {"×": "*", "·": "*", "⋅": "*", "÷": "/", "−": "-", "–": "-", "π": "pi", "²": "**2", "³": "**3"}
)
"""What people and models write for operators."""

_PERCENT = re.compile(r"(\d)\s*%\s*of\b")
"""`15% of 80`: anything else behind a `%` makes it the remainder of a division."""

_Value = Fraction | float


class _CalculatorArguments(Arguments, frozen=True):
    expression: Annotated[str, Meta(description="What to calculate, such as A*B, N% of A or sqrt(A)")]


@dataclass(frozen=True, slots=True)
class Calculator:
    """The tool `calculator`."""

    writes = False

    @property
    def spec(self) -> ToolSpec:
        """Its description for the model."""
        description = "Calculate exactly. Use it for every calculation with numbers."
        return ToolSpec(name="calculator", description=description, parameters=schema_of(_CalculatorArguments))

    async def run(self, arguments: Mapping[str, object]) -> str:
        """Return `expression = value`. Raises ToolError."""
        expression = given(arguments, _CalculatorArguments).expression
        value, is_exact = calculated(expression)
        return f"{clean_line(expression, _LONGEST).rstrip(' =?？')} {'=' if is_exact else '≈'} {value}"


def calculated(expression: str) -> tuple[str, bool]:
    """Return the value of an expression in decimal digits, and whether they are all of it. Raises ToolError."""
    try:
        return _written(_Evaluation(_tokens(expression)).value())
    except ZeroDivisionError as error:
        raise ToolError("A division by zero has no result.") from error
    except OverflowError as error:
        raise ToolError("The result is too large, or too close to zero, to be calculated.") from error


def _tokens(expression: str) -> list[str]:
    text = _PERCENT.sub(r"\1/100*", expression.translate(_AS_ASCII).lower()).rstrip(" =?\n\t")
    if len(text) > _LONGEST:
        raise ToolError(f"The expression is longer than {_LONGEST:,} characters.")
    tokens, at = [], 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise ToolError(
                f'"{clean_line(text[at : at + 20].strip())}" is not part of an expression that can be calculated.'
            )
        tokens.append(found[0].strip().removeprefix("math."))
        at = found.end()
    return tokens


class _Evaluation:
    """Evaluates tokens from left to right, by recursive descent."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens, self._at, self._depth = tokens, 0, 0

    def value(self) -> _Value:
        value = self._sum()
        if self._at < len(self._tokens):
            self._fail()
        return value

    @property
    def _next(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self, *wanted: str) -> str:
        """Return the next token and step behind it if it is one of those wanted, else an empty string."""
        token = self._next
        if token not in wanted:
            return ""
        self._at += 1
        return token

    def _fail(self) -> NoReturn:
        if self._next == ",":
            raise ToolError("A comma only separates the arguments of a function: write 1,234 as 1234.")
        if self._at and self._tokens[self._at - 1] == "%":
            raise ToolError("% is the remainder of a division: write 15% as 0.15.")
        before = "".join(self._tokens[: self._at][-10:])
        at = f' before "{self._next}"' if self._next else " at the end"
        raise ToolError(f'The expression can\'t be read after "{before}"{at}.')

    def _sum(self) -> _Value:
        value = self._product()
        while operator := self._take("+", "-"):
            other = self._product()
            value = _checked(value + other if operator == "+" else value - other)
        return value

    def _product(self) -> _Value:
        value = self._signed()
        while operator := self._take("*", "/", "//", "%"):
            value = _checked(_OPERATIONS[operator](value, self._signed()))
        return value

    def _signed(self) -> _Value:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ToolError(f"The expression has more than {_DEEPEST} levels.")
        sign = self._take("+", "-")
        value = self._signed() if sign else self._power()
        self._depth -= 1
        return -value if sign == "-" else value

    def _power(self) -> _Value:
        value = self._atom()
        while self._take("!"):
            value = _factorial(value)
        return _power(value, self._signed()) if self._take("**", "^") else value

    def _atom(self) -> _Value:
        piece = self._next
        if self._take("("):
            value = self._sum()
            if not self._take(")"):
                self._fail()
            return value
        if piece[:1].isdigit() or piece[:1] == ".":
            self._at += 1
            return _number(piece)
        if not piece.isidentifier() or piece == "of":
            self._fail()
        self._at += 1
        if self._take("("):
            return self._call(piece)
        if piece not in _CONSTANTS:
            raise ToolError(f'"{piece}" is not a number. The constants are: {", ".join(_CONSTANTS)}.')
        return _CONSTANTS[piece]

    def _call(self, name: str) -> _Value:
        values = [] if self._next == ")" else [self._sum()]
        while self._take(","):
            values.append(self._sum())
        if not self._take(")"):
            self._fail()
        if name not in _FUNCTIONS:
            raise ToolError(f"There is no function {name}. There are: {', '.join(_FUNCTIONS)}.")
        function, least, most = _FUNCTIONS[name]
        if not least <= len(values) <= most:
            raise ToolError(f"The function {name} can't have {len(values)} arguments.")
        try:
            return _checked(function(*values))
        except ValueError as error:
            raise ToolError(f"The function {name} has no result for this argument.") from error


def _number(token: str) -> Fraction:
    _digits, _e, exponent = token.partition("e")
    if exponent and (len(exponent) > 6 or abs(int(exponent)) > _MOST_DIGITS):
        raise OverflowError
    return Fraction(token)


def _checked(value: _Value) -> _Value:
    """Return a value that is small enough to go on with; a fraction of too many digits becomes a float."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise OverflowError
        return value
    value = Fraction(value)
    if _bits(value) <= _MOST_BITS:
        return value
    if value.denominator == 1:
        raise _too_many_digits(_bits(value))
    return _nonzero(float(value))


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _too_many_digits(bits: float) -> ToolError:
    many = f"about {bits / math.log2(10):,.0f}" if bits < 2**60 else "far too many"
    return ToolError(f"The result has {many} digits; {_MOST_DIGITS:,} are possible.")


def _nonzero(value: float) -> float:
    if value == 0:
        raise OverflowError
    return value


def _power(base: _Value, exponent: _Value) -> _Value:
    if isinstance(base, Fraction) and isinstance(exponent, Fraction) and exponent.denominator == 1:
        largest = max(abs(base.numerator), base.denominator)
        bits = abs(exponent.numerator) * math.log2(largest) if largest > 1 else 0
        if bits <= _MOST_BITS:
            return Fraction(base ** int(exponent))
        if base.denominator == 1 and exponent > 0:
            raise _too_many_digits(bits)
    if exponent == Fraction(1, 2):
        return _root(base)
    if base < 0 and exponent != int(exponent):
        raise _no_real_root()
    return _checked(_nonzero(math.pow(base, exponent)) if base else math.pow(base, exponent))


def _no_real_root() -> ToolError:
    return ToolError("A root of a negative number is not a real number.")


def _whole(value: _Value) -> int:
    if value != int(value):
        raise ValueError
    return int(value)


def _factorial(value: _Value) -> Fraction:
    if value < 0 or value != int(value):
        raise ToolError("A negative number or a fraction has no factorial.")
    number = int(value)
    bits = math.lgamma(min(number, 10**300) + 1) / math.log(2)
    if bits > _MOST_BITS:
        raise _too_many_digits(bits)
    return Fraction(math.factorial(number))


def _combinations(total: _Value, chosen: _Value) -> Fraction:
    n, k = _whole(total), _whole(chosen)
    bits = min(k, n - k) * n.bit_length()
    if bits > _MOST_BITS:
        raise _too_many_digits(bits)
    return Fraction(math.comb(n, k))


def _root(value: _Value) -> _Value:
    if value < 0:
        raise _no_real_root()
    if isinstance(value, Fraction):
        above, below = math.isqrt(value.numerator), math.isqrt(value.denominator)
        if (above**2, below**2) == (value.numerator, value.denominator):
            return Fraction(above, below)
    return math.sqrt(value)


def _logarithm(value: _Value, base: _Value = math.e) -> float:
    functions = {math.e: math.log, Fraction(10): math.log10, Fraction(2): math.log2}
    if base in functions:
        function = functions[base]
        return function(int(value) if value == int(value) else value)
    return _logarithm(value) / _logarithm(base)


def _rounded(value: _Value, places: _Value = Fraction(0)) -> Fraction:
    """Round half away from zero, as people do."""
    if not -100 <= places <= 100:
        raise ValueError
    exact = Fraction(repr(value)) if isinstance(value, float) else value
    scale = Fraction(10) ** _whole(places)
    size = math.floor(abs(exact) * scale + Fraction(1, 2)) / scale
    return -size if value < 0 else size


def _folded(function: Callable[[_Value, _Value], _Value]) -> Callable[..., _Value]:
    """Return a function of two values as one of many, each step of which is limited."""
    return lambda *values: reduce(lambda one, other: _checked(function(one, other)), values)


def _of_angle(function: Callable[[float], float]) -> Callable[[_Value], float]:
    """Return a trigonometric function without the last digits of its float, so that sin(pi) is 0."""
    return lambda angle: round(function(float(angle)), _SHOWN_DIGITS)


_sum = _folded(lambda one, other: one + other)
_OPERATIONS: Mapping[str, Callable[[_Value, _Value], _Value]] = MappingProxyType(
    {
        "*": lambda one, other: one * other,
        "/": lambda one, other: one / other,
        "//": lambda one, other: Fraction(math.floor(one / other)),
        "%": lambda one, other: one % other,
    }
)
_CONSTANTS: Mapping[str, float] = MappingProxyType({"pi": math.pi, "e": math.e, "tau": math.tau})
_ANY = 100
_FUNCTIONS: Mapping[str, tuple[Callable[..., _Value], int, int]] = MappingProxyType(
    {
        "abs": (abs, 1, 1),
        "round": (_rounded, 1, 2),
        "floor": (lambda value: Fraction(math.floor(value)), 1, 1),
        "ceil": (lambda value: Fraction(math.ceil(value)), 1, 1),
        "min": (min, 1, _ANY),
        "max": (max, 1, _ANY),
        "sum": (_sum, 1, _ANY),
        "mean": (lambda *values: _sum(*values) / len(values), 1, _ANY),
        "sqrt": (_root, 1, 1),
        "cbrt": (math.cbrt, 1, 1),
        "pow": (_power, 2, 2),
        "exp": (math.exp, 1, 1),
        "ln": (_logarithm, 1, 1),
        "log": (_logarithm, 1, 2),
        "log2": (lambda value: _logarithm(value, Fraction(2)), 1, 1),
        "log10": (lambda value: _logarithm(value, Fraction(10)), 1, 1),
        "sin": (_of_angle(math.sin), 1, 1),
        "cos": (_of_angle(math.cos), 1, 1),
        "tan": (_of_angle(math.tan), 1, 1),
        "asin": (math.asin, 1, 1),
        "acos": (math.acos, 1, 1),
        "atan": (math.atan, 1, 1),
        "degrees": (math.degrees, 1, 1),
        "radians": (math.radians, 1, 1),
        "factorial": (_factorial, 1, 1),
        "comb": (_combinations, 2, 2),
        "gcd": (lambda *values: Fraction(math.gcd(*map(_whole, values))), 1, _ANY),
        "lcm": (_folded(lambda one, other: Fraction(math.lcm(_whole(one), _whole(other)))), 1, _ANY),
    }
)
"""Each function with the least and the most arguments that it can have."""


def _written(value: _Value) -> tuple[str, bool]:
    """Return a value in decimal digits, and whether they are all of it."""
    if isinstance(value, Fraction):
        if value.denominator == 1:
            return str(value.numerator), True
        scaled = value * 10**_DECIMALS
        if scaled.denominator == 1:
            sign, digits = "-" if value < 0 else "", str(abs(scaled.numerator)).rjust(_DECIMALS + 1, "0")
            return f"{sign}{digits[:-_DECIMALS]}.{digits[-_DECIMALS:].rstrip('0')}", True
    context = decimal.Context(prec=_SHOWN_DIGITS)
    above, below = value.as_integer_ratio()
    shown = context.divide(decimal.Decimal(above), decimal.Decimal(below)).normalize(context)
    return format(shown, "f" if -10 <= shown.adjusted() < _SHOWN_DIGITS else "e"), False
