"""Headers of model files that were read before, so that a list of 200 models takes milliseconds."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import msgspec
from msgspec import Struct

from qwenchat.errors import QwenchatError
from qwenchat.models.gguf import Header, read_header
from qwenchat.models.remembered import remember

_AT_ONCE = 4
"""Headers that are read side by side."""


class _Cached(Struct, frozen=True):
    stamp: str
    header: Header


class HeaderCache:
    """Headers that were read before, in one file; without it, or when it is damaged, they are read again."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._used: dict[str, _Cached] = {}
        self._fresh: dict[str, _Cached] = {}

    def get(self, path: Path, stamp: str) -> Header:
        """Return a file's header. Raises what `read_header` does."""
        if not self._knows(path, stamp):
            self._fresh[str(path)] = _Cached(stamp, read_header(path))
        known = self._fresh.get(str(path)) or self._known[str(path)]
        self._used[str(path)] = known
        return known.header

    def _knows(self, path: Path, stamp: str) -> bool:
        known = self._fresh.get(str(path)) or self._known.get(str(path))
        return known is not None and known.stamp == stamp

    def read_ahead(self, files: Iterable[tuple[Path, str]]) -> None:
        """Read what is not known yet, several files at once: a disk has much to wait for. Failures are told later."""
        unknown = [(path, stamp) for path, stamp in files if not self._knows(path, stamp)]
        if len(unknown) < 2:
            return

        def read(file: tuple[Path, str]) -> None:
            with suppress(QwenchatError):
                self.get(*file)

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(read, unknown))

    def save(self) -> None:
        """Keep the headers that were asked for."""
        if self._used == self._known:
            return
        encodable = {path: known for path, known in self._used.items() if path.isprintable()}
        remember(self._file, msgspec.json.encode(encodable, enc_hook=str))

    @cached_property
    def _known(self) -> dict[str, _Cached]:
        try:
            content = self._file.read_bytes()
            return msgspec.json.decode(content, type=dict[str, _Cached], dec_hook=_path)
        except (OSError, ValueError):
            return {}


def _path(kind: type, value: str) -> Path:
    return Path(value)
