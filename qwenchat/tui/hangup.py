"""Whether the terminal has gone: a closed window, a dropped connection, where no SIGHUP came or it is ignored.

Textual would read from it without end and wait for ever to write to it. What to do then is the app's.
"""

import select
import sys


def hung_up() -> bool:
    """Say whether nobody can read what is written any more."""
    if sys.platform == "win32" or sys.__stdin__ is None:
        return False
    poll = select.poll()
    poll.register(sys.__stdin__.fileno(), 0)
    return any(event & (select.POLLHUP | select.POLLERR) for _fd, event in poll.poll(0))
