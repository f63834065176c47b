"""`qwenchat docs`: collections of documents, which are files and folders that stay indexed.

What the commands read and delete is the index alone; nobody's files are changed.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qwenchat.cli import completion
from qwenchat.cli.help import localised
from qwenchat.cli.output import Output, StatusLine
from qwenchat.errors import ExitCode, Interrupted, NotFound
from qwenchat.i18n import _, enumerated, labelled
from qwenchat.paths import expand_home, shortened
from qwenchat.runtime.program import Program
from qwenchat.text.safe import clean_line

if TYPE_CHECKING:
    from qwenchat.documents.collections import Collection, CollectionProgress, Update

DEFAULT_COLLECTION = "documents"
as_json = click.option("--json", "as_json", is_flag=True, help="As JSON.")


class _DocsGroup(click.Group):
    """Adds `docs ask` when it is needed: it is `ask`, which imports what the other commands do not need."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), "ask"})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name != "ask":
            return super().get_command(ctx, cmd_name)
        from qwenchat.cli.ask import documents_command  # noqa: PLC0415

        return localised(documents_command())


@click.group(cls=_DocsGroup)
def docs() -> None:
    """Index files and folders, so that questions can be asked about them."""


@docs.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@click.option(
    "--collection",
    default=DEFAULT_COLLECTION,
    show_default=True,
    metavar="NAME",
    shell_complete=completion.collections,
    help="Collection to add them to.",
)
@as_json
@click.pass_obj
def add(program: Program, paths: tuple[Path, ...], collection: str, as_json: bool) -> int:
    """Add files and folders to a collection and index them.

    In folders, hidden files and those that .gitignore names are left out. Only what is new or has changed is read.
    """
    added = program.collections.put(collection, paths)
    return _update(program, [added], as_json=as_json, named=map(expand_home, paths))


@docs.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=completion.collections)
@as_json
@click.pass_obj
def update(program: Program, names: tuple[str, ...], as_json: bool) -> int:
    """Read again what has changed in some collections, or in all."""
    if not names and not program.paths.collections.exists():
        return _update(program, [], as_json=as_json)
    collections = program.collections
    chosen = [collections.find(name) for name in dict.fromkeys(names)] if names else collections.all()
    return _update(program, chosen, as_json=as_json)


@docs.command(name="list")
@click.argument("name", default="", metavar="[NAME]", shell_complete=completion.collections)
@as_json
@click.pass_obj
def list_(program: Program, name: str, as_json: bool) -> None:
    """List the collections, or the documents in one."""
    output = Output.standard()
    if name:
        _list_documents(program, output, program.collections.find(name), as_json=as_json)
        return
    found = program.collections.all() if program.paths.collections.exists() else []
    rows = [_summary(program, each) for each in found]
    if as_json:
        output.json({"collections": rows})
        return
    output.table(
        [_("collection"), _("documents"), _("tokens"), _("files and folders")],
        [
            [
                shortened(row["name"]),
                f"{row['documents']:,}",
                f"~{row['tokens']:,}",
                enumerated(map(shortened, row["paths"])),
            ]
            for row in rows
        ],
    )
    if not rows:
        output.say(_("There are no collections yet: {command}").format(command="qwenchat docs add PATH"))


@docs.command()
@click.argument(
    "names", nargs=-1, required=True, metavar="NAME|PATH...", shell_complete=completion.collections_or_files
)
@as_json
@click.pass_obj
def remove(program: Program, names: tuple[str, ...], as_json: bool) -> None:
    """Remove collections, or files and folders from every collection that they were added to. No file is deleted."""
    output, collections = Output.standard(), program.collections
    removed: list[str] = []
    for name in names:
        if any(each.name == name for each in collections.all()):
            collections.remove(name)
            removed.append(name)
            continue
        try:
            removed += [each.name for each in collections.remove_path(Path(name))]
        except NotFound:
            if Path(name).parts[1:]:  # it is a path
                raise
            collections.find(name)
    if as_json:
        output.json({"removed": list(dict.fromkeys(removed))})


def _update(program: Program, collections: "list[Collection]", *, as_json: bool, named: Iterable[Path] = ()) -> int:
    """Update collections and print what came of it; fail where a file that the user named can't be read."""
    from qwenchat.documents.collections import update_words  # noqa: PLC0415 - the list needs no reader of documents

    output = Output.standard()
    results = [(each, read_collection(program, output, each.name)) for each in collections]
    if as_json:
        output.json({"collections": [_summary(program, each) | _update_object(result) for each, result in results]})
    else:
        for each, result in results:
            output.say(labelled(clean_line(shortened(each.name)), update_words(result)))
    problems = {path for _collection, result in results for path in result.problems}
    return ExitCode.FILE if any(str(path.absolute()) in problems for path in named) else ExitCode.DONE


def read_collection(program: Program, output: Output, name: str) -> "Update":
    """Read what has changed in a collection, with progress and problems on stderr. Raises what `update` raises."""
    line = StatusLine(output)

    def report(progress: "CollectionProgress") -> None:
        words = _("Reading {done:,} of {total:,}: {file}")
        line.show(words.format(done=progress.done + 1, total=progress.total, file=progress.name))

    try:
        result = asyncio.run(program.collections.update(name, report))
    except KeyboardInterrupt:
        line.clear()
        raise Interrupted(
            _("Stopped. What was read is stored."), _("The same command goes on where it stopped.")
        ) from None
    finally:
        line.clear()
    for path, problem in result.problems.items():
        output.say(problem if clean_line(path) in problem else labelled(clean_line(path), problem))
    return result


def _update_object(result: "Update") -> dict[str, Any]:
    found = asdict(result)
    return found | {"skipped": {str(why): count for why, count in result.skipped.items()}}


def _summary(program: Program, collection: "Collection") -> dict[str, Any]:
    from qwenchat.documents.index import collection_owner  # noqa: PLC0415 - the list of commands needs no database

    owned = program.documents.owned(collection_owner(collection.name))
    return {
        "name": collection.name,
        "paths": list(map(str, collection.paths)),
        "documents": len(owned),
        "tokens": sum(each.tokens for each in owned),
    }


def _list_documents(program: Program, output: Output, collection: "Collection", *, as_json: bool) -> None:
    from qwenchat.documents.index import collection_owner  # noqa: PLC0415

    owner = collection_owner(collection.name)
    owned = program.documents.owned(owner)
    problems = {each.path: each.problem for each in program.documents.files(owner).values() if each.problem}
    if as_json:
        output.json(
            _summary(program, collection) | {"documents": [asdict(each) for each in owned], "problems": problems}
        )
        return
    rows = [[each.name, "" if each.pages is None else f"{each.pages:,}", f"~{each.tokens:,}"] for each in owned]
    output.table([_("document"), _("pages"), _("tokens")], rows)
    for problem in problems.values():
        output.say(problem)
