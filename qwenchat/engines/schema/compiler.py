"""Compiles rewritten schemas with llguidance, within limits of time and memory, for any tokenizer.

llguidance reports failures as a state of its matcher; here they are exceptions. A hostile schema can end the process
that compiles it, so only the worker imports this, after the child `python -m qwenchat.engines.schema.compiler` has
survived the same schema. The child reads a schema from standard input and writes why it is refused, or nothing.
"""

import json
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from qwenchat.engines.schema.document import (
    ESCAPES,
    WHITE_SPACE,
    RewrittenSchema,
    escaped,
    rewritten,
)
from qwenchat.engines.schema.refusal import Reason, SchemaRefused
from qwenchat.limits import limit_this_process

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions  # it is not there when the program runs

TIME_LIMIT_S = 10
"""Of the child's computing, for one whose parent is gone; the parent waits no longer than that, either."""
MEMORY_LIMIT = 2 << 30
"""Of the child, in bytes of address space; a schema takes a fraction of it."""
SEARCH_S = 2.0
"""How long the child looks for the place in the schema that llguidance refuses."""
LIMITS = LLParserLimits(max_lexer_states=100_000, verbose_errors=False)
"""llguidance's own limits, except that the states of one answer take at most 0.2 GB."""
END = 256
"""The token of `byte_tokenizer` that ends an answer."""
_MARKS = {
    Reason.IMPOSSIBLE: ("Unsatisfiable", "NoExtension"),
    Reason.OVERLAPPING: ("oneOf constraints",),
    Reason.TOO_COMPLEX: (
        "TooComplex",
        "expressions",
        "too complex",
        "too large",
        "too big",
        "fuel",
        "limit",
        "stack level",
    ),
}
"""What llguidance's errors contain."""


class Refusal(msgspec.Struct, frozen=True):
    """What the child writes about a schema that is refused."""

    reason: Reason
    pointer: str
    detail: str


class _Bytes:
    """A vocabulary of the 256 bytes, as llguidance asks for it."""

    eos_token_id = END
    bos_token_id = None
    tokens = (*(bytes([byte]) for byte in range(256)), b"\xff<end>")
    special_token_ids = (END,)

    def __call__(self, text: bytes) -> list[int]:
        return list(text)


def byte_tokenizer() -> LLTokenizer:
    """Return a tokenizer whose tokens are single bytes."""
    return LLTokenizer(TokenizerWrapper(_Bytes()))


_OPTIONS: "JsonCompileOptions" = {"json_allowed_escapes": ESCAPES, "whitespace_pattern": WHITE_SPACE}


def schema_grammar(schema: Mapping[str, object]) -> str:
    """Return the grammar of a rewritten schema."""
    return LLMatcher.grammar_from_json_schema(dict(schema), overrides=_OPTIONS)


def constrained(schema: Mapping[str, object]) -> str:
    """Return a rewritten schema as JSON, as a grammar can contain it."""
    return json.dumps({**schema, "x-guidance": _OPTIONS})


def matcher(tokenizer: LLTokenizer, grammar: str) -> LLMatcher:
    """Return a matcher of a grammar. Raises SchemaRefused, which knows no place."""
    made = LLMatcher(tokenizer, grammar, log_level=0, limits=LIMITS)
    check_state(made)
    return made


def check_state(made: LLMatcher) -> None:
    """Raise SchemaRefused if a matcher has failed."""
    if not made.is_error():
        return
    lines = made.get_error().split("\n")
    reason = next((reason for reason, marks in _MARKS.items() if any(mark in lines[0] for mark in marks)), Reason.OTHER)
    explanations = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    raise SchemaRefused(reason, detail=(explanations or lines)[0])


def check(text: str) -> None:
    """Compile a schema, given as JSON, and begin an answer. Raises SchemaRefused with the place."""
    document, tokenizer = rewritten(text), byte_tokenizer()
    failure = _failure(tokenizer, document.schema)
    if failure:
        raise _located(failure, document, tokenizer)


def _failure(tokenizer: LLTokenizer, schema: Mapping[str, object]) -> SchemaRefused | None:
    try:
        made = matcher(tokenizer, schema_grammar(schema))
        made.compute_bitmask()
        check_state(made)
    except SchemaRefused as error:
        return error
    return None


def _located(failure: SchemaRefused, document: RewrittenSchema, tokenizer: LLTokenizer) -> SchemaRefused:
    """Return the failure with its place: the innermost subschema that fails alike, and its keyword to blame."""
    definitions = {"$defs": document.schema["$defs"]}
    deadline = time.monotonic() + SEARCH_S
    for part in document.parts:
        if time.monotonic() > deadline:
            break
        if not _is_same(_failure(tokenizer, {**part.written, **definitions}), failure):
            continue
        for keyword in part.written:
            rest = {name: value for name, value in part.written.items() if name != keyword}
            if not _is_same(_failure(tokenizer, {**rest, **definitions}), failure):
                return SchemaRefused(failure.reason, f"{part.pointer}/{escaped(keyword)}", failure.detail)
        return SchemaRefused(failure.reason, part.pointer, failure.detail)
    return SchemaRefused(failure.reason, document.pointer, failure.detail)


def _is_same(one: SchemaRefused | None, other: SchemaRefused) -> bool:
    return one is not None and (one.reason, one.detail) == (other.reason, other.detail)


def main() -> int:
    """Read a schema from standard input; write a Refusal, or nothing if it can be enforced."""
    text = sys.stdin.buffer.read().decode("utf-8", "replace")
    limit_this_process(memory=MEMORY_LIMIT, cpu_s=TIME_LIMIT_S)
    try:
        check(text)
    except SchemaRefused as error:
        refusal = Refusal(error.reason, error.pointer, error.detail)
    except MemoryError:
        refusal = Refusal(Reason.TOO_COMPLEX, "#", "")
    else:
        return 0
    sys.stdout.buffer.write(msgspec.json.encode(refusal))
    return 0


if __name__ == "__main__":
    sys.exit(main())
