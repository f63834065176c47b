"""`qwenchat sessions`: which conversations there are, their names and tags, and mending their database.

A file of its own each: reading them (`sessions_read`), naming them (`sessions_rename`), deleting them
(`sessions_delete`), in and out of files (`transfer`). A command that lives elsewhere is added to the tuple at the end.

Times as people and programs read them. Times in the program are Unix milliseconds, UTC.

`qwenchat sessions show` and `search`: reading conversations and finding words in them.

On a terminal an answer's Markdown is drawn; nothing in a text is taken for the terminal's or rich's own markup.

`qwenchat sessions delete` and `restore`: into the trash and back; forever only after a question or with --yes.

`qwenchat sessions rename`: a conversation's title, by the person or on request by a model.
"""

import asyncio
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import click
import msgspec

from qwenchat.chat.message import Message, Role
from qwenchat.chat.session import Session
from qwenchat.chat.title import suggest
from qwenchat.cli import completion
from qwenchat.cli.export_import import export, import_
from qwenchat.cli.output import Output, is_terminal
from qwenchat.errors import CannotLoad, WrongUse
from qwenchat.i18n import _, ngettext
from qwenchat.runtime.deletion import delete_forever
from qwenchat.runtime.load_planner import LoadOptions
from qwenchat.runtime.model_choice import model_to_ask, no_model
from qwenchat.runtime.program import Program
from qwenchat.sessions.migrate import safety_copies
from qwenchat.sessions.recover import recover as recover_database
from qwenchat.sessions.search import MANY, Hit, SearchResults
from qwenchat.sessions.trash import CONFIRM_FROM
from qwenchat.text.safe import clean, clean_line, whole


def local(ms: int) -> str:
    """Return a time to the minute in the person's own time zone."""
    return datetime.fromtimestamp(ms / 1000).strftime("%Y-%m-%d %H:%M")


