"""What is kept: folders and who may read them, settings, conversations, models."""

import os
import shlex
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from qwenchat.doctor.finding import Finding, failed, ok, warning
from qwenchat.errors import ExitCode, NotFound, WrongUse
from qwenchat.i18n import _, ngettext
from qwenchat.models.reference import parse
from qwenchat.runtime.program import Program
from qwenchat.sessions.database import connect, explained
from qwenchat.sessions.migrate import migrations, version_of
from qwenchat.sessions.recover import is_whole
from qwenchat.text.safe import human_size


def folders(program: Program) -> Iterator[Finding]:
    """Whether the folders can be written, and whether others can read them."""
    paths, title = program.paths, _("folders")
    problems = [
        problem
        for folder in (paths.config, paths.data, paths.cache, paths.logs)
        if (problem := _problem(folder, title)) is not None
    ]
    yield from problems
    if not problems:
        words = _("settings {config}; conversations and models {data}; cache {cache}; logs {logs}")
        yield ok(
            "folders",
            title,
            words.format(config=paths.config, data=paths.data, cache=paths.cache, logs=paths.logs),
        )


def _problem(folder: Path, title: str) -> Finding | None:
    """Return what is wrong with a folder that is there, or with the one that it would be made in."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    quoted = shlex.quote(str(there))
    if not there.is_dir():
        words = _("{folder} is no folder").format(folder=there)
        return failed("folders", title, words, f"mv {quoted} {quoted}.old", ExitCode.FILE)
    status = there.stat()
    if not os.access(there, os.W_OK | os.X_OK):
        ours = not hasattr(os, "getuid") or status.st_uid == os.getuid()
        words = _("{folder} can't be written").format(folder=there)
        mend = f"chmod u+rwx {quoted}" if ours else f'sudo chown -R "$USER" {quoted}'
        return failed("folders", title, words, mend, ExitCode.FILE)
    if there == folder and sys.platform != "win32" and stat.S_IMODE(status.st_mode) & 0o077:
        words = _("{folder} is open to other users of this machine").format(folder=there)
        return warning("folders", title, words, f"chmod -R go= {quoted}")
    return None


def settings(program: Program) -> Iterator[Finding]:
    """Whether they are valid. Raises WrongUse or FileError where they are not."""
    title, wanted, file = _("settings"), program.settings.theme, program.paths.settings
    themes = {found.stem for folder in program.paths.theme_folders for found in folder.glob("*.toml")}
    words = _("{file} is valid") if file.exists() else _("no file {file}: everything is at its default")
    words = words.format(file=file)
    if wanted and wanted not in themes:
        words += "; " + _("there is no theme {name}").format(name=wanted)
        yield warning("settings", title, words, 'qwenchat config set theme ""')
    else:
        yield ok("settings", title, words)


def store(program: Program) -> Iterator[Finding]:
    """Whether the conversations' database is whole. Reads all of it. Raises StoreError."""
    title, file = _("conversations"), program.paths.database
    newest = len(migrations())
    version = version_of(file, newest)
    if not file.exists():
        yield ok("store", title, _("none yet"))
        return
    if not is_whole(file):
        words = _("the database is damaged")
        yield failed("store", title, words, "qwenchat sessions recover", ExitCode.STORE)
        return
    size = human_size(file.stat().st_size)
    if version < newest:
        yield ok("store", title, _("whole, {size}, of an older version: its next use updates it").format(size=size))
        return
    with explained(file):
        connection = connect(file, mode="ro")
        try:
            sessions, messages = connection.execute(
                "SELECT (SELECT count(*) FROM sessions), (SELECT count(*) FROM messages)"
            ).fetchone()
        finally:
            connection.close()
    words = _("whole, {size}; sessions: {sessions:,}, messages: {messages:,}")
    yield ok("store", title, words.format(size=size, sessions=sessions, messages=messages))


def models(program: Program) -> Iterator[Finding]:
    """Which models are here. Names of files of one's own are not told."""
    title, entries = _("models"), program.library.models()
    usable = [entry for entry in entries if not entry.problem]
    known = sorted({entry.reference for entry in usable if entry.published})
    words = ngettext("{count} is here", "{count} are here", len(usable)).format(count=len(usable))
    words += f": {', '.join(known)}" if known else ""
    if not usable:
        yield warning("models", title, _("none is here"), "qwenchat models fit")
        return
    if broken := len(entries) - len(usable):
        words += "; " + _("files that can't be used: {count}").format(count=broken)
        yield warning("models", title, words, "qwenchat models list")
        return
    if problem := _default_missing(program):
        yield warning("models", title, f"{words}; {problem}", 'qwenchat config set model.default ""')
        return
    yield ok("models", title, words)


def _default_missing(program: Program) -> str:
    """Return what is wrong with the model that is used where none is named; empty when nothing is."""
    if not program.settings.model.default:
        return ""
    try:
        program.library.locate(parse(program.settings.model.default, program.catalogue))
    except (NotFound, WrongUse):
        return _("the one of model.default is not")
    return ""
