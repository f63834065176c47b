"""How `ask` shows a turn: Markdown on a terminal, plain text in a pipe, JSON for programs.

Each report takes the turn's events as they come. The answer goes to stdout and all else to stderr.

An answer on a terminal: Markdown, drawn as it streams, without flicker.

Blocks that are complete are printed for good; only the last, open one is redrawn, at most twelve times a second, and
of a block taller than the screen only the end is shown until it is complete. Raw HTML is shown as the text it is,
and no link is made that a terminal could open.
"""

import time
from dataclasses import asdict
from types import TracebackType
from typing import Any, Protocol

from markdown_it import MarkdownIt
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.markdown import Markdown
from rich.segment import Segment
from rich.text import Text

from qwenchat.chat.events import Finished, Loading, PartGrew, Prefilling, Trimmed, TurnEnded, TurnEvent, TurnStarted
from qwenchat.chat.message import Message, Reasoning
from qwenchat.chat.message import Text as MessageText
from qwenchat.cli.output import Output, ReaderGone
from qwenchat.i18n import _, ngettext
from qwenchat.text.safe import StreamCleaner, clean

REDRAW_S = 1 / 12
SHARE = 4
"""Drawing may take one part in this many of the time: a long open block is redrawn more seldom."""


def parser() -> MarkdownIt:
    """Return the parser whose blocks are drawn."""
    return MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])


def rendered(text: str) -> Markdown:
    """Return clean Markdown text ready to be printed by rich."""
    markdown = Markdown("", hyperlinks=False)
    markdown.markup, markdown.parsed = text, parser().parse(text)
    for token in markdown.parsed:
        for part in token.children or ():
            part.content = clean(part.content)  # `&#x202e;` was clean until it was parsed
    return markdown


def complete_length(text: str) -> int:
    """Return how much of a text is blocks that nothing to come can change: all but its last block."""
    starts = [token.map[0] for token in parser().parse(text) if token.level == 0 and token.map and token.nesting >= 0]
    lines = text.splitlines(keepends=True)
    return sum(map(len, lines[: starts[-1]])) if starts else 0


