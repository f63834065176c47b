"""`make locale`: collects every string that a user reads into each language's catalogue and compiles it.

There are six sources: calls of `_` and `ngettext` in the package, the help of commands and options, the descriptions
of settings, the titles of themes, and what click and the system say to a user of this program.

To translate new strings, write them into a JSON file, {"English": "Chinese"} (the singular where there are two forms),
and run `python -m devtools.catalogue FILE`.
"""

import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path

import click
import msgspec
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from qwenchat import config
from qwenchat.cli.main import root
from qwenchat.tui import themes

PACKAGE = Path(config.__file__).parent
PO = PACKAGE / "locale" / "zh_CN" / "LC_MESSAGES" / "qwenchat.po"

CLICK: tuple[str | tuple[str, str], ...] = (
    "Usage:",
    "Options",
    "Commands",
    "Positional arguments",
    "Show this message and exit.",
    "default: {default}",
    "required",
    "Error: {message}",
    "Error: invalid input",
    "Try '{command} {option}' for help.",
    "Missing command.",
    "Missing argument",
    "Missing option",
    "Invalid value: {message}",
    "Invalid value for {param_hint}: {message}",
    "No such option {name!r}.",
    "No such command {name!r}.",
    "Option {name!r} does not take a value.",
    "Choose from:\n\t{choices}",
    "{value!r} is not a valid {number_type}.",
    "{value} is not in the range {range}.",
    "{name} {filename!r} does not exist.",
    "{name} {filename!r} is a file.",
    ("Got unexpected extra argument ({args})", "Got unexpected extra arguments ({args})"),
    ("Did you mean {possibility}?", "(Did you mean one of: {possibilities}?)"),
    ("Option {name!r} requires an argument.", "Option {name!r} requires {nargs} arguments."),
    ("{value!r} is not {choice}.", "{value!r} is not one of {choices}."),
)
"""Click looks these up in the catalogue that `cli.main` binds; where a later click changes them, they stay English."""

SYSTEM = (
    "Address already in use",
    "Address family not supported by protocol",
    "Argument list too long",
    "Bad file descriptor",
    "Broken pipe",
    "Cannot allocate memory",
    "Cannot assign requested address",
    "Connection refused",
    "Connection reset by peer",
    "Connection timed out",
    "Device or resource busy",
    "Directory not empty",
    "Disk quota exceeded",
    "Exec format error",
    "File exists",
    "File name too long",
    "File too large",
    "Input/output error",
    "Invalid argument",
    "Invalid cross-device link",
    "Is a directory",
    "Name or service not known",
    "Network is unreachable",
    "No route to host",
    "No space left on device",
    "No such device or address",
    "No such file or directory",
    "Not a directory",
    "Operation not permitted",
    "Permission denied",
    "Read-only file system",
    "Stale file handle",
    "Temporary failure in name resolution",
    "Too many levels of symbolic links",
    "Too many open files",
    "attempt to write a readonly database",
    "database disk image is malformed",
    "database or disk is full",
    "disk I/O error",
    "file is not a database",
    "unable to open database file",
)
"""What the system and SQLite say of errors, as `i18n.reason_of` looks it up; what is not here stays English."""


def collected() -> Catalog:
    """Return all strings, untranslated."""
    catalog = Catalog(project="qwenchat", charset="utf-8")
    found = extract_from_dir(PACKAGE, [("**.py", "python")], keywords={"_": None, "ngettext": (1, 2)})
    for file, _line, message, _comments, _context in found:
        catalog.add(message, locations=[(file, 1)])
    for message in (
        *_helps(root),
        *_descriptions(),
        *themes.load_all(PACKAGE / "none").titles.values(),
        *CLICK,
        *SYSTEM,
    ):
        catalog.add(message)
    return catalog


def files() -> list[Path]:
    """Return the catalogue of every language but English."""
    return sorted((PACKAGE / "locale").glob("*/LC_MESSAGES/qwenchat.po"))


def updated(po: Path = PO) -> Catalog:
    """Return a catalogue with exactly the current strings; new ones have no translation yet."""
    with po.open("rb") as file:
        catalog = read_po(file, locale=po.parts[-3])
    catalog.update(collected(), no_fuzzy_matching=True, update_header_comment=False, update_creation_date=False)
    catalog.obsolete.clear()
    return catalog


def compiled(catalog: Catalog) -> bytes:
    """Return the catalogue in the binary format of gettext."""
    out = BytesIO()
    write_mo(out, catalog)
    return out.getvalue()


def untranslated(catalog: Catalog) -> list[str]:
    """Return the strings whose translation is missing or names fields that the English string does not have."""
    return [str(message.id) for message in catalog if message.id and not _complete(message.id, message.string)]


def _complete(original: object, translation: object) -> bool:
    texts = translation if isinstance(translation, tuple) else (translation,)
    wanted = original[-1] if isinstance(original, tuple | list) else original
    return all(text and _fields(str(text)) <= _fields(str(wanted)) for text in texts)


def _fields(text: str) -> set[str]:
    return {part.split("}")[0] for part in text.split("{")[1:]}


def _helps(command: click.Command) -> Iterator[str]:
    if command.help:
        yield inspect.cleandoc(command.help)
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.help:
            yield parameter.help
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            if inner := command.get_command(context, name):
                yield from _helps(inner)


def _descriptions() -> Iterator[str]:
    for name in config.names():
        yield config.description(name)
    for section in msgspec.structs.fields(config.Settings):
        if isinstance(section.type, type) and (doc := inspect.getdoc(section.type)):
            yield doc


def translate(catalog: Catalog, words: Mapping[str, str]) -> None:
    """Add translations to a catalogue. Raises KeyError for a string that is not in it."""
    for original, translation in words.items():
        if (message := catalog.get(original)) is None:
            raise KeyError(original)
        message.string = (translation,) if message.pluralizable else translation


def main() -> None:
    """Write and compile each catalogue, adding the translations in the given files; print what is missing."""
    for po in files():
        catalog = updated(po)
        for words in sys.argv[1:] if po == PO else ():
            translate(catalog, json.loads(Path(words).read_text("utf-8")))
        with po.open("wb") as file:
            write_po(file, catalog, width=110, omit_header=False, no_location=True, sort_output=True)
        po.with_suffix(".mo").write_bytes(compiled(catalog))
        missing = untranslated(catalog)
        print(f"{po.parts[-3]}: {len(list(catalog))} strings, {len(missing)} without a translation")
        for text in missing:
            print("  ", text)


if __name__ == "__main__":
    main()
