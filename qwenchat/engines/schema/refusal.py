"""Why JSON Schemas are refused, in words: what can't be enforced, where it stands, and what to do."""

from enum import StrEnum

from qwenchat.errors import WrongUse
from qwenchat.i18n import _, labelled
from qwenchat.text import syntax
from qwenchat.text.safe import clean_line

LARGEST_TEXT = 1 << 20
"""Characters of a schema."""


class Reason(StrEnum):
    """Why a schema is refused."""

    NOT_JSON = "not_json"
    """The detail is where: line:column, if that is known."""
    NOT_A_SCHEMA = "not_a_schema"
    KEYWORD = "keyword"
    REFERENCE = "reference"
    FORMAT = "format"
    PATTERN = "pattern"
    NUMBER = "number"
    TEXT = "text"
    REPEATED_NAMES = "repeated_names"
    OVERLAPPING = "overlapping"
    IMPOSSIBLE = "impossible"
    TOO_LARGE = "too_large"
    TOO_COMPLEX = "too_complex"
    OTHER = "other"
    """llguidance refuses it in its own words."""


class SchemaRefused(Exception):
    """A schema can't be enforced, because of what stands at a JSON pointer."""

    def __init__(self, reason: Reason, pointer: str = "#", detail: str = "") -> None:
        super().__init__(reason, pointer, detail)
        self.reason, self.pointer, self.detail = reason, pointer, detail


def refused(refusal: SchemaRefused) -> WrongUse:
    """Return the error for a schema that is refused."""
    what, hint = _words()[refusal.reason]
    place = clean_line(refusal.pointer)
    reason = what.format(place=place, keyword=place.rpartition("/")[2], detail=clean_line(refusal.detail))
    line, _colon, column = refusal.detail.partition(":")
    if refusal.reason is Reason.NOT_JSON and column:
        reason = labelled(reason, syntax.place(line, column))
    return WrongUse(_("The JSON Schema can't be used: {reason}.").format(reason=reason), hint)


def _words() -> dict[Reason, tuple[str, str]]:
    """Return what is wrong and what to do, for each reason."""
    from qwenchat.engines.schema.document import KNOWN_FORMATS  # noqa: PLC0415 - it raises what this module defines

    change = _("Change that part of the schema, or leave it out and check that part of the answer yourself.")
    correct = _("Correct the schema.")
    return {
        Reason.NOT_JSON: (_("it is not JSON"), _("Give a file that holds a JSON Schema.")),
        Reason.NOT_A_SCHEMA: (_("{place} does not follow the JSON Schema standard"), correct),
        Reason.KEYWORD: (_("{place}: an answer can't be made to follow `{keyword}`"), change),
        Reason.REFERENCE: (
            _("{place} refers to nothing in the same document"),
            _("Put what it refers to into `$defs`, and refer to that as `#/$defs/name`."),
        ),
        Reason.FORMAT: (
            _("{place}: the format `{detail}` is unknown"),
            _("Use a `pattern`, or one of: {formats}.").format(formats=", ".join(sorted(KNOWN_FORMATS))),
        ),
        Reason.PATTERN: (
            _("{place}: `{detail}` in a pattern differs between programs, or can't be enforced"),
            _("Write the pattern without it."),
        ),
        Reason.NUMBER: (_("{place}: the number has too many digits to be exact"), _("Use a shorter number.")),
        Reason.TEXT: (_("{place}: the text contains a control character"), _("Use text without it.")),
        Reason.REPEATED_NAMES: (
            _("{place}: an answer could reach that number by repeating a name"),
            _("List the properties and set `additionalProperties` to false, or leave `minProperties` out."),
        ),
        Reason.OVERLAPPING: (
            _("{place}: two of its options may fit the same value"),
            _("Use `anyOf`, or give the options a required property with a different `const` in each."),
        ),
        Reason.IMPOSSIBLE: (_("{place}: no value can match it"), correct),
        Reason.TOO_LARGE: (_("{place}: it is too large or nested too deeply"), _("Make the schema smaller.")),
        Reason.TOO_COMPLEX: (
            _("{place}: it is too complex"),
            _("Make the schema simpler, such as with fewer options and shorter patterns."),
        ),
        Reason.OTHER: (_("{place}: {detail}"), change),
    }
