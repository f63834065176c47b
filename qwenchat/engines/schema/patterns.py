"""Writes a schema's regular expression in llguidance's dialect, so that it means the same to every validator.

JSON Schema asks for ECMAScript's dialect, but validators use that of their own language, and llguidance uses Rust's.
The same pattern can mean different things in them, such as `[[a]]`, `a++` and `(?i)a`. Only what all of them read alike
is translated; everything else is refused. Where their character classes differ, as for white space, the translation
matches only what every dialect matches. What no finite automaton can do (look-around, back references, word boundaries)
is refused too.
"""

import re

_WHITE = r"\t-\r \x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}"
"""White space in every dialect, as members of a class."""
_MAYBE_WHITE = _WHITE + r"\x{1c}-\x{1f}\x{85}\x{feff}"
"""White space in some dialect."""
_NARROW = {
    "d": "[0-9]",
    "D": r"\P{Nd}",
    "w": "[0-9A-Za-z_]",
    "W": r"[^\p{L}\p{N}_]",
    "s": f"[{_WHITE}]",
    "S": f"[^{_MAYBE_WHITE}]",
}
"""What every dialect counts as a member of an escape's class."""
_WIDE = {
    "d": r"\p{Nd}",
    "D": "[^0-9]",
    "w": r"[\p{L}\p{N}_]",
    "W": "[^0-9A-Za-z_]",
    "s": f"[{_MAYBE_WHITE}]",
    "S": f"[^{_WHITE}]",
}
"""What some dialect counts as a member; a class that is negated excludes all of it."""
_CONTROLS = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v"}
_QUANTIFIER = re.compile(r"(?:[*+?]|\{[0-9]+(?:,[0-9]*)?\})\??", re.ASCII)
_GROUP = re.compile(r"\((?:\?:|(?!\?))")
_CODE = re.compile(r"\\x[0-9a-fA-F]{2}|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}")
_ANY = r"[^\n\r\x{2028}\x{2029}]"
"""What a dot matches in every dialect."""
_UNWRITABLE = frozenset(f"\\x{{{code:x}}}" for code in (*range(0x20), 0x7F) if chr(code) not in "\b\f\n\r\t")
"""Characters that JSON writes only as `\\u001f`, which answers don't contain; a class may have them as members."""
_YEAR = "(?:[0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)"
_LEAP_YEAR = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_DAY = (
    f"(?:{_YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    f"|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP_YEAR}-02-29)"
)
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
FORMATS = {"date": f"^{_DAY}$", "time": f"^{_TIME}$", "date-time": f"^{_DAY}T{_TIME}$"}
"""Formats by their pattern in llguidance's dialect, whose own ones allow a 30 February and leap seconds in any minute.

They describe RFC 3339 without leap seconds and the year 0, which many programs can't read.
"""


class PatternRefused(Exception):
    """Part of a pattern means different things to different validators, or can't be enforced; the part is `str`."""


def translated(pattern: str) -> str:
    """Return the pattern in llguidance's dialect. Raises PatternRefused."""
    written: list[str] = []
    at = 0
    while at < len(pattern):
        if pattern[at] in "^$|":
            written.append(pattern[at])
            at += 1
            continue
        if group := _GROUP.match(pattern, at):
            written.append("(?:")
            at = group.end()
            continue
        piece, end = _atom(pattern, at)
        repeated = _QUANTIFIER.match(pattern, end)
        written.append(piece + (repeated[0] if repeated else ""))
        at = repeated.end() if repeated else end
    return "".join(written)


def _atom(pattern: str, at: int) -> tuple[str, int]:
    """Return what stands at `at` in the other dialect, and where it ends."""
    character = pattern[at]
    if character == "(" or pattern.startswith("{,", at) or _QUANTIFIER.match(pattern, at):
        # Look-around, a name or flags; what some read as `{0,`; what repeats nothing, or something repeated.
        raise PatternRefused(pattern[at : at + 3])
    if character == ")":
        return ")", at + 1
    if character == ".":
        return _ANY, at + 1
    if character == "[":
        return _class(pattern, at + 1)
    piece, end = _escape(pattern, at, _NARROW) if character == "\\" else (_literal(character), at + 1)
    if piece in _UNWRITABLE:
        raise PatternRefused(pattern[at:end])
    return piece, end


def _class(pattern: str, at: int) -> tuple[str, int]:
    """Return a class whose members begin at `at`."""
    negated = pattern.startswith("^", at)
    at += negated
    members: list[str] = []
    while not pattern.startswith("]", at) or not members:  # what `[]` and `[^]` match depends on the dialect
        if at >= len(pattern) or pattern[at] == "]":
            raise PatternRefused(pattern[-3:])
        member, end = _member(pattern, at, negated=negated)
        if pattern.startswith("-", end) and not pattern.startswith("-]", end):
            last, end = _member(pattern, end + 1, negated=negated)
            if "[" in member + last or "\\p" in (member + last).lower():  # one end of the range is itself a class
                raise PatternRefused(pattern[at:end])
            member = f"{member}-{last}"
        members.append(member)
        at = end
    return f"[{'^' * negated}{''.join(members)}]", at + 1


def _member(pattern: str, at: int, *, negated: bool) -> tuple[str, int]:
    if pattern.startswith("\\b", at):
        return r"\x{8}", at + 2
    if pattern.startswith("\\", at):
        return _escape(pattern, at, _WIDE if negated else _NARROW)
    if at >= len(pattern):
        raise PatternRefused(pattern[-3:])
    return _literal(pattern[at]), at + 1


def _escape(pattern: str, at: int, classes: dict[str, str]) -> tuple[str, int]:
    """Return the escape at `at`."""
    letter = pattern[at + 1 : at + 2]
    if letter in classes:
        return classes[letter], at + 2
    if letter in _CONTROLS:
        return _literal(_CONTROLS[letter]), at + 2
    if letter.isascii() and letter.isprintable() and letter and not letter.isalnum():
        return _literal(letter), at + 2
    if code := _CODE.match(pattern, at):
        text = code[0].encode("ascii").decode("unicode_escape").encode("utf-16", "surrogatepass")
        try:
            return _literal(text.decode("utf-16")), code.end()
        except UnicodeDecodeError:  # half of a character
            raise PatternRefused(code[0]) from None
    raise PatternRefused(pattern[at : at + 2])


def _literal(character: str) -> str:
    """Return a character that stands for itself, inside a class and outside."""
    return character if character.isalnum() else f"\\x{{{ord(character):x}}}"
