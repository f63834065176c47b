"""KV caches on disk, so that a resumed session is answered without prefilling it again.

A file is valid for one cache key, model file, set of adapters, rope scaling, KV type and llama.cpp version: all of it
is in its name. A sidecar holds its length and checksum, because a damaged state would load and answer nonsense.
The folder is bounded in bytes; what was used longest ago goes first. Nothing here fails a turn: a file that can't be
read or written is as good as none.
"""

import os
import zlib
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import msgspec
import psutil

from qwenchat.engines.local.protocol import LoadPlan
from qwenchat.errors import FileError
from qwenchat.files import write_atomically
from qwenchat.paths import private_folder

WORTH_SAVING = 256
"""Tokens; prefilling fewer takes less time than writing a file."""


class Sidecar(msgspec.Struct, frozen=True):
    """What must be true of a state file."""

    size: int
    crc32: int
    tokens: int


@dataclass(frozen=True, slots=True)
class SavedKV:
    """The folder of states."""

    folder: Path
    limit: int
    """Bytes that all states may take; 0 saves none."""

    def path(self, cache_key: str, plan: LoadPlan, binding: str) -> Path:
        """Return where the state of a cache key lies for a model loaded by this plan."""
        loras = [(lora.path, _stamp(lora.path), lora.scale) for lora in plan.loras]
        valid_for = (plan.identity, loras, plan.yarn_factor, plan.native_ctx, plan.kv_type, binding)
        return self.folder / f"{_digest(cache_key)}-{_digest(valid_for)}.kv"

    def forget_session(self, session: str) -> None:
        """Remove all states of a session that is deleted forever: they hold its words as tokens. Its id is the key."""
        for file in self.folder.glob(f"{_digest(session)}-*"):
            discard(file)

    def temporary(self, path: Path) -> Path | None:
        """Return where a state may be written before `persist`, None where none can be saved."""
        if not self.limit:
            return None
        try:
            private_folder(self.folder)
        except FileError:
            return None
        self._sweep()
        return path.with_suffix(f".{os.getpid()}.part")

    def persist(self, temporary: Path, path: Path, tokens: int) -> None:
        """Give a written state its name and make room for it."""
        try:
            temporary.chmod(0o600)
            sidecar = Sidecar(temporary.stat().st_size, _crc32(temporary), tokens)
            write_atomically(path.with_suffix(".json"), msgspec.json.encode(sidecar))
            temporary.replace(path)
        except OSError:
            discard(temporary)
        with suppress(OSError):  # another program may be clearing up, too
            self._evict()

    def usable(self, path: Path) -> bool:
        """Say whether a state is whole; a damaged one is removed."""
        try:
            sidecar = msgspec.json.decode(path.with_suffix(".json").read_bytes(), type=Sidecar)
            whole = path.stat().st_size == sidecar.size and _crc32(path) == sidecar.crc32
            os.utime(path)
        except FileNotFoundError:
            return False
        except (OSError, msgspec.MsgspecError):
            whole = False
        if not whole:
            self.remove(path)
        return whole

    def remove(self, path: Path) -> None:
        """Remove a state."""
        discard(path)
        discard(path.with_suffix(".json"))

    def _sweep(self) -> None:
        """Remove what programs that died while they saved have left behind."""
        for unfinished in self.folder.glob("*.part"):
            pid = unfinished.suffixes[-2].lstrip(".") if len(unfinished.suffixes) > 1 else ""
            if not (pid.isdigit() and psutil.pid_exists(int(pid))):
                discard(unfinished)

    def _evict(self) -> None:
        states = sorted(self.folder.glob("*.kv"), key=lambda file: file.stat().st_mtime, reverse=True)
        room = self.limit
        for state in states:
            room -= state.stat().st_size
            if room < 0:
                self.remove(state)


def discard(file: Path) -> None:
    """Remove a file if that can be done."""
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


def _stamp(path: bytes) -> tuple[int, int]:
    try:
        status = Path(os.fsdecode(path)).stat()
    except OSError:
        return (0, 0)
    return status.st_size, status.st_mtime_ns
