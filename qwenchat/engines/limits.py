"""Limits of a child process that works on a hostile chat template or schema, set by the child itself."""

import sys


def limit_this_process(*, memory: int, cpu_s: int) -> None:
    """Limit the address space, in bytes, and the computing time, and let a crash write no core file.

    A lower limit that is there already stays. Windows has no such limits.
    """
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 - not on Windows

    _soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    memory = memory if hard == resource.RLIM_INFINITY else min(memory, hard)
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
