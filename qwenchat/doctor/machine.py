"""Checks Python, and the cores, memory and disk space that this process may use, which a cgroup may limit."""

import os
import platform
import struct
from collections.abc import Iterator

import psutil

from qwenchat.doctor.finding import Finding, ok, warning
from qwenchat.engines.local.devices import ControlGroups, processor, this_host, usable_cores
from qwenchat.files import free_bytes
from qwenchat.i18n import _, clauses
from qwenchat.models.fit import DISK_RESERVE
from qwenchat.runtime.program import Program
from qwenchat.text.safe import human_size

_LITTLE_MEMORY = 1 << 30
"""Bytes; the smallest model of the catalogue barely fits into this."""


def python(_program: Program) -> Iterator[Finding]:
    """Check the Python version and the system."""
    bits = 8 * struct.calcsize("P")
    words = f"{platform.python_implementation()} {platform.python_version()}, {bits} bit, {platform.platform()}"
    if bits < 64:
        yield warning("python", "Python", words, _("Install a 64-bit Python: models larger than 2 GB need it."))
    else:
        yield ok("python", "Python", words)


def cores(program: Program) -> Iterator[Finding]:
    """Check how many cores this process may use, and what limits them."""
    usable, logical = usable_cores(), psutil.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else logical
    words = _("{cores} for computing; {logical} logical, {allowed} allowed by affinity; {name}").format(
        cores=usable, logical=logical, allowed=allowed, name=processor()
    )
    if quota := ControlGroups().cores():
        words = clauses(words, _("the cgroup allows {quota:.1f}").format(quota=quota))
    threads = program.settings.model.threads
    if threads > usable:
        slower = _("model.threads is {threads}, which is slower than {cores}")
        words = clauses(words, slower.format(threads=threads, cores=usable))
        yield warning("cores", _("cores"), words, 'qwenchat config set model.threads ""')
    else:
        yield ok("cores", _("cores"), words)


def memory(_program: Program) -> Iterator[Finding]:
    """Check the memory."""
    machine, installed = this_host(), psutil.virtual_memory().total
    words = _("{free} free of {total}").format(
        free=human_size(machine.memory_available), total=human_size(machine.memory_total)
    )
    if machine.memory_total < installed:
        words = clauses(
            words, _("the machine has {size}, but the cgroup allows less").format(size=human_size(installed))
        )
    if machine.memory_available < _LITTLE_MEMORY:
        yield warning("memory", _("memory"), words, _("Close other programs; `qwenchat models fit` shows what fits."))
    else:
        yield ok("memory", _("memory"), words)


def disk(program: Program) -> Iterator[Finding]:
    """Check the free space for sessions and for downloads."""
    folders = {
        program.paths.data: _("for sessions in {folder}"),
        program.model_folders.downloads: _("for models in {folder}"),
    }
    free = {folder: free_bytes(folder) for folder in folders}
    words = clauses(*(f"{human_size(free[folder])} {what.format(folder=folder)}" for folder, what in folders.items()))
    if min(free.values()) < DISK_RESERVE:
        yield warning("disk", _("disk"), words, "qwenchat models list")
    else:
        yield ok("disk", _("disk"), words)
