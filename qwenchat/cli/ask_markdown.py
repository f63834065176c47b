"""Draws an answer on a terminal as Markdown while it streams, without flicker.

Complete blocks are printed once; only the last, open block is redrawn, at most twelve times a second. A block taller
than the screen shows only its end until it is complete. Raw HTML is shown as text, and links are not clickable.
"""

import time
from types import TracebackType

from markdown_it import MarkdownIt
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.markdown import Markdown
from rich.segment import Segment
from rich.text import Text

from qwenchat.chat.events import Finished, Loading, PartGrew, Prefilling, Trimmed, TurnEvent
from qwenchat.chat.message import Reasoning
from qwenchat.chat.message import Text as MessageText
from qwenchat.cli.ask_output import stats_words, trimmed_words
from qwenchat.cli.output import Output
from qwenchat.i18n import _
from qwenchat.text.safe import StreamCleaner, clean

REDRAW_S = 1 / 12
SHARE = 4
"""Drawing takes at most one part in this many of the time, so a long open block is redrawn less often."""


def parser() -> MarkdownIt:
    """Return the parser whose blocks are drawn."""
    return MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])


def rendered(text: str) -> Markdown:
    """Return clean Markdown text ready to be printed by rich."""
    markdown = Markdown("", hyperlinks=False)
    markdown.markup, markdown.parsed = text, parser().parse(text)
    for token in markdown.parsed:
        for part in token.children or ():
            part.content = clean(part.content)  # parsing turned entities such as `&#x202e;` into characters
    return markdown


def complete_length(text: str) -> int:
    """Return the length of all blocks but the last, which further text may still change."""
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
        """Print the complete blocks and redraw the open one, unless the last redraw was too recent."""
        if self._due():
            started = time.monotonic()
            self._print_complete()
            self._show(_Tail(self._open), started)

    def _draw(self, line: Text) -> None:
        if self._due():
            self._show(line, time.monotonic())

    def _due(self) -> bool:
        return time.monotonic() >= self._next_draw

    def _show(self, content: Text | _Tail, started: float) -> None:
        self._live.update(content, refresh=True)
        now = time.monotonic()
        self._next_draw = started + max(REDRAW_S, SHARE * (now - started))
