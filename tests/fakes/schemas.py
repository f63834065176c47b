"""JSON Schemas for tests: the official suite, and answers that llguidance allows, drawn at random without a model."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, localcontext
from pathlib import Path
from random import Random
from typing import Any

import jsonschema
from jsonschema.protocols import Validator
from llguidance import LLMatcher

from qwenchat.engines.schema import compiler
from qwenchat.engines.schema.document import rewritten

SUITE = Path(__file__).parents[1] / "data" / "json_schema_suite"
_DRAFTS: dict[str, tuple[str, type[Validator]]] = {
    "draft7": ("http://json-schema.org/draft-07/schema#", jsonschema.Draft7Validator),
    "draft2020-12": ("https://json-schema.org/draft/2020-12/schema", jsonschema.Draft202012Validator),
}
_TOKENIZER = compiler.byte_tokenizer()
_ENDING = frozenset(b'"}]')
_LIKELY = frozenset(b"0123456789,:{[")
_SPACE = frozenset(b" \n\t")


@dataclass(frozen=True)
class Case:
    """A schema of the suite with its instances."""

    name: str
    draft: str
    schema: Any
    instances: list[tuple[Any, bool]]
    """Values, and whether they are valid."""

    @property
    def text(self) -> str:
        """The schema as a user gives it."""
        return json.dumps(self.schema)

    @property
    def checks_content(self) -> bool:
        """Whether it is about `contentMediaType` and the like, which are notes for everyone but some validators."""
        return "/content" in self.name

    def validator(self) -> Validator:
        """Return a validator with exact numbers and all formats."""
        kind = _DRAFTS[self.draft][1]
        return kind(exact(self.text), format_checker=kind.FORMAT_CHECKER)


def suite() -> Iterator[Case]:
    """Yield all cases. A schema without `$schema` gets that of its draft."""
    for draft, (uri, _kind) in _DRAFTS.items():
        for case in json.loads((SUITE / f"{draft}.json").read_text("utf-8")):
            schema = case["schema"]
            if isinstance(schema, dict):
                schema = {"$schema": uri, **schema}
            name = f"{draft}/{case['file']}: {case['description']}"
            yield Case(name, draft, schema, [(value, valid) for value, valid in case["tests"]])


def exact(text: str) -> Any:
    """Return JSON with exact decimal numbers, but for those that no machine can calculate with."""

    def number(digits: str) -> Decimal | float:
        rough = float(digits)
        return Decimal(digits if rough else 0) if abs(rough) < 1e300 else rough

    return json.loads(text, parse_float=number)


def matcher(schema: str) -> LLMatcher:
    """Return a matcher of a schema, for answers in bytes. Raises SchemaRefused."""
    return compiler.matcher(_TOKENIZER, compiler.schema_grammar(rewritten(schema).schema))


def allows(made: LLMatcher, text: str) -> bool:
    """Return whether a whole text may be an answer."""
    made.reset()
    data = list(text.encode("utf-8", "surrogatepass"))
    return made.try_consume_tokens(data) == len(data) and made.is_accepting()


def drawn(made: LLMatcher, random: Random, longest: int = 400) -> str | None:
    """Return a random answer; None for one that did not end. Raises SchemaRefused for a dead end."""
    made.reset()
    answer = bytearray()
    for length in range(longest):
        mask = made.compute_bitmask()
        compiler.check_state(made)
        tokens = [token for token in range(compiler.END + 1) if mask[token >> 3] >> (token & 7) & 1]
        if compiler.END in tokens and (len(tokens) == 1 or length > 100 or random.random() < 0.25):
            return answer.decode()
        token = random.choices(tokens, [_weight(token, length) for token in tokens])[0]
        if token == compiler.END:
            return answer.decode()
        made.consume_token(token)
        answer.append(token)
    return None


def _weight(token: int, length: int) -> float:
    """Return how likely a byte is: answers should end, and hold more than white space."""
    if token in _ENDING:
        return 20 if length > 40 else 6
    return 3 if token in _LIKELY else 0.02 if token in _SPACE else 1


def problems(case: Case, answers: int, random: Random) -> tuple[int, list[str]]:
    """Return how many random answers to an accepted schema ended, and what is wrong with any of them.

    The suite's own instances are tried too: none that is invalid may be allowed, however it is written.
    """
    made, validator, found = matcher(case.text), case.validator(), list[str]()
    for value, valid in case.instances:
        for ascii_only in (True, False):
            text = json.dumps(value, separators=(",", ":"), ensure_ascii=ascii_only)
            if not valid and not case.checks_content and allows(made, text):
                found.append(f"allows {text}")
    ended = 0
    for _attempt in range(answers):
        answer = drawn(made, random)
        if answer is not None:
            ended += 1
            with localcontext(prec=1000):
                found += [f"{answer}: {error.message}" for error in validator.iter_errors(exact(answer))]
    return ended, found
