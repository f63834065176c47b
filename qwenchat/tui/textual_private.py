"""Everything that qwenchat uses of Textual beyond its documented interface, each with the reason beside it.

No other module of the screen touches an underscore name of a Textual object or one of its internal messages; a test
holds this. When Textual's upper bound in `pyproject.toml` is raised, this file is what has to be read again.
"""

import codecs
import errno
import os
import re
import select
import sys
import threading
import time
from asyncio import Event, sleep
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from io import BufferedWriter, FileIO, TextIOWrapper
from math import ceil
from typing import Self, TextIO

from rich.console import RenderableType
from textual import events, on
from textual._compositor import ChopsUpdate, Compositor
from textual._text_area_theme import TextAreaTheme
from textual._xterm_parser import BRACKETED_PASTE_END, BRACKETED_PASTE_START, XTermParser
from textual.app import App
from textual.binding import BindingsMap
from textual.command import CommandList, CommandPalette
from textual.content import Content
from textual.dom import DOMNode
from textual.driver import Driver
from textual.drivers._writer_thread import WriterThread
from textual.geometry import Region, Size
from textual.message import Message
from textual.messages import Prune
from textual.screen import UPDATE_PERIOD, Screen
from textual.scroll_view import ScrollView
from textual.scrollbar import ScrollBar
from textual.strip import Strip
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import TextArea
from textual.widgets.option_list import Option
from textual.worker import WorkerFailed

from qwenchat.i18n import _

_READ_BYTES = 4096
_TICK_S = 0.1
"""Seconds after which an unfinished sequence, such as a single Esc, is taken for what it is."""
_TYPED_AT_ONCE = 40
"""Characters that keys may have sent between two reads; more come from a paste."""
_PASTE_GAP_S = 0.05
"""Seconds without input after which a paste without marks has ended."""
_LONG_PASTE, _LONG_PASTE_GAP_S = 1000, 0.25
"""A paste of so many characters has longer gaps where the machine or the line is slow; nobody types on so soon."""
_PLAIN = re.compile(r"[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]+")
_LINES = re.compile(r"[^\t\n\r][\t\n\r]+[^\t\n\r]")
_OLD_MOUSE_REPORT = re.compile(rb"\x1b\[M[\x20-\xff]{3}")
_UNFINISHED = re.compile(rb"\x1b\[(M[\x20-\xff]{0,2})?\Z")
_CONTROL_SEQUENCE = re.compile(r"(\x1b\[[\x30-\x3f]*[\x20-\x2f]*[\x40-\x7e])")
_NOT_DECODED = re.compile("[\udc80-\udcff]+")
_LATIN_1_LETTERS = range(0xA0, 0xFE)


def add_bindings(node: DOMNode, bindings: BindingsMap) -> None:
    """Bind more keys to one screen or widget.

    Textual reads the class variable `BINDINGS` once, at import; ours carry translated words and keys of the user's
    keymap, which are known only when the program runs.
    """
    node._bindings = BindingsMap.merge([node._bindings, bindings])


def own_action(node: DOMNode, key: str) -> str:
    """Return the action that a screen or widget itself binds to a key; empty for none."""
    bound = node._bindings.key_to_bindings.get(key)
    return bound[0].action if bound else ""


def write_window_title(app: App[None], title: str) -> None:
    """Name the terminal's window. `title` must be clean.

    Textual has no call for it; writing to `sys.stdout` would mix with the frames that the driver writes.
    """
    if app._driver and not app.is_headless:
        app._driver.write(f"\x1b]2;{title}\x07")


class QuickScreen(Screen[None]):
    """A screen that renders only the lines that have changed, and nothing that lies behind them; and as soon as it may.

    Textual's timer for frames counts its periods from its start, so that what changes after a frame waits for up to two
    of them, such as the echo of a key while an answer streams.
    """

    def __init__(self) -> None:
        super().__init__()
        self._compositor = _TightCompositor()
        self._frames: _FrameTimer | None = None

    @property
    def _update_timer(self) -> Timer:
        if self._frames is None:
            self._frames = _FrameTimer(self, UPDATE_PERIOD, callback=self._on_timer_update, pause=True)
            self._frames._start()
            self._timers.add(self._frames)
        return self._frames

    def _on_timer_update(self) -> None:
        """Draw a frame; while widgets are exchanged, later. Textual would drop it and wait for the next change."""
        if not self.app._batch_count:
            super()._on_timer_update()


