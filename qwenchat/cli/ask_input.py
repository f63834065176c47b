"""What `ask` is given: words, a pipe, files, a schema, adapters. Everything is read and checked before any loading."""

import errno
import io
import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from qwenchat import textfile
from qwenchat.chat.conversation import Attachment
from qwenchat.engine.protocol import Lora
from qwenchat.errors import FileError, WrongUse
from qwenchat.i18n import _
from qwenchat.text import clean_line


def one_prompt(words: Sequence[str], attachments: Sequence[Attachment]) -> str:
    """Return the question: the words, and below them what is piped in. Raises WrongUse when there is nothing."""
    piped = "" if sys.stdin is None or sys.stdin.isatty() else piped_text()
    text = "\n\n".join(part for part in (" ".join(words), piped.strip("\n")) if part.strip())
    if not text and not attachments:
        raise WrongUse(_("There is no question."), _("Write it behind `qwenchat ask`, or pipe it in."))
    return text


def piped_text() -> str:
    """Return standard input as text, empty where it is only open for writing. Raises FileError when it is not text."""
    name = _("standard input")
    try:
        data = sys.stdin.buffer.read(textfile.SIZE_LIMIT + 1)
    except OSError as error:
        if error.errno == errno.EBADF or isinstance(error, io.UnsupportedOperation):  # as nohup leaves it
            return ""
        raise FileError(
            _("{file} can't be read: {reason}.").format(file=name, reason=error.strerror),
            _("Check what is piped in, or add `</dev/null`."),
        ) from error
    return textfile.decode(data, name)


def attachment(path: Path) -> Attachment:
    """Read a text file that goes with the question. Raises FileError."""
    file = textfile.read(path)
    return Attachment(file.name, "text/plain", file.text.encode())


def schema_text(path: Path) -> str:
    """Return a JSON Schema file's text. Raises FileError when it can't be read, WrongUse when it is not JSON."""
    text = textfile.read(path).text
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WrongUse(
            _("{file} is not JSON: {reason}.").format(file=clean_line(str(path)), reason=error),
            _("Give a file that holds a JSON Schema."),
        ) from error
    if not isinstance(schema, dict):
        raise WrongUse(
            _("{file} is not a JSON Schema.").format(file=clean_line(str(path))),
            _("A schema is an object, such as {example}.").format(example='{"type": "object"}'),
        )
    return text


def adapter(words: str) -> Lora:
    """Return the adapter that `FILE[:SCALE]` names. Raises FileError or WrongUse."""
    name, _colon, scale = words.rpartition(":")
    try:
        factor = float(scale) if name else 1.0
    except ValueError:  # the colon belongs to the name
        name, factor = words, 1.0
    path = Path(name or words)
    if not math.isfinite(factor):
        raise WrongUse(_("The scale of an adapter is {scale}.").format(scale=scale), _("Give a number such as 0.5."))
    if not path.is_file():
        raise FileError(
            _("There is no adapter {file}.").format(file=clean_line(str(path))), _("Check the path given to --lora.")
        )
    return Lora(os.fsencode(path), factor)
