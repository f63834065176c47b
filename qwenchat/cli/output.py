"""Where every command writes: data to stdout; messages and errors to stderr.

An error is one line that says what is wrong and one that says what to do. `text.safe` cleans everything that is
written. Colour and progress bars are for terminals that obey escape sequences, and never used where NO_COLOR is set.
"""

import io
import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

from msgspec import Struct

from qwenchat.errors import FileError, QwenchatError, RecoveryKind
from qwenchat.i18n import _, labelled, locale_encoding, reason_of
from qwenchat.runtime import recoveries
from qwenchat.text.safe import clean, clean_line


class ReaderGone(Exception):
    """The reader of stdout is gone, as when `head` has read enough. The program then ends quietly."""


class OutputLost(FileError):
    """Stdout can't be written, as when it is a file on a full disk."""


def lost(error: OSError) -> OutputLost:
    """Return what to report where stdout can't be written."""
    return OutputLost(
        _("Can't write to standard output: {reason}.").format(reason=reason_of(error)),
        _("Free some space, or redirect it elsewhere."),
    )


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether a stream is a terminal; a stream that the shell closed is None."""
    return stream is not None and stream.isatty()


def is_dumb() -> bool:
    """Return whether the terminal prints escape sequences instead of obeying them, as editors' consoles do."""
    return os.environ.get("TERM", "").lower() in ("dumb", "unknown")


class Output(Struct, frozen=True):
    """The streams that a command writes to."""

    out: TextIO
    err: TextIO
    colour: bool
    """Whether stderr is a terminal that may be coloured, and on which progress bars may be drawn."""

    @classmethod
    def standard(cls) -> "Output":
        """Return the output on the process's own streams, in the locale's encoding.

        Characters that it lacks are replaced. PYTHONIOENCODING counts more than the locale.
        """
        encoding = None if os.environ.get("PYTHONIOENCODING") else locale_encoding()
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(encoding=encoding, errors="replace")
        out, err = sys.stdout or io.StringIO(), sys.stderr or io.StringIO()  # None where the shell closed them
        return cls(out, err, err.isatty() and not os.environ.get("NO_COLOR") and not is_dumb())

    @property
    def on_terminal(self) -> bool:
        """Whether stdout is a terminal."""
        return self.out.isatty()

    def data(self, text: str) -> None:
        """Write a line of data."""
        self.piece(clean(text) + "\n")

    def piece(self, text: str) -> None:
        """Write clean text and flush it. Raises ReaderGone, or OutputLost where it can't be written."""
        try:
            self.out.write(text)
            self.out.flush()
        except BrokenPipeError as error:
            raise ReaderGone from error
        except OSError as error:
            raise lost(error) from error

    def document(self, piece: str) -> None:
        """Write a piece of a file, such as an export, which is UTF-8 in every locale. Raises what `piece` does."""
        if isinstance(self.out, io.TextIOWrapper) and not self.on_terminal:
            self.out.reconfigure(encoding="utf-8")
        self.piece(piece)

    def json(self, value: object) -> None:
        """Write one JSON document on one line; control characters, and characters the locale lacks, are escaped."""
        import json  # noqa: PLC0415 - the first frame waits for this module

        text = json.dumps(value, ensure_ascii=(self.out.encoding or "utf-8").lower() != "utf-8")
        self.piece(text.translate(_ESCAPED) + "\n")

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write a table: aligned and fitted on a terminal, tab-separated without headings in a pipe."""
        cells = [[clean_line(cell, 1000) for cell in row] for row in rows]
        if not self.on_terminal:
            self.piece("".join("\t".join(row) + "\n" for row in cells))
            return
        used = [n for n, heading in enumerate(headings) if heading or any(row[n] for row in cells)]
        headings, cells = [headings[n] for n in used], [[row[n] for n in used] for row in cells]
        from rich.console import Console  # noqa: PLC0415 - for terminals only

        from qwenchat.cli import drawing  # noqa: PLC0415

        Console(file=self.out).print(drawing.table(headings, cells))

    def record(self, fields: Mapping[str, Any]) -> None:
        """Write names and values, one pair per line."""
        for name, value in fields.items():
            self.data(f"{name}: {clean_line(str(value), 10_000)}")

    def say(self, message: str) -> None:
        """Write a message to the user that is not data."""
        print(clean(message), file=self.err, flush=True)

    def error(self, error: QwenchatError) -> None:
        """Write the error's message and its hint, a line each."""
        label = labelled(_("error"), "")
        label = f"\x1b[1;31m{label}\x1b[0m" if self.colour else label
        print(f"{label}{clean_line(error.message, 2000)}", file=self.err)
        if advice := shell_advice(error):
            print(clean_line(advice, 2000), file=self.err)


