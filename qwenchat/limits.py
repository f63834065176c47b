"""Limits of a child process that works on something hostile, such as a template or a document, set by the child itself.

A limit holds for one job: a child that does several sets it again before each.
"""

import math
import sys
import time


def limit_this_process(*, memory: int, cpu_s: int) -> None:
    """Limit the address space, in bytes, and the computing time from now on; a crash writes no core file.

    A lower limit that is there already stays. Windows has no such limits.
    """
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 - not on Windows

    for kind, wanted in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, math.ceil(time.process_time()) + cpu_s)):
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
