"""Every failure that a person can meet: what happened, what to do, and the exit code that goes with it.

An error is two sentences, already in the person's language: `message` says what is wrong, `hint` what to do.
`cli.output` and the screen's notices are the only places that print them. A failure that is not one of these
is a bug, and ends with exit code 1.
"""

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """What the shell is told when the program ends."""

    DONE = 0
    BUG = 1
    USAGE = 2
    NOT_FOUND = 3
    NETWORK = 4
    CANNOT_LOAD = 5
    ENGINE_DIED = 6
    STORE = 7
    FILE = 8
    INTERRUPTED = 130


class QwenchatError(Exception):
    """The root of all failures that are not bugs."""

    exit_code: ClassVar[ExitCode] = ExitCode.BUG

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class WrongUse(QwenchatError):
    """The command, a setting or a value makes no sense."""

    exit_code = ExitCode.USAGE


class NotFound(QwenchatError):
    """No model or session answers to that name."""

    exit_code = ExitCode.NOT_FOUND


class NetworkError(QwenchatError):
    """The hub or the way to it failed."""

    exit_code = ExitCode.NETWORK


class CannotLoad(QwenchatError):
    """The model is damaged, unsupported, or does not fit this machine."""

    exit_code = ExitCode.CANNOT_LOAD
    gpu_layers = 0
    """Layers that were to lie on a GPU, 0 where it was not tried."""


class PromptTooLong(WrongUse):
    """One message alone is larger than the context window."""


class EngineDied(QwenchatError):
    """The engine process ended by itself. The answer so far is already with whoever was reading it."""

    exit_code = ExitCode.ENGINE_DIED

    def __init__(self, message: str, hint: str = "", log: str = "") -> None:
        super().__init__(message, hint)
        self.gpu_layers = 0
        """Layers that were to lie on a GPU, where it ended while the model was loaded."""
        self.log = log
        """The last lines that the process wrote, cleaned for a terminal."""


class StoreError(QwenchatError):
    """The conversations' database can't be used."""

    exit_code = ExitCode.STORE


class FileError(QwenchatError):
    """A file can't be read or written."""

    exit_code = ExitCode.FILE


class Interrupted(QwenchatError):
    """The person pressed Ctrl-C."""

    exit_code = ExitCode.INTERRUPTED
