"""The theme in use, read again when its file changes, so that whoever writes a theme sees each change at once.

It looks at one file, and reads it only when it was left alone between two looks: editors write in steps.
"""

import time
from pathlib import Path

from textual.theme import Theme

from qwenchat.paths import packed_themes
from qwenchat.tui import themes

EVERY_S = 0.3
"""Between two looks; a change is shown after two of them at most."""
_Stamp = tuple[str, Path | None, int, int]


class LiveTheme:
    """Follows the file behind a theme's name: a person's own in the folder `own`, else the one that is packed."""

    def __init__(self, own: Path) -> None:
        self._folders = (own, packed_themes())
        self._since = time.time_ns()
        """When all themes were read."""
        self._shown: _Stamp | None = None
        self._seen: _Stamp | None = None

    def changed(self, name: str) -> Theme | None:
        """Return the theme if its file is another than at the look before. Raises WrongUse or FileError, once each."""
        before, self._seen = self._seen, self._look(name)
        if self._shown is None or self._shown[0] != name:
            current = self._seen[2] <= self._since
            self._shown = self._seen if current else (name, None, 0, 0)
        file = self._seen[1]
        if file is None or self._seen == self._shown or self._seen != before:
            return None
        self._shown = self._seen
        return themes.load(file)[1]

    def _look(self, name: str) -> _Stamp:
        for folder in self._folders:
            file = folder / f"{name}.toml"
            try:
                found = file.stat()
            except OSError:
                continue
            return name, file, found.st_mtime_ns, found.st_size
        return name, None, 0, 0
