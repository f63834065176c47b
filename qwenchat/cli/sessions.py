"""`qwenchat sessions`: which conversations there are, their names and tags, and mending their database.

A file of its own each: reading them (`sessions_read`), naming them (`sessions_rename`), deleting them
(`sessions_delete`), in and out of files (`transfer`). A command that lives elsewhere is added to the tuple at the end.
"""

import click

from qwenchat.chat.conversation import Session
from qwenchat.cli import complete
from qwenchat.cli.output import Output
from qwenchat.cli.sessions_delete import delete, restore
from qwenchat.cli.sessions_read import search, show
from qwenchat.cli.sessions_rename import rename
from qwenchat.cli.times import iso, local
from qwenchat.cli.transfer import export, import_
from qwenchat.i18n import _, ngettext
from qwenchat.program import Program
from qwenchat.sessions.recover import recover as recover_database


@click.group()
def sessions() -> None:
    """Find, read, name and delete conversations."""


@click.command(name="list")
@click.option("--limit", type=click.IntRange(1, 2**31 - 1), default=50, show_default=True, help="How many.")
@click.option("--offset", type=click.IntRange(0, 2**31 - 1), default=0, help="How many to skip.")
@click.option("--tag", default="", help="Only those with this tag.")
@click.option("--trash", is_flag=True, help="Those in the trash instead.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def list_(program: Program, *, limit: int, offset: int, tag: str, trash: bool, as_json: bool) -> None:
    """List conversations, the newest first."""
    output, shelf = Output.standard(), program.store.shelf
    listed = shelf.newest(limit, offset, trashed=trash, tag=tag)
    total = shelf.count(trashed=trash, tag=tag)
    if as_json:
        found = [{**_labels(entry.session), "messages": entry.messages} for entry in listed]
        output.json({"total": total, "sessions": found})
        return
    rows = [
        (
            shelf.short(entry.session.id) if output.on_terminal else entry.session.id,
            local(entry.session.updated) if output.on_terminal else iso(entry.session.updated),
            str(entry.messages),
            ", ".join(entry.session.tags),
            ("* " if entry.session.pinned else "") + (entry.session.title or _("(no title)")),
        )
        for entry in listed
    ]
    output.table([_("id"), _("last written"), _("messages"), _("tags"), _("title")], rows)
    if offset + len(listed) < total:
        rest = total - offset - len(listed)
        more = ngettext("{count} more; see --limit and --offset.", "{count} more; see --limit and --offset.", rest)
        output.say(more.format(count=f"{rest:,}"))


@click.command()
@click.argument("session", required=False, shell_complete=complete.sessions)
@click.option("--add", multiple=True, metavar="TAG", help="Add this tag; may be repeated.")
@click.option("--remove", multiple=True, metavar="TAG", help="Take this tag away; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def tags(program: Program, session: str | None, add: tuple[str, ...], remove: tuple[str, ...], as_json: bool) -> None:
    """List all tags, or show and change those of one SESSION."""
    output, store = Output.standard(), program.store
    if session is None:
        if add or remove:
            raise click.UsageError(_("Name the session whose tags to change."))
        counts = store.shelf.tags()
        if as_json:
            output.json(counts)
        else:
            output.table([_("tag"), _("sessions")], [(tag, str(count)) for tag, count in counts.items()])
        return
    found = store.session(store.shelf.resolve(session))
    wanted = dict.fromkeys(tag.strip() for tag in (*found.tags, *add) if tag.strip() and tag not in remove)
    if tuple(wanted) != found.tags:
        store.label(found.id, tags=tuple(wanted))
    if as_json:
        output.json(list(wanted))
    else:
        for tag in wanted:
            output.data(tag)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def recover(program: Program, as_json: bool) -> None:
    """Save what can be read of a damaged database.

    The damaged file is kept under another name. Close other windows of qwenchat first.
    """
    output, file = Output.standard(), program.paths.database
    output.say(_("Reading {file}...").format(file=file))
    result = recover_database(file)
    if result is None:
        output.say(_("The database is not damaged."))
    else:
        output.say(_("The damaged database is now {file}.").format(file=result.damaged))
    saved = {
        "damaged": str(result.damaged) if result else None,
        "sessions": result.sessions if result else program.store.shelf.count(),
        "messages": result.messages if result else None,
        "attachments": result.attachments if result else None,
    }
    if as_json:
        output.json(saved)
    elif result:
        output.record({name: value for name, value in saved.items() if name != "damaged"})


def _labels(session: Session) -> dict[str, object]:
    return {
        "id": session.id,
        "title": session.title,
        "created": iso(session.created),
        "updated": iso(session.updated),
        "model": session.model,
        "pinned": session.pinned,
        "tags": list(session.tags),
        "trashed": None if session.trashed is None else iso(session.trashed),
    }


for _command in (list_, show, search, rename, tags, delete, restore, export, import_, recover):
    sessions.add_command(_command)
