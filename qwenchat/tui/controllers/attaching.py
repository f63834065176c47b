"""Attaching: files and folders become chips at once, their text follows, and the user decides how each is read.

A chip belongs to the chat in whose prompt it was made, also while another chat is open. Reading runs in tasks and in a
child process, so that nothing waits for it; taking the chip away ends it.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from qwenchat.errors import FileError
from qwenchat.i18n import _, enumerated, ngettext, sentences
from qwenchat.paths import expand_home
from qwenchat.text.safe import clean_line
from qwenchat.tui.attached import Attached
from qwenchat.tui.controllers.context import ChatContext
from qwenchat.tui.dialogs import open as dialogs
from qwenchat.tui.widgets.chips import Wish

_AT_ONCE = 2
"""Files that are read at the same time."""


class AttachController:
    """Carries out what the chips wish. `counted` is called when there is something new to count."""

    def __init__(self, context: ChatContext) -> None:
        self._context, self._prompt = context, context.prompt
        self._limit = asyncio.Semaphore(_AT_ONCE)

    def attach(self, paths: Sequence[Path]) -> None:
        """Show files and folders as chips, and read them."""
        attached = self._prompt.attached
        for given in paths:
            try:
                path = expand_home(given)
            except FileError as error:
                self._context.notify_error(error)
                continue
            if all(each.path != path for each in attached):
                name = clean_line(path.name or str(path)) or _("file")
                one = Attached(name=name, path=path, is_read=False)
                attached.append(one)
                self._context.run(self._read(one, path, attached), "attach")
        self._prompt.show_chips()

    def is_reading(self) -> str:
        """Return the name of a file that is still being read, empty for none."""
        return next((each.name for each in self._prompt.attached if not each.is_read), "")

    def act(self, one: Attached, wish: Wish) -> None:
        """Do what the user wants with what is attached."""
        match wish:
            case "open":
                self._show_text(one)
            case "switch":
                self._switch(one)
            case "remove":
                self._remove(one)

    async def _read(self, one: Attached, path: Path, attached: list[Attached]) -> None:
        """Read a file or folder into its chip; where that fails, the chip goes. Raises FileError."""
        one.task = asyncio.current_task()
        try:
            async with self._limit:
                await self._fill(one, path)
        except Exception:
            if one in attached:
                attached.remove(one)
            raise
        finally:
            one.task = None
            self._changed()
        if any(each.documents == one.documents for each in attached if each is not one):
            attached.remove(one)
            self._changed()

    async def _fill(self, one: Attached, path: Path) -> None:
        from qwenchat.documents.folder import read_folder  # noqa: PLC0415 - the screen is drawn without it
        from qwenchat.documents.reader import DocumentReader  # noqa: PLC0415 - likewise

        async with DocumentReader() as reader:
            if not await asyncio.to_thread(path.is_dir):
                document = await reader.read(path, one.name)
                one.documents, one.is_read = (document.attachment,), True
                return
            found = await read_folder(path, reader.read)
        one.documents = tuple(document.attachment for document in found.documents)
        one.skipped, one.left_out = found.skipped, found.left_out
        one.is_folder = one.is_read = True
        self._report(one)

    def _report(self, folder: Attached) -> None:
        """Say what of a folder was attached, and what was not."""
        skipped = len(folder.skipped)
        words = [
            _("Attached: {name}.").format(name=folder.title),
            ngettext("{count:,} file was skipped.", "{count:,} files were skipped.", skipped).format(count=skipped)
            if skipped
            else "",
            _("Left out: {what}.").format(what=enumerated(folder.left_out)) if folder.left_out else "",
        ]
        self._context.notify(sentences(*words))

    def _remove(self, one: Attached) -> None:
        """Take a chip away; what reads it ends."""
        if one in self._prompt.attached:
            self._prompt.attached.remove(one)
        if one.task:
            one.task.cancel()
        self._changed()

    def _switch(self, one: Attached) -> None:
        """Let the model read something whole, or in parts."""
        if not one.is_read:
            return
        forecast = one.forecast
        if one.in_parts and forecast and not forecast.fits:
            words = _("{name} can't be read whole: it takes {tokens:,} tokens, and there is room for {room:,}.")
            words = words.format(name=one.name, tokens=forecast.tokens, room=max(forecast.room, 0))
            self._context.notify(words, warning=True)
            return
        one.chosen = not one.in_parts
        self._changed()

    def _show_text(self, one: Attached) -> None:
        """Show what was read, so far as it is."""
        if one.is_read:
            self._context.ask(dialogs.attached(one))

    def _changed(self) -> None:
        self._prompt.show_chips()
        self._prompt.post_message(self._prompt.Edited())
