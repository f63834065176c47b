"""How `ask` reports a turn: as plain text in a pipe, as JSON for programs. `ask_markdown` is for terminals.

A report receives the turn's events as they happen. The answer goes to stdout and everything else to stderr. Nothing
here imports rich.
"""

from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol

import msgspec
from msgspec import structs

from qwenchat.chat.events import (
    Finished,
    Loading,
    PartGrew,
    Prefilling,
    Reading,
    Trimmed,
    TurnEnded,
    TurnEvent,
    TurnStarted,
    WaitingToRetry,
)
from qwenchat.chat.message import Citation, Message, Part, Reasoning, Text, ToolCall, ToolResult, Usage, guessed_words
from qwenchat.chat.ports import ModelInfo
from qwenchat.cli.ask_documents import citation_object, citations_json, sources_words
from qwenchat.cli.output import Output, ReaderGone
from qwenchat.i18n import _, ngettext, sentences
from qwenchat.models.reference import remote_in
from qwenchat.text.safe import StreamCleaner


class TurnReport(Protocol):
    """Shows one turn; a context manager that restores the terminal."""

    def __enter__(self) -> "TurnReport": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, event: TurnEvent) -> None:
        """Show the next event."""
        ...


class TextReport:
    """Writes the answer as plain text while it streams."""

    def __init__(self, output: Output, *, verbose: bool) -> None:
        self._output, self._verbose = output, verbose
        self._cleaner = StreamCleaner()
        self._open_line = False
        self._is_interrupted = False
        """Whether a tool was called since the last text."""

    def __enter__(self) -> "TextReport":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not ReaderGone:
            self._close_line()

    def show(self, event: TurnEvent) -> None:
        if isinstance(event, PartGrew) and isinstance(event.fragment, Text):
            text = self._cleaner.feed(event.fragment.text)
            if text:
                self._output.piece("\n" * self._is_interrupted + text)
                self._is_interrupted = False
                self._open_line = not text.endswith("\n")
        elif isinstance(event, PartGrew) and isinstance(event.fragment, ToolCall):
            self._is_interrupted = self._is_interrupted or self._open_line
            self._close_line()
        elif isinstance(event, Trimmed):
            self._output.say(trimmed_words(event))
        elif isinstance(event, WaitingToRetry):
            self._output.say(waiting_words(event))
        elif isinstance(event, Finished) and self._verbose:
            self._close_line()
            self._output.say(stats_words(event))
        elif isinstance(event, TurnEnded) and event.answer.citations and event.answer.text:
            self._close_line()
            self._output.data("\n" + sources_words(event.answer))

    def _close_line(self) -> None:
        if self._open_line:
            self._output.piece("\n")
            self._open_line = False


class JsonReport:
    """The contract of `--json` (one object at the end) and `--jsonl` (each event as well)."""

    def __init__(self, output: Output, model: Callable[[], ModelInfo | None], *, streams: bool) -> None:
        """`model` returns the model that answers, once it is loaded."""
        self._output, self._model, self._streams = output, model, streams
        self._trimmed: dict[str, dict[str, Any]] = {}
        self._said: set[type[Part]] = set()
        """The kinds of parts that have text already."""

    def __enter__(self) -> "JsonReport":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def show(self, event: TurnEvent) -> None:
        if isinstance(event, Trimmed):
            self._trimmed = {"trimmed": structs.asdict(event)}
        if isinstance(event, TurnEnded):
            if event.answer.finish_reason or event.answer.text:  # a dead engine gives no reason, but maybe some text
                done = {**answer_object(event.answer, self._model()), **self._trimmed}
                self._output.json({"event": "done", **done} if self._streams else done)
        elif self._streams and (
            line := self._part_object(event) if isinstance(event, PartGrew) else _event_object(event)
        ):
            self._output.json(line)

    def _part_object(self, event: PartGrew) -> dict[str, Any] | None:
        """Return what came; the pieces of all texts together are the text of the answer."""
        match event.fragment:
            case ToolCall() as call:
                return {"event": "tool_call", **_call_object(call)}
            case ToolResult() as result:
                return {"event": "tool_result", "id": result.call_id, "name": result.name, **_result_object(result)}
            case Citation() as citation:
                return {"event": "citation", **citation_object(citation)}
            case Text() | Reasoning() as fragment if fragment.text:
                is_next = not event.offset and type(fragment) in self._said
                self._said.add(type(fragment))
                kind = "delta" if isinstance(fragment, Text) else "reasoning"
                return {"event": kind, "text": "\n\n" * is_next + fragment.text}
        return None