class _FrameTimer(Timer):
    """Calls back as soon as it is resumed, but not within a period of the last call, until the callback pauses it."""

    async def _run(self) -> None:
        resumed: Event = self._active
        while await resumed.wait():
            await self._tick(next_timer=0.0, count=0)
            await sleep(self._interval)


def scroll_within(view: ScrollView, size: Size, top: int) -> None:
    """Set the size of what is scrolled in a view whose scrollbar is always shown, and the line at the view's top.

    Textual would lay out the whole screen for each new line, and nothing but the scrollbar changes, if anything.
    """
    if size != view.virtual_size:
        view.set_reactive(Widget.virtual_size, size)
        view.vertical_scrollbar.set_reactive(ScrollBar.position, top)  # with the size: between them, the bar moves
        view._scroll_update(size)
    view.scroll_target_y = view.scroll_y = top


class SteadyTextArea(TextArea):
    """A text area that looks its colours up when its styles have changed.

    Textual does so for each key and each blink of the caret, and it takes longer than drawing the line. So no rule for
    a part of it, such as the caret, may depend on a class or on the focus: Textual does not notify of those.
    """

    _coloured: TextAreaTheme | None = None
    """What has the colours of the styles as they are now."""

    def notify_style_update(self) -> None:
        """Look the colours up again."""
        self._coloured = None
        super().notify_style_update()

    def render_lines(self, crop: Region) -> list[Strip]:
        """Return the lines of a part of the view."""
        if self._coloured is self._theme:
            return super(TextArea, self).render_lines(crop)
        self._coloured = self._theme
        return super().render_lines(crop)


class SteadyScrollView(ScrollView):
    """A view whose scrollbar is drawn again only where that changes it: beside a long chat, a new line does not.

    Textual draws all of it whenever the view grows or scrolls. The view also learns of each new size: Textual does not
    report one where something else has scrolled before the layout.
    """

    def _size_updated(self, size: Size, virtual_size: Size, container_size: Size, layout: bool = True) -> bool:
        before = self._size
        changed = super()._size_updated(size, virtual_size, container_size, layout)
        if self._size != before:
            self.post_message(events.Resize(size, virtual_size, container_size))
        return changed

    @property
    def vertical_scrollbar(self) -> ScrollBar:
        """The scrollbar, made when it is first asked for."""
        if self._vertical_scrollbar is None:
            bar = _SteadyScrollBar(vertical=True, name="vertical", thickness=self.scrollbar_size_vertical)
            bar.display = False
            self._vertical_scrollbar = bar
            self.app._start_widget(self, bar)
        return self._vertical_scrollbar


class _SteadyScrollBar(ScrollBar):
    _drawn: tuple[object, ...] = ()
    """What was drawn last: its ends in eighths of a cell, and its look."""

    def refresh(self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False) -> Self:
        if layout or recompose or self._shown() != self._drawn:
            super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)
        return self

    def render(self) -> RenderableType:
        self._drawn = self._shown()
        return super().render()

    def _shown(self) -> tuple[object, ...]:
        """Return all that Textual draws the bar from, rounded in the same steps as there."""
        height, total = self.size.height, ceil(self.window_virtual_size)
        window = ceil(self.window_size) if self.window_size < self.window_virtual_size else 0
        start = end = 0
        if window and height and height != total:
            length = max(1, window / (total / height))
            start = int((height - length) * (self.position / (total - window)) * 8)
            end = start + ceil(length * 8)
        styles = self.parent.styles if isinstance(self.parent, Widget) else self.styles
        colours = (
            (styles.scrollbar_color_active, styles.scrollbar_background_active)
            if self.grabbed
            else (styles.scrollbar_color_hover, styles.scrollbar_background_hover)
            if self.mouse_over
            else (styles.scrollbar_color, styles.scrollbar_background)
        )
        return height, start, end, *colours


