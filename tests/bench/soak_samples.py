"""What processes take over time: memory of their own, open files, sockets, threads and children, and whether it grows.

Linux only: memory is what `/proc` calls RssAnon, so that the pages of a model's file, which are the disk's cache, do
not count. Nothing here decides what a program does meanwhile.
"""

import os
import re
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import psutil

_WARM_UP = 0.2
"""The share of a process's time that is not judged: caches fill, libraries are loaded."""
_GROWTH = 0.05
"""The share of the memory after the warm-up that may be added by the end."""
_LEAST = 30
"""Samples below which nothing is judged."""
_THREADS = 3 + min(32, (os.cpu_count() or 1) + 4)
"""Up to here, more threads are no growth: the screen has three, and asyncio fills its pool over time."""
_SPAN_S = 600.0
"""Growth is given for ten minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What a process had at one moment, when it was idle."""

    at_s: float
    memory_mb: float
    files: int
    sockets: int
    threads: int
    children: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How one figure went: its medians after the warm-up and at the end, and its slope."""

    name: str
    first: float
    last: float
    slope: float
    """For ten minutes, by least squares."""
    is_flat: bool


def sample(process: psutil.Process) -> Sample:
    """Return what a process has now."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    anonymous = re.search(r"RssAnon:\s*(\d+) kB", status)
    assert anonymous
    return Sample(
        at_s=time.monotonic(),
        memory_mb=int(anonymous[1]) / 1000,
        files=process.num_fds(),
        sockets=len(process.net_connections("all")),
        threads=process.num_threads(),
        children=len(process.children(recursive=True)),
    )


def courses(samples: Sequence[Sample]) -> list[Course]:
    """Return how each figure went; nothing where there are too few samples to judge."""
    if len(samples) < _LEAST:
        return []
    began, ended = samples[0].at_s, samples[-1].at_s
    warm = [each for each in samples if each.at_s >= began + _WARM_UP * (ended - began)]
    quarter = max(2, len(warm) // 4)
    found = list[Course]()
    for name in (field.name for field in fields(Sample) if field.name != "at_s"):
        values = [float(getattr(each, name)) for each in warm]
        head, tail = values[:quarter], values[-quarter:]
        first, last = statistics.median(head), statistics.median(tail)
        slope = statistics.linear_regression([each.at_s for each in warm], values).slope * _SPAN_S
        most = max(*head, _THREADS) if name == "threads" else max(head)
        flat = last <= first * (1 + _GROWTH) if name == "memory_mb" else min(tail) <= most
        found.append(Course(name=name, first=first, last=last, slope=slope, is_flat=flat))
    return found


def children_of(pid: int) -> list[psutil.Process]:
    """Return all processes that a process started and that still run."""
    return psutil.Process(pid).children(recursive=True)


def command_of(process: psutil.Process) -> list[str]:
    """Return the command of a process; empty if it has ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def processes_with(home: str) -> list[str]:
    """Return the processes that run with this home folder."""
    found = list[str]()
    for process in psutil.process_iter():
        try:
            if process.environ().get("QWENCHAT_HOME") == home and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found
