"""What this machine can compute with: cores that we may use and memory that is free. No accelerator is touched here;
only the worker, which has llama.cpp, knows those.
"""

import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Machine:
    """Cores and memory as far as this process may use them."""

    cores: int
    """Physical cores within affinity and cgroup limits."""
    memory_total: int
    """Bytes, the cgroup's limit if that is smaller."""
    memory_available: int
    """Bytes that can be had without pushing other programs out."""


def this_machine() -> Machine:
    """Look at the machine now."""
    memory = psutil.virtual_memory()
    total, available = memory.total, memory.available
    for limit, used in _cgroup_memory():
        total, available = min(total, limit), min(available, max(0, limit - used))
    return Machine(usable_cores(), total, available)


def processor() -> str:
    """Return the processor's name as its maker writes it, else its kind."""
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
    quota = cgroup_cores()
    return max(1, min(cores, int(quota))) if quota else cores


def cgroup_cores() -> float | None:
    """Return the cores that cgroup v2 (`cpu.max`: quota and period in µs) or v1 grants, None without a limit."""
    words = _read("/sys/fs/cgroup/cpu.max").split()
    if len(words) == 2 and words[0].isdigit():
        return int(words[0]) / int(words[1])
    quota, period = _read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), _read("/sys/fs/cgroup/cpu/cpu.cfs_period_us")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _cgroup_memory() -> list[tuple[int, int]]:
    """Return (limit, used without file cache) in bytes for each memory limit that this process is under."""
    found = []
    for folder, limit_file, used_file in (
        ("/sys/fs/cgroup", "memory.max", "memory.current"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        limit, used = _read(f"{folder}/{limit_file}"), _read(f"{folder}/{used_file}")
        if limit.isdigit() and used.isdigit():
            cached = next(
                (int(line.split()[1]) for line in _read(f"{folder}/memory.stat").splitlines()
                 if line.startswith("inactive_file ")), 0
            )  # fmt: skip
            found.append((int(limit), max(0, int(used) - cached)))
    return found


def _read(file: str) -> str:
    try:
        return Path(file).read_text("ascii").strip()
    except OSError:
        return ""
