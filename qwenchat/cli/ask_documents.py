"""The documents of `ask`: what `-f` and `--docs` name is read, goes whole or in parts, and what was found is cited.

What takes long is announced on stderr, and its progress is one line there, on a terminal alone.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from qwenchat.chat.events import LoadEvent, Loading, Reading, TurnEvent
from qwenchat.chat.message import Attachment, Citation, Message
from qwenchat.chat.passages import cited
from qwenchat.cli.output import Output, is_dumb, is_terminal
from qwenchat.i18n import _, ngettext
from qwenchat.runtime.forecast import Forecast
from qwenchat.sessions.reading_order import place_of
from qwenchat.text.safe import clean_line

_LONG_S = 20.0
"""Seconds of reading that are announced."""
_WIDTH = 78
"""Columns of the line of progress."""
_CLEAR = "\r\x1b[K"
_MINUTE = 60


async def read_files(paths: Sequence[Path]) -> tuple[Attachment, ...]:
    """Read the files to attach to a question. Raises FileError."""
    if not paths:
        return ()
    from qwenchat.documents.reader import DocumentReader  # noqa: PLC0415 - most questions have no files

    async with DocumentReader() as reader:
        return tuple([(await reader.read(path)).attachment for path in paths])


def settled(output: Output, attachments: Sequence[Attachment], forecasts: Sequence[Forecast]) -> tuple[Attachment, ...]:
    """Return the attachments, those that do not fit well read in parts; say so."""
    made: list[Attachment] = []
    for each, forecast in zip(attachments, forecasts, strict=True):
        if not each.in_parts and not forecast.fits_well:
            tokens = f"{forecast.tokens:,}" if forecast.is_exact else f"~{forecast.tokens:,}"
            words = _("{file} has {tokens} tokens, too many for this model's context window: it is read in parts.")
            output.say(words.format(file=clean_line(each.name), tokens=tokens))
        made.append(each if forecast.fits_well else replace(each, in_parts=True))
    return tuple(made)


class ReadingTalk:
    """Says on stderr how the reading of documents goes on."""

    def __init__(self, output: Output, *, draws: bool) -> None:
        """`draws`: on a terminal there is a line of progress, unless the report of the turn draws it."""
        self._output = output
        self._draws = draws and is_terminal(output.err) and not is_dumb()
        self._is_announced = self._has_line = False

    def show(self, event: LoadEvent | TurnEvent) -> None:
        """Show the next event."""
        match event:
            case Reading(total=total, seconds_left=seconds):
                if total and not self._is_announced and seconds >= _LONG_S:
                    self._clear()
                    self._output.say(announced_words(event))
                self._is_announced = self._is_announced or total > 0
                self._line(reading_words(event))
            case Loading(fraction=fraction):
                self._line(_("Loading the model: {percent:.0%}").format(percent=fraction))
            case _:
                self._clear()

    def _clear(self) -> None:
        if self._has_line:
            self._write(_CLEAR)
            self._has_line = False

    def _line(self, words: str) -> None:
        if self._draws:
            self._write(_CLEAR + clean_line(words, _WIDTH))
            self._has_line = True

    def _write(self, text: str) -> None:
        self._output.err.write(text)
        self._output.err.flush()


def announced_words(event: Reading) -> str:
    """Return a sentence that says how long the reading of documents takes."""
    words = ngettext(
        "{count:,} part of the documents is read, which takes {time}. Ctrl+C stops it; what was read is remembered.",
        "{count:,} parts of the documents are read, which takes {time}. Ctrl+C stops it; what was read is remembered.",
        event.total,
    )
    return words.format(count=event.total, time=_duration(event.seconds_left))


def reading_words(event: Reading) -> str:
    """Return a line that says how far the reading of documents is."""
    if not event.total:
        return _("Searching the documents")
    words = _("Reading the documents: {done:,} of {total:,}, {found:,} found, {seconds:.0f} s left")
    return words.format(done=event.done, total=event.total, found=event.found, seconds=event.seconds_left)


def sources_words(answer: Message) -> str:
    """Return the sources of an answer, a line each: those that it refers to, or all where it refers to none."""
    return "\n".join(f"[{each.number}] {place_of(each)}" for each in cited(answer))


def citation_object(citation: Citation) -> dict[str, object]:
    """Return a passage in the format of `--json`."""
    return {
        "number": citation.number,
        "document": citation.document,
        "page": citation.page,
        "heading": citation.heading,
        "text": citation.text,
    }


def _duration(seconds: float) -> str:
    if seconds < 2 * _MINUTE:
        return _("about {count:.0f} seconds").format(count=seconds)
    if seconds < 2 * _MINUTE * _MINUTE:
        whole = round(seconds / _MINUTE)
        return ngettext("about {count} minute", "about {count} minutes", whole).format(count=whole)
    return _("about {hours:.1f} hours").format(hours=seconds / _MINUTE / _MINUTE)