def iso(ms: int) -> str:
    """Return a time in ISO 8601, UTC, to the millisecond."""
    moment = datetime.fromtimestamp(ms // 1000, UTC).replace(microsecond=ms % 1000 * 1000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@click.command()
@click.argument("session", shell_complete=completion.sessions)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def show(program: Program, session: str, as_json: bool) -> None:
    """Print a conversation: the branch that was read last."""
    output, store = Output.standard(), program.store
    found = store.session(store.listing.resolve(session))
    branch = store.branch(found.leaf)
    if as_json:
        output.json(_as_json(found, branch))
    elif output.on_terminal:
        _draw(output, found, branch)
    else:
        output.data(_plain(found, branch))


@click.command()
@click.argument("words", nargs=-1, required=True)
@click.option("--limit", type=click.IntRange(1, 2**31 - 1), default=20, show_default=True, help="How many messages.")
@click.option("--offset", type=click.IntRange(0, 2**31 - 1), default=0, help="How many messages to skip.")
@click.option("--trash", is_flag=True, help="Look in the trash instead.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def search(program: Program, *, words: tuple[str, ...], limit: int, offset: int, trash: bool, as_json: bool) -> None:
    """Find words in all conversations.

    Narrow it with role:user, model:7b, before:2025-03, after:2025-01-31, tag:work and in:SESSION; put an exact
    phrase in quotes.
    """
    output = Output.standard()
    found = program.store.search.find(_typed(words), limit, offset, trashed=trash)
    if as_json:
        output.json(
            {"messages": found.messages, "ranked": found.ranked, "hits": [_hit_json(hit) for hit in found.hits]}
        )
    elif output.on_terminal:
        _draw_hits(program, output, found)
    else:
        rows = [
            (hit.session, hit.message or "", hit.role or "title", iso(hit.created), hit.excerpt.text)
            for hit in found.hits
        ]
        output.table([], rows)
    if not found.hits:
        output.say(_("Nothing was found."))
    elif found.messages > offset + limit:
        count = f"{MANY:,}+" if found.messages >= MANY else str(found.messages)
        output.say(ngettext("{count} message in all.", "{count} messages in all.", found.messages).format(count=count))


def _typed(words: tuple[str, ...]) -> str:
    """Return the words as typed: what the shell took from quotes gets them back."""
    return " ".join(f'"{word}"' if " " in word and '"' not in word and ":" not in word else word for word in words)


def _speaker(message: Message) -> str:
    return _("You") if message.role is Role.USER else message.model or _("Assistant")


def _plain(session: Session, branch: list[Message]) -> str:
    parts = [session.title] if session.title else []
    for message in branch:
        files = [_("[file: {name}]").format(name=clean_line(file.name)) for file in message.attachments]
        parts.append("\n".join([f"{_speaker(message)}:", *files, message.text.rstrip()]))
    return clean("\n\n".join(parts))


def _draw(output: Output, session: Session, branch: list[Message]) -> None:
    from rich.console import Console  # noqa: PLC0415 - only where a person reads
    from rich.text import Text  # noqa: PLC0415

    from qwenchat.cli.ask_output import rendered  # noqa: PLC0415

    console = Console(file=output.out)
    console.print(Text(f"{clean_line(session.title)}\n", "bold"))
    for message in branch:
        head = Text(clean_line(_speaker(message)), "bold cyan" if message.role is Role.USER else "bold green")
        head.append(f"  {local(message.created)}", "dim not bold")
        if message.status != "complete":
            head.append(f"  {message.status}", "yellow")
        console.print(head)
        for file in message.attachments:
            console.print(Text(_("[file: {name}]").format(name=clean_line(file.name)), "dim"))
        text = clean(message.text)
        console.print(Text(text) if message.role is Role.USER else rendered(text))
        console.print()


def _draw_hits(program: Program, output: Output, found: SearchResults) -> None:
    from rich.console import Console  # noqa: PLC0415 - only where a person reads
    from rich.text import Text  # noqa: PLC0415

    console, above = Console(file=output.out), ""
    for hit in found.hits:
        line = Text(hit.excerpt.text)
        for start, end in hit.excerpt.marks:
            line.stylize("bold yellow", start, end)
        if hit.session != above:
            title = Text(clean_line(hit.title)) if hit.message else line
            title.stylize("bold")
            console.print(Text.assemble((program.store.listing.short(hit.session), "cyan"), "  ", title))
            above = hit.session
        if hit.message:
            console.print(Text.assemble((f"  {local(hit.created)}  ", "dim"), line))


def _as_json(session: Session, branch: list[Message]) -> dict[str, object]:
    return {
        "id": session.id,
        "title": session.title,
        "created": iso(session.created),
        "updated": iso(session.updated),
        "model": session.model,
        "system": session.system,
        "tags": list(session.tags),
        "messages": [_message_json(message) for message in branch],
    }


def _message_json(message: Message) -> dict[str, object]:
    return {
        "id": message.id,
        "parent": message.parent,
        "role": message.role,
        "text": message.text,
        "status": message.status,
        "created": iso(message.created),
        "finished": None if message.finished is None else iso(message.finished),
        "model": message.model,
        "finish_reason": message.finish_reason,
        "usage": msgspec.to_builtins(message.usage),
        "timings": msgspec.to_builtins(message.timings),
        "attachments": [
            {"name": file.name, "media_type": file.media_type, "bytes": len(file.data), "sha256": file.digest}
            for file in message.attachments
        ],
        "error": message.error,
    }


def _hit_json(hit: Hit) -> dict[str, object]:
    return {
        "session": hit.session,
        "title": hit.title,
        "message": hit.message,
        "role": hit.role,
        "created": iso(hit.created),
        "excerpt": hit.excerpt.text,
        "marks": [list(mark) for mark in hit.excerpt.marks],
    }


@click.command()
@click.argument("session_ids", metavar="SESSION...", nargs=-1, shell_complete=completion.sessions)
@click.option("--forever", is_flag=True, help="Delete for good instead of into the trash.")
@click.option("--trash", is_flag=True, help="With --forever: everything in the trash.")
@click.option("--yes", "-y", is_flag=True, help="Ask nothing.")
@click.pass_obj
def delete(program: Program, session_ids: tuple[str, ...], forever: bool, trash: bool, yes: bool) -> None:
    """Move conversations to the trash, or delete them forever."""
    if bool(session_ids) == trash or (trash and not forever):
        raise click.UsageError(_("Name the sessions, or give --forever --trash for all in the trash."))
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
        output.say(_("In the trash; `qwenchat sessions restore` takes it back."))
    else:
        _confirm(ngettext("Delete {count} session forever?", "Delete {count} sessions forever?", count), count, yes)
        delete_forever(store, program.saved_kv, chosen)
        output.say(ngettext("{count} session deleted.", "{count} sessions deleted.", count).format(count=count))
        if count >= CONFIRM_FROM:
            copy = safety_copies(program.paths.database)[-1]
            output.say(_("A copy from before is {file}; delete it when you are sure.").format(file=copy))


@click.command()
@click.argument(
    "session_ids", metavar="SESSION...", nargs=-1, required=True, shell_complete=completion.trashed_sessions
)
@click.pass_obj
def restore(program: Program, session_ids: tuple[str, ...]) -> None:
    """Take conversations out of the trash."""
    store = program.store
    store.trash.restore(*(store.listing.resolve(prefix) for prefix in session_ids))


def _confirm(question: str, count: int, yes: bool) -> None:
    """Ask on stderr. Raises WrongUse where nobody can answer and click.Abort for a no."""
    if yes:
        return
    if not is_terminal(sys.stdin):
        raise WrongUse(_("Nobody is here to confirm this."), _("Give --yes if it is meant."))
    click.confirm(question.format(count=count), abort=True, err=True)


@click.command()
@click.argument("session", shell_complete=completion.sessions)
@click.argument("title", nargs=-1)
@click.option("--suggest", "by_model", is_flag=True, help="Let a model find the title, and print it.")
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
    """Give a conversation another title."""
    if bool(title) == by_model or (model and not by_model):
        raise click.UsageError(_("Give a title, or --suggest."))
    store = program.store
    found = store.session(store.listing.resolve(session))
    words = whole(" ".join(title))
    if by_model:
        asked = model_to_ask(program, model, found)
        if not asked:
            raise no_model()
        words = asyncio.run(_suggested(program, asked, store.branch(found.leaf)))
        if not words:
            raise WrongUse(_("Nothing was asked in this conversation yet."), _("Give it a title yourself."))
    store.label(found.id, title=words)
    if by_model:
        Output.standard().data(words)


async def _suggested(program: Program, model: str, branch: Sequence[Message]) -> str:
    engine = program.engine(model, LoadOptions())
    try:
        return await suggest(engine, branch)
    except CannotLoad as error:
        advice = _("Let another model find it (-m), or give the conversation a title yourself.")
        raise CannotLoad(error.message, advice) from error
    finally:
        await engine.close()


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
    output, listing = Output.standard(), program.store.listing
    listed = listing.newest(limit, offset, trashed=trash, tag=tag)
    total = listing.count(trashed=trash, tag=tag)
    if as_json:
        found = [{**_labels(entry.session), "messages": entry.messages} for entry in listed]
        output.json({"total": total, "sessions": found})
        return
    rows = [
        (
            listing.short(entry.session.id) if output.on_terminal else entry.session.id,
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
@click.argument("session", required=False, shell_complete=completion.sessions)
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
        "sessions": result.sessions if result else program.store.listing.count(),
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