class _TightCompositor(Compositor):
    """Textual renders every line of every widget for each frame, and then drops what has not changed or is covered.

    It also divides what covers a widget at the widget's edges, and a wide character that an edge divides is lost.
    """

    @property
    def cuts(self) -> list[list[int]]:
        """Where each line is divided: at the edges of widgets, as far as nothing covers them."""
        if self._cuts is None:
            cuts = [{0, self.size.width} for _line in range(self.size.height)]
            covered: list[list[tuple[int, int]]] = [[] for _line in cuts]
            for region, clip in self.visible_widgets.values():
                x, y, width, height = region.intersection(clip)
                lines = range(y, min(y + height, len(cuts))) if width else ()
                for line in lines:
                    edges = (x, x + width)
                    cuts[line].update(
                        edge for edge in edges if not any(start < edge < end for start, end in covered[line])
                    )
                    covered[line].append(edges)
            self._cuts = [sorted(edges) for edges in cuts]
        return self._cuts

    def render_partial_update(self) -> ChopsUpdate | None:
        """Return what has changed; each piece of a line is drawn whole, so that no wide character in it is divided."""
        if update := super().render_partial_update():
            update.spans = [
                (y, start, next((cut for cut in self.cuts[y] if cut >= end), end)) for y, start, end in update.spans
            ]
        return update

    def _render_chops(self, crop: Region, is_rendered_line: Callable[[int], bool]) -> Sequence[Mapping[int, Strip]]:
        """Return the pieces of each line by the cut at which they begin, of the frontmost widget there."""
        chops = [dict.fromkeys(cuts[:-1], Strip([])) for cuts in self.cuts]
        for _region, part, strips in self._get_renders(crop):
            for y, strip in zip(part.line_range, strips, strict=False):
                cuts = [cut for cut in self.cuts[y] if part.x <= cut <= part.right] if is_rendered_line(y) else []
                pieces = strip.crop(cuts[0] - part.x).divide([cut - cuts[0] for cut in cuts[1:]]) if cuts else []
                for cut, piece in zip(cuts, pieces, strict=False):
                    if not chops[y][cut]:
                        chops[y][cut] = piece
        return chops

    def _get_renders(self, crop: Region | None = None) -> Iterable[tuple[Region, Region, list[Strip]]]:
        """Yield widgets, from front to back: region, the part of it to draw, and the lines of that part."""
        crop = crop or self.size.region
        for widget, (region, clip) in self.visible_widgets.items():
            shown = region.intersection(clip)
            part = shown.intersection(Region(shown.x, crop.y, shown.width, crop.height))
            if part and part.overlaps(crop):
                yield region, part, widget.render_lines(part.translate(-region.offset))
                if part.contains_region(crop):
                    return


class TranslatedPalette(CommandPalette):
    """A command palette that says in the user's language that nothing was found; Textual has a fixed English text."""

    def _start_no_matches_countdown(self, search_value: str) -> None:
        self._stop_no_matches_countdown()
        self._no_matches_timer = self.set_timer(self._NO_MATCHES_COUNTDOWN, partial(self._say_so, search_value))

    def _say_so(self, search_value: str) -> None:
        if search_value:
            nothing = Content.styled(_("Nothing found."), "$foreground-muted")
            self.query_one(CommandList).add_option(Option(nothing, disabled=True, id=self._NO_MATCHES))
        self._list_visible = bool(search_value)


class EndsItsWork(Widget):
    """A second base for a widget that runs workers: they end before the widget is taken apart.

    Textual cancels a widget's workers only once its children are gone; a worker that comes back in between looks for
    them in vain, which ends the program. The internal message `Prune` comes before that. Only coroutines end with
    their widget: what a thread does goes on to its end. (The first base is where Textual looks for styles.)
    """

    @on(Prune)
    def end_work(self) -> None:
        """Cancel this widget's workers."""
        self.workers.cancel_node(self)


