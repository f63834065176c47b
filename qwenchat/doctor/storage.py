"""Checks the folders and who can read them, the settings, and the session database."""

import os
import shlex
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from qwenchat.doctor.finding import Finding, failed, ok, warning
from qwenchat.errors import ExitCode
from qwenchat.i18n import _, clauses
from qwenchat.runtime.program import Program
from qwenchat.sessions.recover import is_intact
from qwenchat.sessions.rows import SCHEMA
from qwenchat.storage.database import reading
from qwenchat.storage.migrate import version_of
from qwenchat.storage.read_only import can_write, cannot_be_saved
from qwenchat.text.safe import human_size


def folders(program: Program) -> Iterator[Finding]:
    """Check that the folders can be written and that no other user can read them."""
    paths, title = program.paths, _("folders")
    problems = [
        problem
        for folder in (paths.config, paths.data, paths.cache, paths.logs)
        if (problem := _problem(folder, title)) is not None
    ]
    yield from problems
    if not problems:
        words = _("settings {config}; sessions and models {data}; cache {cache}; logs {logs}")
        yield ok(
            "folders",
            title,
            words.format(config=paths.config, data=paths.data, cache=paths.cache, logs=paths.logs),
        )


def _problem(folder: Path, title: str) -> Finding | None:
    """Return the problem of a folder or, if it is missing, of the existing folder in which it would be created."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    quoted = shlex.quote(str(there))
    if not there.is_dir():
        words = _("{folder} is not a folder").format(folder=there)
        return failed("folders", title, words, then=f"mv {quoted} {quoted}.old", exit_code=ExitCode.FILE)
    status = there.stat()
    if not os.access(there, os.W_OK | os.X_OK):
        ours = not hasattr(os, "getuid") or status.st_uid == os.getuid()
        words = _("{folder} can't be written").format(folder=there)
        repair = f"chmod u+rwx {quoted}" if ours else f'sudo chown -R "$USER" {quoted}'
        return failed("folders", title, words, then=repair, exit_code=ExitCode.FILE)
    if there == folder and sys.platform != "win32" and stat.S_IMODE(status.st_mode) & 0o077:
        words = _("{folder} can be read by other users of this computer").format(folder=there)
        return warning("folders", title, words, f"chmod -R go= {quoted}")
    return None


def settings(program: Program) -> Iterator[Finding]:
    """Check that the settings are valid. Raises WrongUse or FileError if they are not."""
    title, wanted, file = _("settings"), program.settings.theme, program.paths.settings
    themes = {found.stem for folder in program.paths.theme_folders for found in folder.glob("*.toml")}
    words = (
        _("{file} is valid") if file.exists() else _("{file} does not exist: all settings have their default values")
    )
    words = words.format(file=file)
    if wanted and wanted not in themes:
        words = clauses(words, _('no theme named "{name}"').format(name=wanted))
        yield warning("settings", title, words, 'qwenchat config set theme ""')
    else:
        yield ok("settings", title, words)


def database(program: Program) -> Iterator[Finding]:
    """Check that the session database is intact, by reading all of it. Raises StoreError."""
    title, file = _("sessions"), program.paths.database
    version = version_of(file, SCHEMA)
    if not file.exists():
        yield ok("store", title, _("none yet"))
        return
    if can_write(file) and not is_intact(file):
        words = _("the database is damaged")
        yield failed("store", title, words, then="qwenchat sessions recover", exit_code=ExitCode.STORE)
        return
    size = human_size(file.stat().st_size)
    if version < len(SCHEMA.migrations()):
        yield ok(
            "store",
            title,
            _("intact, {size}, from an older version: it will be updated when it is next used").format(size=size),
        )
        return
    with reading(file) as connection:
        sessions, messages = connection.execute(
            "SELECT (SELECT count(*) FROM sessions), (SELECT count(*) FROM messages)"
        ).fetchone()
    if not can_write(file):
        words = _("read-only, {size}; sessions: {sessions:,}, messages: {messages:,}")
        words = words.format(size=size, sessions=sessions, messages=messages)
        yield warning("store", title, words, cannot_be_saved(file).hint)
        return
    words = _("intact, {size}; sessions: {sessions:,}, messages: {messages:,}")
    yield ok("store", title, words.format(size=size, sessions=sessions, messages=messages))
