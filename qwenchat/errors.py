"""Every failure that a user can see, with a message, a hint, a stable code and the command line's exit code.

An error is two sentences in the user's language: `message` says what is wrong, `hint` says what to do. How that is done
differs between shell and screen: here an option, there a key. A hint names neither; the words of its `recoveries` come
from the place that shows the error, and only `cli.output` and the screen show errors. Any other exception is a bug and
ends the program with exit code 1.
"""

from enum import IntEnum, StrEnum
from typing import ClassVar

from msgspec import Struct


class ExitCode(IntEnum):
    """The exit codes of the command line."""

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


class RecoveryKind(StrEnum):
    """A way to recover from a failure. `runtime.recoveries` names it; each place says how it is done there."""

    START_AGAIN = "start_again"
    SMALLER_CONTEXT = "smaller_context"
    FEWER_LAYERS = "fewer_layers"
    """Fewer layers on the GPU."""
    WITHOUT_GPU = "without_gpu"
    WITHOUT_PEERS = "without_peers"
    """On this machine alone."""
    OTHER_MODEL = "other_model"
    LARGER_CONTEXT = "larger_context"
    SMALLER_KV_CACHE = "smaller_kv_cache"
    LOAD_ANYWAY = "load_anyway"
    COMPLETE = "complete"
    """Continue a text instead of answering."""
    USE_MODEL = "use_model"
    DOWNLOAD = "download"
    RESUME_DOWNLOAD = "resume_download"
    OTHER_SOURCE = "other_source"
    OTHER_FOLDER = "other_folder"
    OTHER_REVISION = "other_revision"
    VERIFY = "verify"
    DELETE_SHARED = "delete_shared"
    """Delete a file that other programs may use."""
    LIST_MODELS = "list_models"
    LIST_CATALOGUE = "list_catalogue"
    RECOMMEND = "recommend"
    LIST_SESSIONS = "list_sessions"
    RESTORE = "restore"
    RECOVER_STORE = "recover_store"
    REPLACE_FILE = "replace_file"
    LIST_SETTINGS = "list_settings"
    ASK_AGAIN = "ask_again"
    """Ask the same again, as when a server was busy."""
    SET_KEY = "set_key"
    """Set the key of the engine `name`."""
    TEST_ENGINE = "test_engine"
    """Test the engine `name`."""
    ADD_ENGINE = "add_engine"


class Recovery(Struct, frozen=True):
    """One way to recover from a failure."""

    kind: RecoveryKind
    value: int = 0
    """Tokens of the smaller context window, or layers on the GPU; 0 for the other kinds."""
    name: str = ""
    """What it is about: a model, a session or an engine; empty where the kind needs none."""


class QwenchatError(Exception):
    """The base of all failures that are not bugs."""

    exit_code: ClassVar[ExitCode] = ExitCode.BUG
    code: ClassVar[str] = "bug"
    """Names the kind of failure for programs; it never changes."""

    def __init__(self, message: str, hint: str = "", *, recoveries: tuple[Recovery, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.recoveries = recoveries


class WrongUse(QwenchatError):
    """A command, a setting or a value is invalid."""

    exit_code = ExitCode.USAGE
    code = "wrong_use"


class NotFound(QwenchatError):
    """No model or session has that name."""

    exit_code = ExitCode.NOT_FOUND
    code = "not_found"


class NetworkError(QwenchatError):
    """The hub, a remote engine or the connection to it failed."""

    exit_code = ExitCode.NETWORK
    code = "network"


class RemoteError(NetworkError):
    """A server that an engine asks can't be reached, refuses, or fails. What it generated before has been reported."""

    code = "remote"


class RemoteUnreachable(RemoteError):
    """No connection: refused, no such name, a certificate that can't be verified, a proxy, or set to stay offline."""

    code = "remote_unreachable"


class RemoteUnauthorised(RemoteError):
    """The server wants a key, or another one; or the key can't be looked up."""

    code = "remote_unauthorised"


class RemoteBusy(RemoteError):
    """The server is loading, overloaded, has failed, or limits requests; later it may answer."""

    code = "remote_busy"


class RemoteRefused(RemoteError):
    """The server refuses the request: no such model or path, a parameter, the content, or a quota that is used up."""

    code = "remote_refused"


class RemoteBroken(RemoteError):
    """What the server sent is cut off, stalled, too large, or not what it should be."""

    code = "remote_broken"


class ToolServerError(NetworkError):
    """A server of tools can't be started or reached, or fails."""

    code = "tool_server"


class QueueFull(NetworkError):
    """A server has as many requests waiting as it takes; later it may answer."""

    code = "queue_full"


class CannotLoad(QwenchatError):
    """The model is damaged, unsupported, or does not fit this machine."""

    exit_code = ExitCode.CANNOT_LOAD
    code = "cannot_load"


class BindingMissing(CannotLoad):
    """llama-cpp-python is not installed or does not work."""


class PromptTooLong(WrongUse):
    """One message alone is larger than the context window."""

    code = "prompt_too_long"


class EngineDied(QwenchatError):
    """The engine process ended unexpectedly. The answer so far has been reported."""

    exit_code = ExitCode.ENGINE_DIED
    code = "engine_died"

    def __init__(self, message: str, hint: str = "", *, log: str = "", recoveries: tuple[Recovery, ...] = ()) -> None:
        super().__init__(message, hint, recoveries=recoveries)
        self.log = log
        """The last lines that the process wrote, cleaned for a terminal."""


class StoreError(QwenchatError):
    """A database, that of the sessions or that of the documents, can't be used."""

    exit_code = ExitCode.STORE
    code = "store"


class StoreDamaged(StoreError):
    """The file is no longer an intact database."""


class FileError(QwenchatError):
    """A file can't be read or written."""

    exit_code = ExitCode.FILE
    code = "file"


class NotText(FileError):
    """A file is no document: it is not text and holds none, such as a picture or a program."""


class Interrupted(QwenchatError):
    """The user stopped the operation."""

    exit_code = ExitCode.INTERRUPTED
    code = "interrupted"
