"""What all controllers of the chat screen share: the program, the chat service, the open session, widgets.

It also has the code that each of them would otherwise repeat: running work whose errors become notifications, opening
a dialog, notifying. It decides nothing about chats.
"""

import asyncio
import traceback
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from textual.screen import ModalScreen, Screen
from textual.timer import Timer
from textual.worker import WorkerError

from qwenchat.errors import QwenchatError
from qwenchat.i18n import _
from qwenchat.runtime.program import Program
from qwenchat.text.safe import clean_line
from qwenchat.tui.advice import advice
from qwenchat.tui.dialogs import open as dialogs
from qwenchat.tui.model_names import ModelNames
from qwenchat.tui.session_view import OpenSession
from qwenchat.tui.textual_private.app import open_over
from qwenchat.tui.transcript.transcript import Transcript
from qwenchat.tui.widgets.prompt import Prompt
from qwenchat.tui.widgets.sidebar import Sidebar

if TYPE_CHECKING:
    from qwenchat.runtime.chat_service import ChatService
    from qwenchat.runtime.downloads import BackgroundDownloads, Download
    from qwenchat.runtime.events import ChatEvent
    from qwenchat.runtime.model_manager import EngineFactory

Result = TypeVar("Result")


class ChatContext:
    """Made once, by the screen."""

    def __init__(
        self,
        screen: Screen[None],
        program: Program,
        *,
        transcript: Transcript,
        prompt: Prompt,
        sidebar: Sidebar,
        model: str,
        new_engine: "EngineFactory | None",
        on_event: "Callable[[ChatEvent], object]",
        on_download: "Callable[[Download], object]",
    ) -> None:
        self.program = program
        self.transcript, self.prompt, self.sidebar = transcript, prompt, sidebar
        self.open = OpenSession(lambda: self.chats.sessions, model)
        self._screen, self._new_engine = screen, new_engine
        self._on_event, self._on_download = on_event, on_download
        self.names = ModelNames(program.model_name, self.run, host_of=self._host_of)
        """Of models."""

    @cached_property
    def chats(self) -> "ChatService":
        """What answers questions; made when it is first used, which is after the first frame."""
        from qwenchat.runtime.chat_service import ChatService  # noqa: PLC0415 - the screen is drawn without it

        return ChatService(self.program, self._on_event, self._new_engine)

    @cached_property
    def downloads(self) -> "BackgroundDownloads":
        """What is being downloaded in the background; its threads report to the screen's loop."""
        from qwenchat.runtime.downloads import BackgroundDownloads  # noqa: PLC0415 - the screen is drawn without it

        downloads = BackgroundDownloads(self.program)
        downloads.listen(self._on_download)
        return downloads

    async def close(self) -> None:
        """Stop downloads and answers and end the engine."""
        if "downloads" in self.__dict__:
            self.downloads.close()
        await self.chats.close()

    def use_engines(self) -> None:
        """Ask servers as the settings are now, and show where words go now."""
        self.chats.model.load_again()
        self.names.report()

    def _host_of(self, reference: str) -> str:
        return self.program.remote_engines.host_of(reference)  # as the settings are now

    # Work

    def run(self, work: Coroutine[object, object, object], group: str = "work", *, exclusive: bool = False) -> None:
        """Begin work whose errors become notifications; `exclusive` work ends what its group did before."""
        guarded = self.guard(work)
        worker = self._screen.run_worker(guarded, group=group, exclusive=exclusive)
        for coroutine in (guarded, work):  # what Textual cancels before its first step is never awaited
            weakref.finalize(worker, coroutine.close)

    async def wait_for(self, group: str, seconds: float) -> None:
        """Wait until the work of a group has ended, no longer than so many seconds."""
        workers = [worker for worker in self._screen.workers if worker.group == group and not worker.is_finished]
        with suppress(TimeoutError, WorkerError):
            async with asyncio.timeout(seconds):
                for worker in workers:
                    await worker.wait()

    async def guard(self, work: Awaitable[object]) -> None:
        """Wait for work; an error becomes a notification, and so does a bug: the screen stays, with all words on it."""
        try:
            await work
        except QwenchatError as error:
            self.notify_error(error)
        except Exception as bug:
            self._notify_bug(bug)

    def after(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call a function once, later, and return the timer that can be stopped."""
        return self._screen.set_timer(seconds, callback)

    def models(self, current: str) -> ModalScreen[str | None]:
        """Return the dialog that chooses a model, at the one of a reference."""
        return dialogs.models(self.program, current, self.downloads, self.use_engines)

    def ask(self, dialog: ModalScreen[Result], take: Callable[[Result | None], object] | None = None) -> None:
        """Open a dialog and pass its result on; keys that come from now on are for the dialog."""

        def closed(result: Result | None) -> None:
            if take:
                take(result)

        open_over(self._screen.app, dialog, closed)

    async def result_of(self, dialog: ModalScreen[Result]) -> Result | None:
        """Open a dialog in work of `run` and return its result."""
        return await self._screen.app.push_screen_wait(dialog)

    # Notifications

    def notify(self, words: str, *, warning: bool = False) -> None:
        """Show words for a while."""
        words = clean_line(words, 500)
        self._screen.notify(words, severity="warning" if warning else "information", markup=False)

    def notify_error(self, error: QwenchatError) -> None:
        """Show what is wrong and what to do."""
        self._screen.notify(
            clean_line(advice(error), 500),
            title=clean_line(error.message, 500),
            severity="error",
            timeout=10,
            markup=False,
        )

    def _notify_bug(self, bug: Exception) -> None:
        *_callers, place = traceback.extract_tb(bug.__traceback__)
        words = _("Your text is still here. Please report this problem and where it happened: {place}.")
        self._screen.notify(
            clean_line(words.format(place=f"{Path(place.filename).name}:{place.lineno}"), 500),
            title=clean_line(_("This is a bug in qwenchat: {what}").format(what=repr(bug)), 500),
            severity="error",
            timeout=60,
            markup=False,
        )
