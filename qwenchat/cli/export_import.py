"""`qwenchat sessions export` and `import`: write sessions to files and read them back."""

import errno
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import click

from qwenchat.chat.ids import unix_ms
from qwenchat.chat.session import Session
from qwenchat.cli.output import Output
from qwenchat.errors import ExitCode, FileError, WrongUse
from qwenchat.i18n import _, enumerated, labelled, ngettext, reason_of
from qwenchat.sessions import export_destination, exporters, importers, records
from qwenchat.sessions.archive import ArchiveStore

_SHOWN_REASONS = 10
"""Reasons why messages were left out that are printed for one file; `--json` has them all."""


class TransferStore(ArchiveStore, Protocol):
    """The part of the session store that these commands use."""

    def find(self, prefix: str) -> Session:
        """Return a session by the beginning of its id. Raises NotFound."""
        ...

    def sessions(self) -> Sequence[Session]:
        """Return every session that is not in the trash."""
        ...


class HasStore(Protocol):
    """The part of `runtime.program.Program` that these commands use."""

    @property
    def store(self) -> TransferStore:
        """The session store."""
        ...

    def model_name(self, reference: str) -> str:
        """Return the name for users of a model, given its reference."""
        ...


@click.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every session except those in the trash.")
@click.option("-f", "--format", "name", type=click.Choice(exporters.names()), default="md", help="Default: md.")
@click.option("-o", "--output", "target", metavar="PATH", help="A file, a folder or a .zip; default: stdout.")
@click.option("--all-branches", is_flag=True, help="Include every variant, not only the open branch; json always does.")
@click.option("--force", is_flag=True, help="Overwrite existing files.")
@click.pass_obj
def export(
    program: HasStore,
    *,
    ids: Sequence[str],
    everything: bool,
    name: str,
    target: str | None,
    all_branches: bool,
    force: bool,
) -> None:
    """Export sessions for reading (md, html, txt) or for programs (json, jsonl, sharegpt).

    json loses nothing and can be imported again; training tools read jsonl and sharegpt.
    """
    if bool(ids) == everything:
        raise WrongUse(_("Give the ids of sessions, or --all."), _("`qwenchat sessions list` shows the ids."))
    store = program.store
    sessions = store.sessions() if everything else _unique([store.find(prefix) for prefix in ids])
    form = exporters.named(name)
    output = Output.standard()
    job = export_destination.Export(store, sessions, form, all_branches, program.model_name)
    written = export_destination.write(job, None if target == "-" else target, output.document, force)
    if written.files or target not in (None, "-"):
        count = ngettext(
            "{count} session written to {place}.", "{count} sessions written to {place}.", written.sessions
        )
        output.say(count.format(count=written.sessions, place=target))
    if left_out := len(sessions) - written.sessions:
        lost = ngettext(
            "{count} session has nothing that {format} can hold and was left out.",
            "{count} sessions have nothing that {format} can hold and were left out.",
            left_out,
        )
        output.say(lost.format(count=left_out, format=name))


@click.command(name="import")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="A JSON array with one object per file.")
@click.pass_obj
def import_(program: HasStore, files: Sequence[str], as_json: bool) -> ExitCode:
    """Import chats from other programs, or from qwenchat.

    It reads the exports of ChatGPT, Claude, DeepSeek, Open WebUI, LibreChat and llama-server, and OpenAI's and
    ShareGPT's formats. FILE is a .json, .jsonl or .zip file, or - for standard input. Existing messages are not
    changed. A file or a chat that can't be read is reported; all others are imported.
    """
    output = Output.standard()
    reports = [_import_one(program.store, file, output) for file in files]
    if as_json:
        output.json(reports)
    return ExitCode.FILE if any(report["problems"] for report in reports) else ExitCode.DONE


def _import_one(store: ArchiveStore, file: str, output: Output) -> dict[str, object]:
    """Import one file in one transaction, report the result on stderr, and return it for `--json`."""
    nothing: dict[str, object] = {"formats": [], "sessions": [], "new": 0, "there_already": 0, "empty": 0}
    report = {"file": file, **nothing, "left_out": [], "problems": []}
    try:
        found = _piped() if file == "-" else records.records_of(Path(file))
        reading = importers.read(found)
    except FileError as error:
        output.error(FileError(labelled(file, error.message), error.hint, recoveries=error.recoveries))
        return report | {"problems": [{"place": "", "reason": error.message}]}
    new = store.add_archives(reading.archives) if reading.archives else 0
    for problem in reading.problems:
        output.say(_("{file}, {place}: skipped: {reason}.").format(file=file, **asdict(problem)))
    for reason, count in Counter(reading.left_out).most_common(_SHOWN_REASONS):
        lost = ngettext(
            "{file}: {count} message was left out: {reason}.",
            "{file}: {count} messages were left out: {reason}.",
            count,
        )
        output.say(lost.format(file=file, count=count, reason=reason))
    output.say(
        _("{file} ({formats}): {new} new or updated, {there} already there, {empty} empty, {bad} skipped.").format(
            file=file,
            formats=enumerated(reading.formats) or _("nothing"),
            new=new,
            there=len(reading.archives) - new,
            empty=reading.empty,
            bad=len(reading.problems),
        )
    )
    return report | {
        "formats": reading.formats,
        "sessions": [archive.session.id for archive in reading.archives],
        "new": new,
        "there_already": len(reading.archives) - new,
        "empty": reading.empty,
        "left_out": [{"reason": reason, "count": count} for reason, count in reading.left_out.items()],
        "problems": [asdict(problem) for problem in reading.problems],
    }


def _piped() -> list[records.Record]:
    """Return the records on standard input. Raises FileError where it is closed or can't be read."""
    try:
        if sys.stdin is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return records.records_in(sys.stdin.buffer, unix_ms())
    except OSError as error:
        raise FileError(
            _("It can't be read: {reason}.").format(reason=reason_of(error)),
            _("Check the piped input."),
        ) from error


def _unique(sessions: Sequence[Session]) -> Sequence[Session]:
    """Return each session once, in the order given."""
    return list({session.id: session for session in sessions}.values())
