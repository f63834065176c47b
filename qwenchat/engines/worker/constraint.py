"""Keeps an answer within a JSON Schema, token by token, with llguidance.

llguidance needs the whole vocabulary, which takes a second to hand over; it is done once for a model, in a thread
beside the prefill, and so is compiling a schema. Nothing is sampled here.
"""

import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from qwenchat.engines.local.protocol import Calls
from qwenchat.engines.schema.compiler import check_state, constrained, matcher, schema_grammar
from qwenchat.engines.schema.document import rewritten
from qwenchat.engines.schema.refusal import Reason, SchemaRefused
from qwenchat.engines.worker.vocabulary import Vocabulary

_STACK = 16 << 20
"""Bytes of the stack on which a schema is compiled: twice what the child has that compiled the same one before."""


class Constraint:
    """What the rest of one answer must be, after the tokens that it took."""

    def __init__(self, made: LLMatcher) -> None:
        self._matcher = made

    @property
    def is_complete(self) -> bool:
        """Whether nothing can follow, so that the answer needs no token that ends it."""
        return self._matcher.is_stopped()

    def accept(self, token: int) -> bool:
        """Take the next token; return whether it is allowed, else nothing changes.

        Raises SchemaRefused where the schema turns out to be too complex.
        """
        taken = self._matcher.try_consume_tokens([token]) == 1
        check_state(self._matcher)
        return taken

    def forced(self) -> list[int]:
        """Return the tokens that must come next, as the model's own tokeniser cuts what there is no choice about."""
        return self._matcher.compute_ff_tokens()

    def follow(self, tokens: Sequence[int]) -> int:
        """Return how many of these tokens may come next, one after another; nothing is taken."""
        return self._matcher.validate_tokens(list(tokens))

    def allowed(self) -> bytes:
        """Return a byte for each token, 0 if it is not allowed next. Raises SchemaRefused as `accept` does."""
        mask = self._matcher.compute_logit_bias()
        check_state(self._matcher)
        return mask


def call_grammar(calls: Calls, marker: Callable[[str], str]) -> str:
    """Return the grammar of an answer whose text is free until a call begins, and which ends with its calls.

    `marker` returns a marker as a grammar has it. A lexeme that is lazy ends where it is complete; a
    greedy one, such as the text, would go on through it.
    """
    begin, end = marker(calls.begin), marker(calls.end) if calls.end else ""
    is_lazy = "[lazy]" if begin.startswith('"') else ""
    rules = ["%llguidance {}", r"TEXT: /(.|\n)*/", r"WHITE: /[ \n]*/", f"head{is_lazy}: TEXT {begin}"]
    tails = ["WHITE", *(f"WHITE {json.dumps(stop)}" for stop in calls.stops)]
    starts, tools = ["TEXT", f"head call (WHITE {begin} call)* tail"], list[str]()
    for place, tool in enumerate(calls.tools):
        after = tool.after.removesuffix(calls.end)
        rules += [
            f"arguments_{place}: %json {constrained(rewritten(tool.parameters).schema)}",
            f"tool_{place}: {json.dumps(tool.before)} arguments_{place} {json.dumps(after) if after else ''}",
        ]
        tools.append(f"tool_{place}")
        if tool.bare:
            rules.append(f"bare_{place}[lazy]: /{tool.bare}/")
            starts.append(f"bare_{place} WHITE arguments_{place} bare_end")
    if calls.is_required:
        starts = [f"{begin} call (WHITE {begin} call)* tail"]
    rules += [f"start: {' | '.join(starts)}", f"call: ({' | '.join(tools)}) {end}", f"tail: {' | '.join(tails)}"]
    return "\n".join((*rules, r"bare_end: /[ \n]*\}[ \n]*(```)?/"))


class Constraints:
    """Makes the constraints of one model's answers."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._tokenizer: LLTokenizer | None = None
        self._building = threading.Lock()

    def of_schema(self, schema: str, answered: str) -> "Future[Constraint]":
        """Make the constraint of an answer in a thread; `answered` is the text that the answer has already.

        The future raises SchemaRefused where the schema can't be enforced, or the text does not follow it.
        """

        def make() -> Constraint:
            document = rewritten(schema)
            tokenizer = self._ready_tokenizer()
            made = matcher(tokenizer, schema_grammar(document.schema))
            earlier = tokenizer.tokenize_str(answered)
            if made.try_consume_tokens(earlier) < len(earlier):
                raise SchemaRefused(Reason.IMPOSSIBLE, document.pointer)
            return Constraint(made)

        return _in_thread(make)

    def of_calls(self, calls: Calls) -> "Future[Constraint]":
        """Make the constraint of an answer in a thread: its text is free, and what begins as a call is one.

        The future raises SchemaRefused where the schema of a tool can't be enforced.
        """
        return _in_thread(lambda: Constraint(matcher(self._ready_tokenizer(), call_grammar(calls, self._marker))))

    def _marker(self, text: str) -> str:
        """Return a marker as a grammar has it: the number of its token, or its text."""
        token = self._vocabulary.single_token(text)
        return f"<[{token}]>" if token >= 0 else json.dumps(text)

    def _ready_tokenizer(self) -> LLTokenizer:
        with self._building:
            if self._tokenizer is None:
                tokens = _Tokens(self._vocabulary)
                self._tokenizer = LLTokenizer(TokenizerWrapper(tokens), eos_token=tokens.ends)
        return self._tokenizer


def _in_thread(make: Callable[[], Constraint]) -> "Future[Constraint]":
    """Return what `make` will have made, in a thread with a stack that is large enough."""
    future: Future[Constraint] = Future()

    def run() -> None:
        try:
            future.set_result(make())
        except Exception as error:
            future.set_exception(error)

    before = threading.stack_size(_STACK)
    threading.Thread(target=run, daemon=True).start()
    threading.stack_size(before)
    return future


class _Tokens:
    """A vocabulary as llguidance asks for it. What is no text begins with a byte that no text has."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        ids = range(vocabulary.size)
        self.tokens: Sequence[bytes] = [
            b"\xff" + str(token).encode() if vocabulary.is_special(token) else vocabulary.piece(token) for token in ids
        ]
        self.ends = [token for token in ids if vocabulary.is_end(token)]
        if not self.ends:  # llguidance wants one
            self.tokens, self.ends = [*self.tokens, b"\xff"], [vocabulary.size]
        self.eos_token_id = self.ends[0]
        self.bos_token_id = None
        self.special_token_ids: Sequence[int] = []

    def __call__(self, text: bytes) -> list[int]:
        return list(self._vocabulary.tokenise(text.decode("utf-8", "replace"), special=False))