class GuardedApp(App[None]):
    """The base of the program: any input is survived, and a bug ends the screen with `failure` set.

    Textual prints a traceback for a bug, and ends with exit code 0 where its thread for input fails.
    """

    def __init__(self, *, inline: bool = False, ansi_color: bool = False) -> None:
        """`inline` says how `run` will be called."""
        super().__init__(driver_class=_driver_class(inline=inline), ansi_color=ansi_color)

    @property
    def failure(self) -> Exception | None:
        """The bug that ended the screen."""
        error = self._exception
        return error.error if isinstance(error, WorkerFailed) and isinstance(error.error, Exception) else error

    @contextmanager
    def guarding_threads(self) -> Iterator[None]:
        """End the screen when any thread fails; afterwards threads fail as they did before."""
        before = threading.excepthook
        threading.excepthook = self._end_with_thread
        try:
            yield
        finally:
            threading.excepthook = before

    def _build_driver(self, headless: bool, inline: bool, mouse: bool, size: tuple[int, int] | None) -> Driver:
        """Build the driver of our own also for `inline`, for which Textual offers no choice."""
        driver = super()._build_driver(headless, False, mouse, size)
        if isinstance(driver, _ReadsAnything) and driver._file:
            driver._file = buffered(driver._file)
        return driver

    def _handle_exception(self, error: Exception) -> None:
        """Note the bug and end the screen; Textual would also print a traceback with all local variables."""
        self._return_code = 1
        if self._exception is None:
            self._exception = error
            self._exception_event.set()
        self._close_messages_no_wait()

    def _end_with_thread(self, failed: "threading.ExceptHookArgs") -> None:
        """End the screen from a thread that fails."""
        error = failed.exc_value
        is_gone = isinstance(error, OSError) and error.errno == errno.EIO
        if isinstance(error, Exception) and not is_gone:  # the end of the terminal is noticed elsewhere
            self.call_later(self._handle_exception, error)
        if isinstance(failed.thread, WriterThread):
            self._go_on_writing(failed.thread)

    def _go_on_writing(self, writer: WriterThread) -> None:
        """Do the work of the thread for output until the screen has ended, as far as the terminal takes it.

        Otherwise the screen would wait for ever for a place in the thread's queue, and the terminal would not be
        restored.
        """
        for text in iter(writer._queue.get, None):
            with suppress(OSError, ValueError):
                writer._file.write(text)
                writer._file.flush()


class UnreadableInput(Message):
    """The terminal sent bytes that are not text in its encoding."""

    def __init__(self, guess: str) -> None:
        super().__init__()
        self.guess = guess
        """The encoding that they seem to be in, empty where that is unknown."""


class TerminalDecoder:
    """Makes text of what a terminal sends; what is not text becomes U+FFFD.

    Mouse reports of old terminals, in which any byte may follow, are dropped as Textual would drop them: decoded, their
    bytes could take the next key with them.
    """

    def __init__(self, encoding: str) -> None:
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogateescape")
        self._held = b""

    def text(self, data: bytes) -> tuple[str, bytes]:
        """Return the text of the next bytes, and those bytes if some were not text, otherwise nothing.

        Half a character and half a mouse report wait for more bytes, and no longer when called without any.
        """
        waiting = self._decoder.getstate()[0]
        left = _OLD_MOUSE_REPORT.sub(b"", self._held + data)
        unfinished = _UNFINISHED.search(left) if data else None
        self._held = unfinished[0] if unfinished else b""
        left = left.removesuffix(self._held)
        text, wrong = _NOT_DECODED.subn("\N{REPLACEMENT CHARACTER}", self._decoder.decode(left, final=not data))
        return text, waiting + left if wrong else b""


def guess_encoding(data: bytes) -> str:
    """Return the name of the encoding that bytes seem to be in, which are not UTF-8; empty if it can't be guessed."""
    with suppress(UnicodeDecodeError):
        if not codecs.getincrementaldecoder("gb2312")().decode(data).isascii():
            return "GBK"
    return "Latin-1" if all(byte in _LATIN_1_LETTERS for byte in data if byte >= 0x80) else ""


