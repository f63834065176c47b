"""The documents of `ask`: what `-f` and `--docs` name is read, goes whole or in parts, and what was found is cited.

What takes long is announced on stderr, and its progress is one line there, on a terminal alone.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from qwenchat.chat.events import LoadEvent, Loading, Reading, TurnEvent
from qwenchat.chat.message import Attachment, Citation, Message
from qwenchat.chat.passages import cited
from qwenchat.cli.output import Output, StatusLine
from qwenchat.errors import FileError, NotFound
from qwenchat.i18n import _, enumerated, ngettext
from qwenchat.paths import expand_home
from qwenchat.runtime.forecast import Forecast
from qwenchat.runtime.program import Program
from qwenchat.text.safe import clean_line
from qwenchat.text.token_estimate import estimated_tokens

_LONG_S = 20.0
"""Seconds of reading that are announced."""
_SURELY_FITS = 1 / 8
"""The part of the context window whose files, by an estimate, are not counted."""
_MINUTE = 60


class NamedDocuments(Struct, frozen=True, kw_only=True):
    """What `--docs` named."""

    collections: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    """To be attached instead, where nothing may be written."""


def documents_named(program: Program, output: Output, names: Sequence[str], *, saves: bool) -> NamedDocuments:
    """Read what is new or has changed in the collections, folders and files that are named.

    A folder or file is a collection by its path. A question that is not saved makes no collection: its files are read
    for it alone. Raises NotFound for a name that nothing has, FileError where nothing can be read, and StoreError.
    """
    if not names:
        return NamedDocuments()
    from qwenchat.cli.docs import read_collection  # noqa: PLC0415 - few questions name any
    from qwenchat.documents.index import collection_owner  # noqa: PLC0415

    known = collection_names(program)
    collections: list[str] = []
    files: list[Path] = []
    for name in names:
        path = Path(os.path.abspath(expand_home(name)))  # noqa: PTH100 - `..` goes, links stay
        collection = name if name in known else str(path)
        if name not in known and not path.exists():
            raise NotFound(
                _("There is no collection, folder or file named {name}.").format(name=clean_line(name)),
                _("Write a question in quotes. To see the collections: {command}").format(command="qwenchat docs list"),
            )
        if name not in known and not saves:
            files.append(path)
            continue
        if name not in known:
            program.collections.put(collection, [path])
        if saves:
            read_collection(program, output, collection)
        if not program.documents.owned(collection_owner(collection)):
            raise FileError(
                _("{name} has no document that can be read.").format(name=clean_line(name)),
                _("Name a document, a folder with documents, or another collection."),
            )
        collections.append(collection)
    return NamedDocuments(collections=tuple(collections), files=tuple(files))


def collection_names(program: Program) -> list[str]:
    """Return the names of all collections; where there are none, nothing is made on disk."""
    return [each.name for each in program.collections.all()] if program.paths.collections.exists() else []


async def read_files(output: Output, paths: Sequence[Path], *, in_parts: Sequence[Path] = ()) -> tuple[Attachment, ...]:
    """Read files to attach to a question, and folders and files that are read in parts. Raises FileError."""
    if not paths and not in_parts:
        return ()
    from qwenchat.documents.folder import read_folder  # noqa: PLC0415 - most questions have no files
    from qwenchat.documents.reader import DocumentReader  # noqa: PLC0415

    async with DocumentReader() as reader:
        found = [(await reader.read(path)).attachment for path in paths]
        for path in in_parts:
            if path.is_dir():
                folder = await read_folder(path, reader.read)
                documents = folder.documents
                for problem in folder.skipped:
                    output.say(problem)
                if folder.left_out:
                    output.say(_("Left out: {what}.").format(what=enumerated(folder.left_out)))
            else:
                documents = (await reader.read(path),)
            found += [replace(each.attachment, in_parts=True) for each in documents]
    return tuple(found)


def need_counting(attachments: Sequence[Attachment], n_ctx: int) -> bool:
    """Say whether only counting shows if files fit well into a context window of `n_ctx` tokens."""
    return sum(estimated_tokens(each.text) for each in attachments if not each.in_parts) > _SURELY_FITS * n_ctx


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
        """`draws`: whether a terminal has a line of progress, which it has not where the report of the turn draws."""
        self._output, self._line = output, StatusLine(output) if draws else None
        self._is_announced = False

    def show(self, event: LoadEvent | TurnEvent) -> None:
        """Show the next event."""
        if isinstance(event, Reading):
            if event.total and not self._is_announced and event.seconds_left >= _LONG_S:
                self._show("")
                self._output.say(announced_words(event))
            self._is_announced = self._is_announced or event.total > 0
            self._show(reading_words(event))
        elif isinstance(event, Loading):
            self._show(_("Loading the model: {percent:.0%}").format(percent=event.fraction))
        else:
            self._show("")

    def _show(self, words: str) -> None:
        if self._line and words:
            self._line.show(words)
        elif self._line:
            self._line.clear()


def announced_words(event: Reading) -> str:
    """Return a sentence that says how long the reading of documents takes."""
    words = ngettext(
        "{count:,} part of the documents is read, which takes {time}. Ctrl+C stops it; the same command goes on.",
        "{count:,} parts of the documents are read, which takes {time}. Ctrl+C stops it; the same command goes on.",
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
    from qwenchat.sessions.reading_order import place_of  # noqa: PLC0415 - most answers cite nothing

    return "\n".join(f"[{each.number}] {place_of(each)}" for each in cited(answer))


def citations_json(answer: Message) -> list[dict[str, object]]:
    """Return the passages that an answer was made of."""
    return [citation_object(each) for each in answer.citations]


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
