"""Completes paths while they are typed; the right arrow takes what is suggested."""

import asyncio
from pathlib import Path

from textual.suggester import Suggester


class PathSuggester(Suggester):
    """Suggests folders, and files that end in `suffix`."""

    def __init__(self, suffix: str = "") -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._suffix = suffix

    async def get_suggestion(self, value: str) -> str | None:
        """Return the first name that `value` may become."""
        return await asyncio.to_thread(self._complete, value) if "/" in value or "\\" in value else None

    def _complete(self, value: str) -> str | None:
        try:
            folder = Path(value).expanduser()
            folder, begun = (folder, "") if value.endswith(("/", "\\")) else (folder.parent, folder.name)
            names = [path.name + "/" * path.is_dir() for path in sorted(folder.iterdir())]
        except (OSError, RuntimeError, ValueError):
            return None
        fitting = (name for name in names if name.startswith(begun) and (begun or not name.startswith(".")))
        name = next((name for name in fitting if name.endswith(("/", self._suffix)) and name.isprintable()), None)
        return value[: len(value) - len(begun)] + name if name else None
