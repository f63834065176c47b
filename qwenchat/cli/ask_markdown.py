"""Draws an answer on a terminal as Markdown while it streams, without flicker.

Complete blocks are printed once; only the last, open block is redrawn, at most twelve times a second. A block taller
than the screen shows only its end until it is complete. Lines of code are printed whole, so that they are copied whole.
Raw HTML is shown as text, and links are not clickable.
"""

import time
from collections.abc import Sequence
from functools import partial
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.style import Style

from qwenchat.chat.events import (
    Finished,
    Loading,
    PartGrew,
    Prefilling,
    Reading,
    Trimmed,
    TurnEnded,
    TurnEvent,
    WaitingToRetry,
)
from qwenchat.chat.message import Reasoning, Text, ToolCall
from qwenchat.cli.ask_documents import reading_words, sources_words
from qwenchat.cli.ask_output import stats_words, trimmed_words, waiting_words
from qwenchat.cli.drawing import Drawn, words
from qwenchat.cli.output import Output
from qwenchat.i18n import _
from qwenchat.markdown.document import MarkdownBlock, MarkdownDocument
from qwenchat.markdown.lines import BLANK, Line
from qwenchat.markdown.palette import Palette
from qwenchat.markdown.render import render_block

REDRAW_S = 1 / 12
SHARE = 4
"""Drawing takes at most one part in this many of the time, so a long open block is redrawn less often."""
_DIM = Style(dim=True)


class MarkdownReport:
    """Shows a turn on a terminal."""

    def __init__(self, output: Output, *, verbose: bool) -> None:
        self._output, self._verbose = output, verbose
        self._console = Console(file=output.out)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._palette = Palette.of_terminal()
        self._document = MarkdownDocument()
        self._unread = ""
        """Text that the document does not have yet."""
        self._printed = 0
        """Blocks that were printed."""
        self._next_draw = 0.0

    def __enter__(self) -> "MarkdownReport":
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.update(words())
        self._live.stop()
        self._print_all()

    def show(self, event: TurnEvent) -> None:
        match event:
            case PartGrew(fragment=Text(text=text)):
                self._unread += text
                self._draw_open()
            case PartGrew(offset=before, fragment=Reasoning(text=text)):
                self._draw(_("Reasoning: {count:,} characters").format(count=before + len(text)))
            case PartGrew(fragment=ToolCall()):
                self._leave_terminal()
            case Loading(fraction=fraction):
                self._draw(_("Loading the model: {percent:.0%}").format(percent=fraction))
            case WaitingToRetry():
                self._live.console.print(words((waiting_words(event), _DIM)))
            case Prefilling(done=done, total=total, seconds_left=left) if done < total:
                progress = _("Reading: {done:,} of {total:,} tokens, {seconds:.0f} s left")
                self._draw(progress.format(done=done, total=total, seconds=left))
            case Reading():
                self._draw(reading_words(event))
            case TurnEnded(answer=answer) if answer.citations and answer.text:
                self._live.update(words(), refresh=True)
                self._print_all()
                self._live.console.print(words(("\n" + sources_words(answer), _DIM)))
            case Trimmed():
                self._live.console.print(words((trimmed_words(event), _DIM)))
            case Finished() if self._verbose:
                self._live.update(words(), refresh=True)
                self._print_all()
                self._output.say(stats_words(event))

    def _leave_terminal(self) -> None:
        """Print what there is and draw nothing more, so that the user can be asked about a call."""
        self._live.update(words())
        self._live.stop()
        self._print_all()
        self._document, self._printed = MarkdownDocument(), 0

    def _read(self) -> None:
        self._document.append(self._unread)
        self._unread = ""

    def _print_complete(self) -> None:
        self._print(self._document.finished)

    def _print_all(self) -> None:
        self._read()
        self._print(self._document.blocks)

    def _print(self, blocks: Sequence[MarkdownBlock]) -> None:
        """Print those of the document's blocks that were not printed."""
        for block in blocks[self._printed :]:
            if self._printed:
                self._live.console.print()
            lines = Drawn(partial(render_block, block, palette=self._palette, whole_code=True))
            self._live.console.print(lines, crop=False)
            self._printed += 1

    def _draw_open(self) -> None:
        """Print the complete blocks and redraw the open ones, unless the last redraw was too recent."""
        if self._due():
            started = time.monotonic()
            self._read()
            self._print_complete()
            self._show(Drawn(self._open_lines), started)

    def _open_lines(self, width: int) -> Sequence[Line]:
        """Return the last lines of what is open, as many as the screen has room for."""
        lines = [BLANK] * bool(self._printed)
        for block in self._document.live:
            lines += render_block(block, width, self._palette)
        return lines[-max(1, self._console.height - 2) :]

    def _draw(self, line: str) -> None:
        if self._due():
            self._show(words((line, _DIM)), time.monotonic())

    def _due(self) -> bool:
        return time.monotonic() >= self._next_draw

    def _show(self, content: Drawn, started: float) -> None:
        self._live.start()  # again, after a call
        self._live.update(content, refresh=True)
        now = time.monotonic()
        self._next_draw = started + max(REDRAW_S, SHARE * (now - started))
