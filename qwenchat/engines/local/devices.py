"""Finds the cores and the memory that this process may use, and the accelerators that llama.cpp sees, peers' too.

The parent never loads llama.cpp itself: it starts a short-lived worker and asks it for the accelerators, so that a
driver that crashes or hangs does so in the child. No model is loaded here.
"""

import importlib.util
import os
import platform
import subprocess
import sys
import threading
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import psutil
from msgspec import Struct, field

from qwenchat.children import child_environment
from qwenchat.engines.local import protocol
from qwenchat.engines.local.peers import faults
from qwenchat.engines.local.protocol import AddPeers, Device, Hello, PeersAdded, WorkerReply, WorkerRequest
from qwenchat.i18n import _


class Host(Struct, frozen=True):
    """The cores and the memory that this process may use."""

    cores: int
    """Physical cores within affinity and cgroup limits."""
    memory_total: int
    """Bytes, the limit of the cgroup or of a process if that is smaller."""
    memory_available: int
    """Bytes that can be allocated without swapping out other programs."""


def this_host() -> Host:
    """Return the cores and the memory that this process may use now."""
    memory = psutil.virtual_memory()
    total, available = memory.total, memory.available
    for limit, used in ControlGroups().memory():
        total, available = min(total, limit), min(available, max(0, limit - used))
    for limit, _command in process_limits():
        total, available = min(total, limit), min(available, limit)
    return Host(usable_cores(), total, available)


def process_limits() -> list[tuple[int, str]]:
    """Return the limits on the memory of each single process in bytes, with the command that sets them."""
    if sys.platform == "win32":
        return []
    import resource  # noqa: PLC0415 - not on Windows

    limits = (("ulimit -v", resource.RLIMIT_AS), ("ulimit -d", resource.RLIMIT_DATA))
    found = [(resource.getrlimit(kind)[0], command) for command, kind in limits]
    return [(size, command) for size, command in found if size != resource.RLIM_INFINITY]


def processor() -> str:
    """Return the processor's name as its maker writes it, or its architecture if the name is unknown."""
    if sys.platform == "darwin":
        asked = subprocess.run(
            ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
        )
        return asked.stdout.strip() or platform.machine()
    lines = (line.partition(":") for line in _read("/proc/cpuinfo").splitlines())
    return next((value.strip() for name, _colon, value in lines if name.strip() == "model name"), platform.machine())


def usable_cores() -> int:
    """Return the physical cores within the affinity mask and the cgroup's quota, at least 1."""
    logical = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    per_core = max(1, (psutil.cpu_count() or 1) // (psutil.cpu_count(logical=False) or psutil.cpu_count() or 1))
    cores = max(1, logical // per_core)
    quota = ControlGroups().cores()
    return max(1, min(cores, int(quota))) if quota else cores


_NO_LIMIT = 1 << 62
"""Bytes from which a cgroup v1 has no limit: its kernel then writes the largest number of whole pages."""


class ControlGroups(Struct, frozen=True):
    """The control groups of this process, v2 and v1. The limits of all of them and of their parents apply."""

    own: Path = Path("/proc/self/cgroup")
    mount: Path = Path("/sys/fs/cgroup")

    def cores(self) -> float | None:
        """Return the cores that v2 (`cpu.max`: quota and period in µs) or v1 grants; None without a limit."""
        found = []
        for folder in self._folders("cpu"):
            quota, _space, period = _read(folder / "cpu.max").partition(" ")
            found.append((quota, period))
            found.append((_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")))
        return min((int(quota) / int(period) for quota, period in found if _numbers(quota, period)), default=None)

    def memory(self) -> list[tuple[int, int]]:
        """Return (limit, memory in use without file cache) in bytes for each memory limit of this process."""
        found = []
        for folder in self._folders("memory"):
            for limit_file, used_file, cached in (
                ("memory.max", "memory.current", "inactive_file"),
                ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
            ):
                limit, used = _read(folder / limit_file), _read(folder / used_file)
                if _numbers(limit, used) and int(limit) < _NO_LIMIT:
                    stat = dict(line.partition(" ")[::2] for line in _read(folder / "memory.stat").splitlines())
                    found.append((int(limit), max(0, int(used) - int(stat.get(cached, 0)))))
        return found

    def _folders(self, controller: str) -> set[Path]:
        """Return the groups' folders up to the mount; a container may see nothing but the mount."""
        found = {self.mount, self.mount / controller}
        for line in _read(self.own).splitlines():
            controllers, _colon, path = line.partition(":")[2].partition(":")
            if controllers and controller not in controllers.split(","):
                continue
            root = self.mount / controller if controllers else self.mount
            parts = Path(path).parts[1:]
            if ".." not in parts:  # otherwise the group is outside this mount
                found.update(root.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1))
        return found


def _numbers(*words: str) -> bool:
    return all(word.isdecimal() and word.isascii() for word in words)


def _read(file: str | Path) -> str:
    try:
        return Path(file).read_text("utf-8", "surrogateescape").strip()
    except OSError:
        return ""


_ANSWER_LIMIT_S = 30.0
"""Time for a driver to start up; a worker that takes longer is treated as one without accelerators."""


def ask_worker() -> Hello | None:
    """Start a worker and return its Hello; None if it sends none, because the binding is broken or a driver hangs."""
    replies = _ask_worker()
    return replies[0] if replies and isinstance(replies[0], Hello) else None


class PeerSurvey(Struct, frozen=True):
    """What the peers of llama.cpp's RPC have."""

    devices: tuple[Device, ...] = ()
    faults: dict[str, str] = field(default_factory=dict)
    """Why peers can't be used, by host and port."""


def survey_peers(peers: Sequence[str]) -> PeerSurvey:
    """Ask peers (`host:port`) for their devices, by a worker that connects to those that are free."""
    found = faults(peers)
    free = tuple(peer for peer in peers if peer not in found)
    replies = _ask_worker(AddPeers(1, free)) if free else []
    hello, reply = replies[0] if replies else None, replies[-1] if replies else None
    if isinstance(reply, PeersAdded):
        return PeerSurvey(tuple(reply.devices), found)
    without_rpc = isinstance(hello, Hello) and not hello.rpc
    reason = _("llama.cpp was built without RPC on this computer") if without_rpc else _("llama.cpp can't use it")
    return PeerSurvey(faults={peer: found.get(peer, reason) for peer in peers})


def _ask_worker(*requests: WorkerRequest) -> list[WorkerReply]:
    """Start a worker, and return its Hello and the reply to each request, as far as they come within the time limit."""
    replies: list[WorkerReply] = []
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "qwenchat.engines.worker.main"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=child_environment(),
        process_group=0,  # Ctrl-C in a terminal is for the parent
    ) as child:
        limit = threading.Timer(_ANSWER_LIMIT_S, child.kill)
        limit.start()
        try:
            if child.stdin and child.stdout:
                child.stdin.write(b"".join(map(protocol.frame, requests)))
                child.stdin.flush()
                while len(replies) <= len(requests) and (reply := protocol.read_reply(child.stdout)):
                    replies.append(reply)
        except BrokenPipeError:
            pass
        finally:
            limit.cancel()
            child.kill()  # it has loaded no model and has nothing to save
    return replies


def llama_cpp_build() -> str:
    """Return a digest that identifies the installed build of llama.cpp; empty if none is installed."""
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        return ""
    digest = blake2b(digest_size=16)
    for library in sorted(Path(spec.origin).parent.glob("lib/*")):
        facts = library.stat()
        digest.update(f"{library.name} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()