class PasteFinder:
    """Puts the marks of a paste around text that came faster than anyone types, where the terminal sets none.

    Otherwise its line ends would be Enter, which sends, and its tabs would be Tab. `now` is a time in seconds.
    """

    def __init__(self) -> None:
        self._pasted = ""
        self._until = 0.0
        self._is_marked = False
        """Whether a paste that the terminal marks has begun and not ended."""
        self._tail = ""
        """The end of what was read last, in which a mark may begin."""

    @property
    def waits(self) -> bool:
        """Whether more of a paste may come."""
        return bool(self._pasted)

    def text(self, text: str, now: float) -> str:
        """Return what can be passed on of the text that was read at once; nothing is read where it is empty."""
        was_marked = self._is_marked
        seen = self._tail + text
        begins, ends = seen.rfind(BRACKETED_PASTE_START), seen.rfind(BRACKETED_PASTE_END)
        if begins != ends:
            self._is_marked = begins > ends
        self._tail = text[1 - len(BRACKETED_PASTE_START) :]
        is_plain = not (was_marked or self._is_marked) and _PLAIN.fullmatch(text)
        if is_plain and (self._pasted or len(text) > _TYPED_AT_ONCE or _LINES.search(text)):
            self._pasted += text
            self._until = now + (_PASTE_GAP_S if len(self._pasted) < _LONG_PASTE else _LONG_PASTE_GAP_S)
            return ""
        if self._pasted and (text or now >= self._until):
            text, self._pasted = BRACKETED_PASTE_START + self._pasted + BRACKETED_PASTE_END + text, ""
        return text


def buffered(stream: TextIO) -> TextIO:
    """Return a stream that writes everything to the same file.

    With PYTHONUNBUFFERED, Python writes once and forgets what a signal prevented from being written.
    """
    if not (isinstance(stream, TextIOWrapper) and isinstance(stream.buffer, FileIO)):
        return stream
    file = BufferedWriter(FileIO(stream.fileno(), "w", closefd=False))
    return TextIOWrapper(file, stream.encoding, stream.errors, newline="\n")


class _ReadsAnything(Driver):
    """Replaces the thread for input of a driver for POSIX terminals.

    Textual's own thread ends with a byte that is not UTF-8 and with a report that its parser can't take.
    """

    fileno: int
    exit_event: threading.Event
    _file: TextIO | None

    def _run_input_thread(self) -> None:
        """Read until the driver stops. An error goes on to `threading.excepthook`; Textual would print a traceback."""
        self.run_input_thread()

    def run_input_thread(self) -> None:
        """Pass on what the terminal sends until the driver stops or the terminal is gone."""
        decoder = TerminalDecoder(getattr(sys.__stderr__, "encoding", None) or "utf-8")  # as the driver writes
        self._parser, pastes = XTermParser(self._debug), PasteFinder()
        while not self.exit_event.is_set():
            data = b""
            wait = _PASTE_GAP_S if pastes.waits else _TICK_S
            if select.select([self.fileno], [], [], wait)[0] and not (data := _read(self.fileno)):
                return
            text, wrong = decoder.text(data)
            if wrong:
                self.send_message(UnreadableInput(guess_encoding(wrong)))
            for message in self._parsed(pastes.text(text, time.monotonic())):
                if self.is_inline and isinstance(message, events.CursorPosition):
                    self.cursor_origin = (message.x, message.y)
                else:
                    self.process_message(message)

    def _parsed(self, text: str) -> Iterator[Message]:
        for piece in filter(None, _CONTROL_SEQUENCE.split(text)):
            try:
                yield from self._parser.feed(piece)
            except (ValueError, ArithmeticError, LookupError):  # a report with numbers that no terminal should send
                self._parser = XTermParser(self._debug)
        yield from self._parser.tick()


def _read(terminal: int) -> bytes:
    """Return what a terminal sent, nothing where it is gone."""
    try:
        return os.read(terminal, _READ_BYTES)
    except OSError as error:
        if error.errno == errno.EIO:
            return b""
        raise


def _driver_class(*, inline: bool) -> type[Driver]:
    if sys.platform == "win32":
        from textual.drivers.windows_driver import WindowsDriver  # noqa: PLC0415 - for one platform

        return WindowsDriver
    from textual.drivers.linux_driver import LinuxDriver  # noqa: PLC0415 - not on Windows
    from textual.drivers.linux_inline_driver import LinuxInlineDriver  # noqa: PLC0415

    if inline:
        return type("InlineTerminal", (_ReadsAnything, LinuxInlineDriver), {})
    return type("WholeTerminal", (_ReadsAnything, LinuxDriver), {})
