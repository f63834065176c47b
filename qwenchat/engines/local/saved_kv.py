"""Saved KV caches on disk, with which nothing that was prefilled once is prefilled again: chats, files, long prompts.

A file belongs to one cache key and is valid for one model file, set of adapters, rope scaling, KV type and llama.cpp
version; its name is a hash of the key and one of the rest. It serves any prompt that begins as its own did. A sidecar
stores its length and checksum, because llama.cpp would load a damaged file and answer nonsense. The folder is limited
in bytes: the least recently used files are deleted first. Nothing here makes a turn fail: a file that can't be read or
written is ignored.
"""

import os
import zlib
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import msgspec
from msgspec import Struct

from qwenchat.engines.local.protocol import LoadPlan
from qwenchat.errors import FileError
from qwenchat.files import write_atomically
from qwenchat.paths import private_folder

WORTH_SAVING = 256
"""Tokens; prefilling fewer takes less time than writing a file."""
WORTH_READING = 128
"""Tokens; prefilling fewer takes less time than reading a file."""


class ExactPrefix(msgspec.Struct, frozen=True):
    """What a repeatable answer may reuse of a saved KV cache."""

    tokens: int = 0
    """How many of its tokens, from the beginning, were decoded in exact steps."""
    computed_with: str = ""
    """What they were computed with; with anything else, their last bits would differ."""


class Sidecar(msgspec.Struct, frozen=True):
    """The length and checksum of a saved KV cache, and its exact prefix."""

    size: int
    crc32: int
    exact: ExactPrefix = ExactPrefix()


class SavedKV(Struct, frozen=True):
    """The folder of saved KV caches."""

    folder: Path
    limit: int
    """Bytes that all files may take; 0: save none."""
    exists: Callable[[str], bool] = lambda cache_key: True
    """Whether there still is a session with this cache key. Where any program has deleted it forever, nothing is saved
    for it any more, whatever a worker still has of it. It may block."""

    def path(self, cache_key: str, plan: LoadPlan, binding: str) -> Path:
        """Return the file for a cache key and a model loaded by this plan."""
        return self.folder / f"{_digest(cache_key)}-{_validity(plan, binding)}.kv"

    def complete(self, plan: LoadPlan, binding: str) -> dict[Path, int]:
        """Return the bytes of each file, of any cache key, for a model loaded by this plan; others are removed.

        What is in the files is not looked at; `check` does that.
        """
        found: dict[Path, int] = {}
        for file in self.folder.glob(f"*-{_validity(plan, binding)}.kv"):
            if sidecar := self._sidecar(file):
                found[file] = sidecar.size
        return found

    def forget_session(self, session: str) -> None:
        """Remove all files of a session that is deleted forever: they contain its text as tokens. Its id is the key."""
        for file in self.folder.glob(f"{_digest(session)}-*"):
            discard(file)

    def temporary(self, cache_key: str, path: Path) -> Path | None:
        """Return the temporary file to write before `persist`; None if nothing can be saved."""
        if not self.limit or not self.exists(cache_key):
            return None
        try:
            private_folder(self.folder)
        except FileError:
            return None
        self._sweep()
        return path.with_suffix(f".{os.getpid()}.part")

    def persist(self, cache_key: str, temporary: Path, path: Path, exact: ExactPrefix) -> None:
        """Rename a written temporary file to its final name, and make room for it."""
        try:
            temporary.chmod(0o600)
            sidecar = Sidecar(temporary.stat().st_size, _crc32(temporary), exact)
            write_atomically(path.with_suffix(".json"), msgspec.json.encode(sidecar))
            temporary.replace(path)
        except OSError:
            discard(temporary)
        if not self.exists(cache_key):  # it was deleted meanwhile
            self.remove(path)
        with suppress(OSError):  # another program may be deleting files, too
            self._evict()

    def check(self, path: Path) -> ExactPrefix | None:
        """Return the exact prefix of a file; None if there is no intact file. A damaged one is removed."""
        if (sidecar := self._sidecar(path)) is None:
            return None
        with suppress(OSError):
            if _crc32(path) == sidecar.crc32:
                os.utime(path)
                return sidecar.exact
        self.remove(path)
        return None

    def _sidecar(self, path: Path) -> Sidecar | None:
        """Return the sidecar of a file of the right length; None if there is no such file. Another one is removed."""
        try:
            sidecar = msgspec.json.decode(path.with_suffix(".json").read_bytes(), type=Sidecar)
            if path.stat().st_size == sidecar.size:
                return sidecar
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError):
            pass
        self.remove(path)
        return None

    def remove(self, path: Path) -> None:
        """Remove a file and its sidecar."""
        discard(path)
        discard(path.with_suffix(".json"))

    def _sweep(self) -> None:
        """Remove temporary files of programs that died while saving."""
        import psutil  # noqa: PLC0415 - only what saves needs it

        for unfinished in self.folder.glob("*.part"):
            pid = unfinished.suffixes[-2].lstrip(".") if len(unfinished.suffixes) > 1 else ""
            if not (pid.isdigit() and psutil.pid_exists(int(pid))):
                discard(unfinished)

    def _evict(self) -> None:
        newest_first = sorted(self.folder.glob("*.kv"), key=lambda file: file.stat().st_mtime, reverse=True)
        room = self.limit
        for file in newest_first:
            room -= file.stat().st_size
            if room < 0:
                self.remove(file)


def discard(file: Path) -> None:
    """Remove a file if possible."""
    with suppress(OSError):
        file.unlink(missing_ok=True)


def _digest(value: object) -> str:
    return blake2b(msgspec.json.encode(value), digest_size=16).hexdigest()


def _crc32(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            checksum = zlib.crc32(block, checksum)
    return checksum


def _validity(plan: LoadPlan, binding: str) -> str:
    """Return a hash of what a file is valid for, apart from its cache key."""
    loras = [(lora.path, _stamp(lora.path), lora.scale) for lora in plan.loras]
    cache = (plan.kv_type, plan.flash_attention)
    return _digest((plan.identity, loras, plan.yarn_factor, plan.native_ctx, cache, binding))


def _stamp(path: bytes) -> tuple[int, int]:
    try:
        status = Path(os.fsdecode(path)).stat()
    except OSError:
        return (0, 0)
    return status.st_size, status.st_mtime_ns
