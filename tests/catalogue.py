"""Collects every string that a person reads into the Chinese catalogue, and compiles it: `make locale`.

Three sources: calls of `_` and `ngettext` in the package, the help of click's commands and options, and the
descriptions of settings.
"""

import inspect
from collections.abc import Iterator
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

PACKAGE = Path(config.__file__).parent
PO = PACKAGE / "locale" / "zh_CN" / "LC_MESSAGES" / "qwenchat.po"


def collected() -> Catalog:
    """Return all strings, untranslated."""
    catalog = Catalog(project="qwenchat", charset="utf-8")
    found = extract_from_dir(PACKAGE, [("**.py", "python")], keywords={"_": None, "ngettext": (1, 2)})
    for file, _line, message, _comments, _context in found:
        catalog.add(message, locations=[(file, 1)])
    for message in (*_helps(root), *_descriptions()):
        catalog.add(message)
    return catalog


def updated() -> Catalog:
    """Return the Chinese catalogue with exactly the strings of today; new ones have no translation yet."""
    with PO.open("rb") as file:
        catalog = read_po(file, locale="zh_CN")
    catalog.update(collected(), no_fuzzy_matching=True, update_header_comment=False)
    catalog.obsolete.clear()
    return catalog


def compiled(catalog: Catalog) -> bytes:
    """Return the catalogue as gettext reads it."""
    out = BytesIO()
    write_mo(out, catalog)
    return out.getvalue()


def untranslated(catalog: Catalog) -> list[str]:
    """Return the strings that have no Chinese, or whose named fields differ from the English ones."""
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
        if doc := inspect.getdoc(section.type):
            yield doc


def main() -> None:
    """Write the catalogue and its compiled form, and say what is missing."""
    catalog = updated()
    with PO.open("wb") as file:
        write_po(file, catalog, width=110, omit_header=False, no_location=True, sort_output=True)
    PO.with_suffix(".mo").write_bytes(compiled(catalog))
    missing = untranslated(catalog)
    print(f"{len(list(catalog))} strings, {len(missing)} without Chinese")
    for text in missing:
        print("  ", text)


if __name__ == "__main__":
    main()