class _Tail:
    """The last lines of something too tall for the screen."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(rendered(self._text), options, pad=False)
        for line in lines[-max(1, console.height - 2) :]:
            yield from line
            yield Segment.line()


class MarkdownReport:
    """Shows a turn on a terminal."""

    def __init__(self, output: Output, *, verbose: bool) -> None:
        self._output, self._verbose = output, verbose
        self._console = Console(file=output.out)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._cleaner = StreamCleaner()
        self._open = ""
        self._printed_any = False
        self._next_draw = 0.0

    def __enter__(self) -> "MarkdownReport":
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.update(Text(""))
        self._live.stop()
        self._print(self._open)
        self._open = ""

    def show(self, event: TurnEvent) -> None:
        match event:
            case PartGrew(fragment=MessageText(text=text)):
                self._open += self._cleaner.feed(text)
                self._draw_open()
            case PartGrew(offset=before, fragment=Reasoning(text=text)):
                self._draw(Text(_("Reasoning: {count:,} characters").format(count=before + len(text)), style="dim"))
            case Loading(fraction=fraction):
                self._draw(Text(_("Loading the model: {percent:.0%}").format(percent=fraction), style="dim"))
            case Prefilling(done=done, total=total, seconds_left=left) if done < total:
                words = _("Reading: {done:,} of {total:,} tokens, {seconds:.0f} s left")
                self._draw(Text(words.format(done=done, total=total, seconds=left), style="dim"))
            case Trimmed():
                self._live.console.print(Text(trimmed_words(event), style="dim"))
            case Finished() if self._verbose:
                self._print(self._open)
                self._open = ""
                self._live.update(Text(""), refresh=True)
                self._output.say(stats_words(event))

    def _print_complete(self) -> None:
        if "\n" in self._open and (length := complete_length(self._open)):
            self._print(self._open[:length])
            self._open = self._open[length:]

    def _print(self, text: str) -> None:
        if not text.strip():
            return
        if self._printed_any:
            self._live.console.print()
        self._live.console.print(rendered(text.strip("\n")))
        self._printed_any = True

    def _draw_open(self) -> None:
        """Print the blocks that are complete and redraw the open one, if it is time."""
        if self._due():
            started = time.monotonic()
            self._print_complete()
            self._show(_Tail(self._open), started)

    def _draw(self, what: Text) -> None:
        if self._due():
            self._show(what, time.monotonic())

    def _due(self) -> bool:
        return time.monotonic() >= self._next_draw

    def _show(self, what: Text | _Tail, started: float) -> None:
        self._live.update(what, refresh=True)
        now = time.monotonic()
        self._next_draw = started + max(REDRAW_S, SHARE * (now - started))


class Report(Protocol):
    """Shows one turn; a context manager that leaves the terminal as it was."""

    def __enter__(self) -> "Report": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, event: TurnEvent) -> None:
        """Take the next event."""
        ...


def report_for(output: Output, style: str | None, *, verbose: bool) -> Report:
    """Return the report that the options and the terminal ask for."""
    if style in ("json", "jsonl"):
        return JsonReport(output, as_it_comes=style == "jsonl")
    if style is None and output.on_terminal:
        return MarkdownReport(output, verbose=verbose)
    return TextReport(output, verbose=verbose)


class TextReport:
    """The answer as plain text, as it comes."""

    def __init__(self, output: Output, *, verbose: bool) -> None:
        self._output, self._verbose = output, verbose
        self._cleaner = StreamCleaner()
        self._open_line = False

    def __enter__(self) -> "TextReport":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open_line and kind is not ReaderGone:
            self._output.piece("\n")

    def show(self, event: TurnEvent) -> None:
        if isinstance(event, PartGrew) and isinstance(event.fragment, MessageText):
            text = self._cleaner.feed(event.fragment.text)
            if text:
                self._output.piece(text)
                self._open_line = not text.endswith("\n")
        elif isinstance(event, Trimmed):
            self._output.say(trimmed_words(event))
        elif isinstance(event, Finished) and self._verbose:
            if self._open_line:
                self._output.piece("\n")
                self._open_line = False
            self._output.say(stats_words(event))


class JsonReport:
    """The contract of `--json` (one object at the end) and `--jsonl` (each event as well)."""

    def __init__(self, output: Output, *, as_it_comes: bool) -> None:
        self._output, self._as_it_comes = output, as_it_comes

    def __enter__(self) -> "JsonReport":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def show(self, event: TurnEvent) -> None:
        if isinstance(event, TurnEnded):
            if event.answer.finish_reason or event.answer.text:  # a dead engine gave no reason, and what came is kept
                done = answer_object(event.answer)
                self._output.json({"event": "done", **done} if self._as_it_comes else done)
        elif self._as_it_comes and (line := _event_object(event)):
            self._output.json(line)


def answer_object(answer: Message) -> dict[str, Any]:
    """Return an ended answer as the `--json` contract has it; without a finish reason where the engine failed."""
    reasoning = {"reasoning": answer.reasoning} if answer.reasoning else {}
    return {
        "session": answer.session,
        "message": answer.id,
        "model": answer.model,
        "text": answer.text,
        **reasoning,
        "finish_reason": answer.finish_reason,
        "usage": asdict(answer.usage) if answer.usage else None,
        "timings": {name: round(value, 4) for name, value in asdict(answer.timings).items()}
        if answer.timings
        else None,
    }


def _event_object(event: TurnEvent) -> dict[str, Any] | None:
    match event:
        case TurnStarted(question=question, answer=answer):
            return {"event": "saved", "session": answer.session, "question": question.id, "message": answer.id}
        case Loading(fraction=fraction):
            return {"event": "loading", "fraction": round(fraction, 3)}
        case Prefilling():
            return {"event": "prefill", **asdict(event)}
        case Trimmed():
            numbers = {"messages": event.messages, "tokens": event.tokens, "first_kept": event.first_seen}
            return {"event": "left_out", **numbers}
        case PartGrew(fragment=MessageText() | Reasoning() as fragment) if fragment.text:
            return {"event": "delta" if isinstance(fragment, MessageText) else "reasoning", "text": fragment.text}
    return None


def trimmed_words(event: Trimmed) -> str:
    """Say that the model no longer sees the beginning."""
    return ngettext(
        "The oldest message ({tokens:,} tokens) no longer fits the context window and is left out.",
        "The oldest {count} messages ({tokens:,} tokens) no longer fit the context window and are left out.",
        event.messages,
    ).format(count=event.messages, tokens=event.tokens)


def stats_words(event: Finished) -> str:
    """Say what an answer took."""
    usage, timings = event.usage, event.timings
    return _(
        "{completion} tokens at {speed:.1f} tokens/s; first token after {first:.2f} s; "
        "prompt {prompt} tokens, {cached} of them already read"
    ).format(
        completion=usage.completion_tokens,
        speed=timings.decode_tps,
        first=timings.ttft_s,
        prompt=usage.prompt_tokens,
        cached=usage.cached_tokens,
    )
