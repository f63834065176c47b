"""`qwenchat` and `python -m qwenchat`."""

import gc
import os
import sys
from contextlib import suppress

from qwenchat import __version__

_COMPLETING = "_QWENCHAT_COMPLETE"
"""Set where a shell asks what may follow; Click answers."""


def main() -> None:
    """Run the command line and end the process with its exit code."""
    if sys.getfilesystemencoding() == "ascii":
        _start_in_utf8()
    if sys.argv[1:] == ["--version"]:
        with suppress(OSError):  # the command line reports that nothing can be written
            os.write(1, f"qwenchat {__version__}\n".encode())  # without 0.1 s of imports
            return
    gc.disable()  # until a command runs: what modules make when they are imported stays to the end
    try:
        sys.exit(_run())
    except KeyboardInterrupt:  # while modules are still being imported
        sys.exit(130)


def _run() -> int:
    if sys.argv[1:] or _COMPLETING in os.environ:
        from qwenchat.cli import main as command  # noqa: PLC0415 - the worker imports this package too

        return command.main()
    from qwenchat.cli import screen  # noqa: PLC0415 - without Click, which takes longer

    return screen.main()


def _start_in_utf8() -> None:
    """Start the program again with UTF-8 for words, file names and streams, as Python does in most ASCII locales.

    It does not where PYTHONUTF8 and PYTHONCOERCECLOCALE forbid it, and then no Chinese word or file name can be used.
    """
    os.environ["PYTHONUTF8"] = "1"  # for the processes that this one starts
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 - no shell


if __name__ == "__main__":
    main()
