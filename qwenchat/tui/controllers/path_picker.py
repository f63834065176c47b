"""The `@` picker: what is typed behind an `@` finds files and folders, which the prompt offers to attach.

The folder is read in a thread when the first letter of a path is typed, and again for the next `@`; the list is
refreshed while that goes on.
"""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from qwenchat.i18n import _
from qwenchat.text.safe import clean_line
from qwenchat.tui.completions import Completion
from qwenchat.tui.controllers.context import ChatContext
from qwenchat.tui.widgets.prompt import BegunPath

if TYPE_CHECKING:
    from qwenchat.tui.path_search import FoundPath, PathSearch

_MOST = 50
"""Paths that are offered."""
_REFRESH_S = 0.15
_LONGEST = 60
"""Characters of a name, and of its folder."""


class PathPicker:
    """Fills the list above the prompt while a path is typed."""

    def __init__(self, context: ChatContext) -> None:
        self._context, self._prompt = context, context.prompt
        self._search: PathSearch | None = None
        self._row = self._column = -1
        """Where the `@` is that the search was begun for."""

    def suggest(self) -> bool:
        """Offer paths for what is typed; return False where no path is typed."""
        begun = self._prompt.begun_path
        if not begun:
            self.close()
            return False
        self._context.run(self._offer(begun), "suggestions", exclusive=True)
        return True

    def close(self) -> None:
        """End the reading of a folder, for which the end of the program would wait."""
        if self._search:
            self._search.stop()
            self._search = None

    async def _offer(self, begun: BegunPath) -> None:
        from qwenchat.tui.path_search import PathSearch, search_for  # noqa: PLC0415 - the screen is drawn without it

        folder, typed, words = await asyncio.to_thread(search_for, begun.typed, Path.cwd())
        search = self._search
        if not search or (search.folder, search.typed) != (folder, typed) or (self._row, self._column) != begun.start:
            self.close()
            search = self._search = PathSearch(folder, typed)
            self._row, self._column = begun.start
            self._context.run(asyncio.to_thread(search.read), "paths")
        while True:
            is_final = search.is_complete
            found = await asyncio.to_thread(search.best, words, _MOST)
            if self._prompt.suggestions.walked and self._prompt.area.is_suggesting:
                return  # the user is choosing
            offered = [_completion(each, is_offer=not begun.typed) for each in found]
            nothing = _("No file below {folder} fits.") if is_final else _("Looking in {folder} …")
            shown = nothing.format(folder=clean_line(str(folder), _LONGEST))
            self._prompt.suggest_paths(begun, offered, shown, is_final=is_final)
            if is_final:
                return
            await asyncio.sleep(_REFRESH_S)


def _completion(found: "FoundPath", *, is_offer: bool) -> Completion:
    label = clean_line(found.name, _LONGEST) + "/" * found.is_folder
    folder = clean_line(found.folder[-_LONGEST:], _LONGEST)
    return Completion("", label, folder, is_offer=is_offer, path=found.path)
