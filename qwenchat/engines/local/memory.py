"""Recognises that memory could not be had, and says so with the numbers: needed, free, and the limit that applies.

llama.cpp, Python, the dynamic linker and the thread library each have their own words for it, or only crash. It frees
nothing and plans nothing; what will not fit is refused before, by the planner.
"""

import errno
import re
from collections.abc import Sequence

from qwenchat.engines.local.devices import ControlGroups, process_limits, this_host
from qwenchat.errors import BindingMissing, CannotLoad, EngineDied, Recovery
from qwenchat.i18n import _
from qwenchat.text.safe import human_size

_SIGNS = re.compile(
    r"bad_alloc|cannot allocate memory|(failed|unable) to allocate|MemoryError|out of memory|not enough (memory|space)"
    r"|thread creation failed|can.t start new thread|failed to map segment|resource temporarily unavailable",
    re.IGNORECASE,
)
_WORKER = 1 << 30
"""Bytes of addresses that a worker takes beside the model: Python, the libraries, the stacks of its threads."""


def lacks_memory(error: BaseException, log: Sequence[str] = (), needed: int = 0) -> bool:
    """Return whether an error, or a worker with this log that died of it, means that memory could not be had.

    A process whose address space is limited may die without a word, or fail to start in any words, such as those of a
    package that is not installed.
    """
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in (errno.ENOMEM, errno.EAGAIN)):
        return True
    limits = [size for size, _command in process_limits()]
    if any(_SIGNS.search(line) for line in (*log, *([str(error)] if limits else []))):
        return True
    return isinstance(error, EngineDied | BindingMissing) and bool(limits) and min(limits) < needed + _WORKER


def memory_error(name: str = "", *, needed: int = 0, recoveries: tuple[Recovery, ...] = ()) -> CannotLoad:
    """Return the error that says how much memory is needed, how much is free, and which limit applies.

    `needed` is the prediction in bytes, 0 if it is unknown.
    """
    words = [
        _("There is not enough memory for {name}.").format(name=name) if name else _("There is not enough memory.")
    ]
    if needed:
        words.append(_("It needs about {needed}.").format(needed=human_size(needed)))
    words.append(_("{free} is free.").format(free=human_size(this_host().memory_available)))
    limits = process_limits() + [(size, "cgroup") for size, _used in ControlGroups().memory()]
    if limits:
        size, who = min(limits)
        words.append(_("{who} limits it to {size}.").format(who=who, size=human_size(size)))
    hint = _("Close other programs, or raise the limit if there is one.")
    return CannotLoad(" ".join(words), hint, recoveries=recoveries)
