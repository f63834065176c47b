"""The base of the program: ends with an error where a bug ends it, and gives the terminal back in any case."""

import errno
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import Any, TextIO, TypeVar

from textual.app import App
from textual.driver import Driver
from textual.drivers._writer_thread import WriterThread
from textual.screen import Screen
from textual.worker import WorkerFailed

from qwenchat.tui.textual_private.terminal_input import ReadsAnything, driver_class

Result = TypeVar("Result")


class GuardedApp(App[None]):
    """The base of the program: any input is survived, and a bug ends the screen with `failure` set.

    Textual prints a traceback for a bug, and ends with exit code 0 where its thread for input fails.
    """

    def __init__(self, *, inline: bool = False, ansi_color: bool = False) -> None:
        """`inline` says how `run` will be called."""
        super().__init__(driver_class=driver_class(inline=inline), ansi_color=ansi_color)

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
        if isinstance(driver, ReadsAnything) and driver._file:
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


def buffered(stream: TextIO) -> TextIO:
    """Return a stream that writes everything to the same file.

    With PYTHONUNBUFFERED, Python writes once and forgets what a signal prevented from being written.
    """
    if not (isinstance(stream, TextIOWrapper) and isinstance(stream.buffer, FileIO)):
        return stream
    file = BufferedWriter(FileIO(stream.fileno(), "w", closefd=False))
    return TextIOWrapper(file, stream.encoding, stream.errors, newline="\n")


def open_over(app: App[Any], screen: Screen[Result], take: Callable[[Result | None], None]) -> None:
    """Put a screen on top at once, and pass its result on.

    The app calls `take`. Textual would let the widget call it whose message is being handled, which may be gone.
    """
    with app._context():
        _mounting = app.push_screen(screen, take)


async def until_screen_is_ready(app: App[Any]) -> None:
    """Wait until the screen on top is composed and has set its focus: a key that came sooner would be lost.

    Textual waits so, too, but for a screen that work has opened only behind the next key.
    """
    while app.screen_stack and not app.screen_stack[-1].is_mounted:
        await app.screen_stack[-1]._mounted_event.wait()


def write_window_title(app: App[None], title: str) -> None:
    """Name the terminal's window. `title` must be clean.

    Textual has no call for it; writing to `sys.stdout` would mix with the frames that the driver writes.
    """
    if app._driver and not app.is_headless:
        app._driver.write(f"\x1b]2;{title}\x07")