class StatusLine:
    """A line at the bottom of stderr that each next one replaces. Only a terminal has it."""

    def __init__(self, output: Output) -> None:
        self._stream = output.err if is_terminal(output.err) and not is_dumb() else None
        self._is_shown = False

    def show(self, words: str) -> None:
        """Replace the line."""
        if self._stream:
            from qwenchat.text.wrap import wrapped  # noqa: PLC0415 - most output has no such line

            width = shutil.get_terminal_size().columns
            print(f"\r\x1b[K{wrapped(clean_line(words), width - 1)[0]}", end="", file=self._stream, flush=True)
            self._is_shown = True

    def clear(self) -> None:
        """Remove the line, if there is one."""
        if self._stream and self._is_shown:
            print("\r\x1b[K", end="", file=self._stream, flush=True)
            self._is_shown = False


_ESCAPED = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), *range(0x2028, 0x202F), *range(0x2066, 0x206A))}


def shell_advice(error: QwenchatError) -> str:
    """Return the hint of an error and its recoveries, with their options and commands."""
    ways = {
        RecoveryKind.START_AGAIN: _("ask again"),
        RecoveryKind.OTHER_MODEL: "--model",
        RecoveryKind.SMALLER_CONTEXT: "--ctx {value}",
        RecoveryKind.LARGER_CONTEXT: "--ctx",
        RecoveryKind.FEWER_LAYERS: "--gpu-layers {value}",
        RecoveryKind.WITHOUT_GPU: "--gpu-layers 0",
        RecoveryKind.WITHOUT_PEERS: "--no-rpc",
        RecoveryKind.SMALLER_KV_CACHE: "--kv-type q8_0",
        RecoveryKind.LOAD_ANYWAY: "--force",
        RecoveryKind.COMPLETE: "--complete",
        RecoveryKind.USE_MODEL: "qwenchat --model {name}",
        RecoveryKind.DOWNLOAD: "qwenchat models pull {name}",
        RecoveryKind.RESUME_DOWNLOAD: _("the same command again"),
        RecoveryKind.OTHER_SOURCE: _("--from hf, --from hf-mirror or --from modelscope"),
        RecoveryKind.OTHER_FOLDER: "--to",
        RecoveryKind.OTHER_REVISION: "--revision",
        RecoveryKind.VERIFY: "qwenchat models verify {name}",
        RecoveryKind.DELETE_SHARED: "--hf-cache",
        RecoveryKind.LIST_MODELS: "qwenchat models list",
        RecoveryKind.LIST_CATALOGUE: "qwenchat models catalog",
        RecoveryKind.RECOMMEND: "qwenchat models fit",
        RecoveryKind.LIST_SESSIONS: "qwenchat sessions list",
        RecoveryKind.RESTORE: "qwenchat sessions restore {name}",
        RecoveryKind.RECOVER_STORE: "qwenchat sessions recover",
        RecoveryKind.REPLACE_FILE: "--force",
        RecoveryKind.LIST_SETTINGS: "qwenchat config show",
        RecoveryKind.ASK_AGAIN: _("the same command again"),
        RecoveryKind.SET_KEY: "qwenchat config set engines.{name}.key_env NAME",
        RecoveryKind.TEST_ENGINE: "qwenchat engines test {name}",
        RecoveryKind.ADD_ENGINE: "qwenchat engines add {name} URL",
    }
    return recoveries.advice(error, ways, shlex.quote)


def local_time(ms: int) -> str:
    """Return a time to the minute in the user's time zone, from Unix milliseconds."""
    return datetime.fromtimestamp(ms / 1000).strftime("%Y-%m-%d %H:%M")


def iso_time(ms: int) -> str:
    """Return a time in ISO 8601, UTC, to the millisecond, from Unix milliseconds."""
    moment = datetime.fromtimestamp(ms // 1000, UTC).replace(microsecond=ms % 1000 * 1000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
