"""The one sink: stdout is data, stderr is talk, and an error is one line that says what and one what to do.

Everything that was not written by this program passes through `text.clean` on its way out. Colour and bars are
for terminals only, and never where NO_COLOR is set.
"""

import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from qwenchat.errors import FileError, QwenchatError
from qwenchat.i18n import _
from qwenchat.text.safe import clean, clean_line


class ReaderGone(Exception):
    """Nobody reads stdout any more, as when `head` has seen enough: no failure, and no reason to go on."""


class OutputLost(FileError):
    """Stdout goes to a file that takes no more."""


def is_terminal(stream: TextIO | None) -> bool:
    """Say whether a person is at the other end; a stream that the shell closed is None."""
    return stream is not None and stream.isatty()


@dataclass(frozen=True)
class Output:
    """Where a command's words go."""

    out: TextIO
    err: TextIO
    colour: bool
    """Whether stderr is a terminal that may be coloured."""

    @classmethod
    def standard(cls) -> "Output":
        """Return the sink over the process's own streams; what they can't encode is replaced, never an error."""
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(encoding="utf-8", errors="replace")
        out, err = sys.stdout or io.StringIO(), sys.stderr or io.StringIO()  # None where the shell closed them
        return cls(out, err, err.isatty() and not os.environ.get("NO_COLOR"))

    @property
    def on_terminal(self) -> bool:
        """Whether a person reads stdout."""
        return self.out.isatty()

    def data(self, text: str) -> None:
        """Write a line of data."""
        self.piece(clean(text) + "\n")

    def piece(self, text: str) -> None:
        """Write clean text at once. Raises ReaderGone, or OutputLost where a disk is full."""
        try:
            self.out.write(text)
            self.out.flush()
        except BrokenPipeError as error:
            raise ReaderGone from error
        except OSError as error:
            raise OutputLost(
                _("Standard output can't be written: {reason}.").format(reason=error.strerror),
                _("Make room, or send it somewhere else."),
            ) from error

    def json(self, value: object) -> None:
        """Write one JSON document on one line; what a terminal would obey comes out escaped."""
        self.piece(json.dumps(value, ensure_ascii=False).translate(_ESCAPED) + "\n")

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write a table: aligned and fitted on a terminal, tab-separated without headings in a pipe."""
        cells = [[clean_line(cell, 1000) for cell in row] for row in rows]
        if not self.on_terminal:
            self.piece("".join("\t".join(row) + "\n" for row in cells))
            return
        from rich.console import Console  # noqa: PLC0415 - only where a person reads
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in headings:
            table.add_column(heading)
        for row in cells:
            table.add_row(*(Text(cell) for cell in row))
        Console(file=self.out).print(table)

    def record(self, fields: Mapping[str, Any]) -> None:
        """Write names and values, one a line."""
        for name, value in fields.items():
            self.data(f"{name}: {clean_line(str(value), 10_000)}")

    def say(self, message: str) -> None:
        """Tell the person something that is not data."""
        print(clean(message), file=self.err, flush=True)

    def error(self, error: QwenchatError) -> None:
        """Say what is wrong and what to do, a line each."""
        label = _("error:")
        print(f"\x1b[1;31m{label}\x1b[0m" if self.colour else label, clean_line(error.message, 2000), file=self.err)
        if error.hint:
            print(clean_line(error.hint, 2000), file=self.err)


_ESCAPED = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), *range(0x2028, 0x202F), *range(0x2066, 0x206A))}