def answer_object(answer: Message, model: ModelInfo | None = None) -> dict[str, Any]:
    """Return a finished answer in the format of `--json`; the finish reason is null where the engine failed."""
    reasoning = {"reasoning": answer.reasoning} if answer.reasoning else {}
    calls = {"tool_calls": made} if (made := calls_json(answer)) else {}
    cited = {"citations": citations_json(answer)} if answer.citations else {}
    where: dict[str, Any] = {"engine": remote.engine} if (remote := remote_in(answer.model)) else {}
    where |= {"host": answer.host} if answer.host else {}
    where |= {"attached": True} if model and model.is_shared else {}
    window = {"context": {"window": model.n_ctx, "yarn_factor": round(model.yarn_factor, 4)}} if model else {}
    return {
        "session": answer.session,
        "message": answer.id,
        "model": answer.model,
        **where,
        "text": answer.text,
        **reasoning,
        **calls,
        **cited,
        "finish_reason": answer.finish_reason,
        **window,
        "usage": _usage(answer.usage) if answer.usage else None,
        "timings": {name: round(value, 4) for name, value in structs.asdict(answer.timings).items()}
        if answer.timings
        else None,
    }


def calls_json(answer: Message) -> list[dict[str, Any]]:
    """Return the calls of an answer with their results; the fields of a missing result are null."""
    results = {part.call_id: part for part in answer.parts if isinstance(part, ToolResult)}
    return [
        _call_object(part) | _result_object(results.get(part.id)) for part in answer.parts if isinstance(part, ToolCall)
    ]


def _call_object(call: ToolCall) -> dict[str, Any]:
    """Return a call; its arguments are an object, or the model's text where that is not valid."""
    try:
        arguments: Any = msgspec.json.decode(call.arguments or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        arguments = call.arguments
    return {"id": call.id, "name": call.name, "arguments": arguments}


def _result_object(result: ToolResult | None) -> dict[str, Any]:
    if result is None:
        return {"result": None, "is_error": None, "took_ms": None}
    return {"result": result.text, "is_error": result.is_error, "took_ms": result.took_ms}


_EVENT_NAMES = {WaitingToRetry: "waiting", Reading: "reading", Prefilling: "prefill", Trimmed: "trimmed"}


def _event_object(event: TurnEvent) -> dict[str, Any] | None:
    match event:
        case TurnStarted(question=question, answer=answer):
            return {"event": "saved", "session": answer.session, "question": question.id, "message": answer.id}
        case Loading(fraction=fraction):
            return {"event": "loading", "fraction": round(fraction, 3)}
        case WaitingToRetry() | Reading() | Prefilling() | Trimmed():
            return {"event": _EVENT_NAMES[type(event)], **structs.asdict(event)}
    return None


def trimmed_words(event: Trimmed) -> str:
    """Return a sentence saying that the model no longer sees the oldest messages."""
    return ngettext(
        "The oldest message ({tokens:,} tokens) no longer fits the context window and is left out.",
        "The oldest {count} messages ({tokens:,} tokens) no longer fit the context window and are left out.",
        event.messages,
    ).format(count=event.messages, tokens=event.tokens)


def waiting_words(event: WaitingToRetry) -> str:
    """Return a sentence saying why a server is asked again, and when."""
    when = (
        _("Attempt {attempt} of {attempts} follows in {seconds:.0f} s.")
        if event.attempts
        else _("The next attempt follows in {seconds:.0f} s.")
    )
    return sentences(
        event.reason, when.format(attempt=event.attempt, attempts=event.attempts, seconds=max(1.0, event.wait_s))
    )


def stats_words(event: Finished) -> str:
    """Return a line with an answer's token counts and timings."""
    usage, timings = event.usage, event.timings
    words = _(
        "{completion} tokens at {speed:.1f} tokens/s; first token after {first:.2f} s; "
        "prompt {prompt} tokens, {cached} of them cached"
    ).format(
        completion=usage.completion_tokens,
        speed=timings.decode_tps,
        first=timings.ttft_s,
        prompt=usage.prompt_tokens,
        cached=usage.cached_tokens,
    )
    if not usage.accepted_tokens:
        return words
    return f"{words}; {guessed_words(usage)}"


def _usage(usage: Usage) -> dict[str, int | str]:
    """Return token counts as JSON has them: those of guesses only where there were any."""
    of_guesses = ("drafted_tokens", "accepted_tokens", "drafted_by")
    return {name: value for name, value in structs.asdict(usage).items() if value or name not in of_guesses}
