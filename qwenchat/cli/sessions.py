"""`qwenchat sessions`: lists, renames, tags and deletes sessions, and repairs their database.

`sessions_read` shows and searches them; `export_import` writes them to files and reads them back.
"""

import asyncio
import sys
from collections.abc import Sequence

import click

from qwenchat.chat.message import Message
from qwenchat.chat.session import Session
from qwenchat.chat.title import suggest
from qwenchat.cli import completion
from qwenchat.cli.consent import ask_to_send
from qwenchat.cli.export_import import export, import_
from qwenchat.cli.output import Output, is_terminal, iso_time, local_time
from qwenchat.cli.sessions_read import search, show
from qwenchat.errors import CannotLoad, WrongUse
from qwenchat.i18n import _, ngettext
from qwenchat.runtime.load_options import LoadOptions
from qwenchat.runtime.model_choice import model_to_ask, no_model
from qwenchat.runtime.program import Program
from qwenchat.sessions.recover import recover as recover_database
from qwenchat.sessions.trash import CONFIRM_FROM
from qwenchat.storage.migrate import safety_copies
from qwenchat.text.safe import encodable


@click.group(commands=[show, search, export, import_])
def sessions() -> None:
    """Find, read, rename and delete sessions."""


@sessions.command(name="list")
@click.option("--limit", type=click.IntRange(1, 2**31 - 1), default=50, show_default=True, help="Number of sessions.")
@click.option("--offset", type=click.IntRange(0, 2**31 - 1), default=0, help="Number of sessions to skip.")
@click.option("--tag", default="", help="Only sessions with this tag.")
@click.option("--trash", is_flag=True, help="List the trash instead.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def list_(program: Program, *, limit: int, offset: int, tag: str, trash: bool, as_json: bool) -> None:
    """List sessions, newest first."""
    output, listing = Output.standard(), program.store.listing
    listed = listing.newest(limit, offset, trashed=trash, tag=tag)
    total = listing.count(trashed=trash, tag=tag)
    if as_json:
        found = [{**_session_json(entry.session), "messages": entry.messages} for entry in listed]
        output.json({"total": total, "sessions": found})
        return
    shown_time = local_time if output.on_terminal else iso_time
    rows = [
        (
            listing.short(entry.session.id) if output.on_terminal else entry.session.id,
            shown_time((entry.session.trashed or 0) if trash else entry.session.updated),
            str(entry.messages),
            ", ".join(entry.session.tags),
            ("* " if entry.session.pinned else "") + (entry.session.title or _("(no title)")),
        )
        for entry in listed
    ]
    output.table([_("id"), _("deleted") if trash else _("updated"), _("messages"), _("tags"), _("title")], rows)
    if not total and not tag:
        output.say(_("The trash is empty.") if trash else _("There are no sessions yet."))
    if offset + len(listed) < total:
        rest = total - offset - len(listed)
        more = ngettext("{count} more; see --limit and --offset.", "{count} more; see --limit and --offset.", rest)
        output.say(more.format(count=f"{rest:,}"))


def _session_json(session: Session) -> dict[str, object]:
    return {
        "id": session.id,
        "title": session.title,
        "created": iso_time(session.created),
        "updated": iso_time(session.updated),
        "model": session.model,
        "pinned": session.pinned,
        "tags": list(session.tags),
        "trashed": None if session.trashed is None else iso_time(session.trashed),
    }


@sessions.command()
@click.argument("session", required=False, shell_complete=completion.sessions)
@click.option("--add", multiple=True, metavar="TAG", help="Add this tag; may be repeated.")
@click.option("--remove", multiple=True, metavar="TAG", help="Remove this tag; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def tags(program: Program, session: str | None, add: tuple[str, ...], remove: tuple[str, ...], as_json: bool) -> None:
    """List all tags, or show and change the tags of one SESSION."""
    output, store = Output.standard(), program.store
    if session is None:
        if add or remove:
            raise click.UsageError(_("Give the session whose tags to change."))
        counts = store.listing.tags()
        if as_json:
            output.json(counts)
        else:
            output.table([_("tag"), _("sessions")], [(tag, str(count)) for tag, count in counts.items()])
        return
    found = store.session(store.listing.resolve(session))
    wanted = dict.fromkeys(tag.strip() for tag in (*found.tags, *add) if tag.strip() and tag not in remove)
    if tuple(wanted) != found.tags:
        store.label(found.id, tags=tuple(wanted))
    if as_json:
        output.json(list(wanted))
    else:
        for tag in wanted:
            output.data(tag)


@sessions.command()
@click.argument("session", shell_complete=completion.sessions)
@click.argument("title", nargs=-1)
@click.option("--suggest", "by_model", is_flag=True, help="Let a model suggest the title, and print it.")
@click.option(
    "-m",
    "--model",
    default="",
    metavar="REF",
    shell_complete=completion.models,
    help="With --suggest: the model to ask.",
)
@click.pass_obj
def rename(program: Program, session: str, title: tuple[str, ...], by_model: bool, model: str) -> None:
    """Change the title of a session."""
    if bool(title) == by_model or (model and not by_model):
        raise click.UsageError(_("Give a title, or --suggest."))
    store = program.store
    found = store.session(store.listing.resolve(session))
    words = encodable(" ".join(title))
    if by_model:
        asked = model_to_ask(program, model, found)
        if not asked:
            raise no_model()
        ask_to_send(program, Output.standard(), asked, lambda: store.tree(found.id), named=bool(model))
        words = asyncio.run(_suggested(program, asked, store.branch(found.leaf)))
        if not words:
            raise WrongUse(_("This session has no question yet."), _("Give it a title yourself."))
    store.label(found.id, title=words)
    if by_model:
        Output.standard().data(words)


async def _suggested(program: Program, model: str, branch: Sequence[Message]) -> str:
    engine = program.engine(model, LoadOptions())
    try:
        return await suggest(engine, branch)
    except CannotLoad as error:
        hint = _("Use another model (-m), or give the session a title yourself.")
        raise CannotLoad(error.message, hint) from error
    finally:
        await engine.close()


@sessions.command()
@click.argument("session_ids", metavar="SESSION...", nargs=-1, shell_complete=completion.sessions)
@click.option("--forever", is_flag=True, help="Delete permanently instead of moving to the trash.")
@click.option("--trash", is_flag=True, help="With --forever: everything in the trash.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask for confirmation.")
@click.pass_obj
def delete(program: Program, session_ids: tuple[str, ...], forever: bool, trash: bool, yes: bool) -> None:
    """Move sessions to the trash, or delete them forever."""
    if bool(session_ids) == trash or (trash and not forever):
        raise click.UsageError(_("Give the sessions, or --forever --trash to empty the trash."))
    output, store = Output.standard(), program.store
    if trash:
        chosen = [entry.session.id for entry in store.listing.newest(-1, trashed=True)]
    else:
        chosen = list(dict.fromkeys(store.listing.resolve(prefix) for prefix in session_ids))
    count = len(chosen)
    if not chosen:
        output.say(_("The trash is empty."))
    elif not forever:
        if count >= CONFIRM_FROM:
            _confirm(
                ngettext("Move {count} session to the trash?", "Move {count} sessions to the trash?", count), count, yes
            )
        store.trash.put(*chosen)
        undo = _("Moved to the trash. Undo with `qwenchat sessions restore {sessions}`.")
        output.say(undo.format(sessions=" ".join(chosen)))
    else:
        _confirm(ngettext("Delete {count} session forever?", "Delete {count} sessions forever?", count), count, yes)
        store.trash.delete_forever(*chosen)
        output.say(ngettext("{count} session deleted.", "{count} sessions deleted.", count).format(count=count))
        if count >= CONFIRM_FROM:
            copy = safety_copies(program.paths.database)[-1]
            output.say(
                _("{file} is a copy of the old database; delete it when you no longer need it.").format(file=copy)
            )


@sessions.command()
@click.argument(
    "session_ids", metavar="SESSION...", nargs=-1, required=True, shell_complete=completion.trashed_sessions
)
@click.pass_obj
def restore(program: Program, session_ids: tuple[str, ...]) -> None:
    """Restore sessions from the trash."""
    store = program.store
    chosen = list(dict.fromkeys(store.listing.resolve(prefix) for prefix in session_ids))
    store.trash.restore(*chosen)
    count = len(chosen)
    words = ngettext("{count} session restored.", "{count} sessions restored.", count)
    Output.standard().say(words.format(count=count))


def _confirm(question: str, count: int, yes: bool) -> None:
    """Return when the user confirms. Raises click.Abort for a no, and WrongUse without a terminal to ask on."""
    if yes:
        return
    if not is_terminal(sys.stdin):
        raise WrongUse(_("This command asks for confirmation, but there is no terminal."), _("Add --yes."))
    click.confirm(question.format(count=count), abort=True, err=True)


@sessions.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def recover(program: Program, as_json: bool) -> None:
    """Repair a damaged database.

    Everything that can be read is saved to a new database, and the damaged file is renamed. Close other windows of
    qwenchat first.
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
        "sessions": result.sessions if result else program.store.listing.count(),
        "messages": result.messages if result else None,
        "attachments": result.attachments if result else None,
    }
    if as_json:
        output.json(saved)
    elif result:
        output.record({name: value for name, value in saved.items() if name != "damaged"})
