"""`qwenchat sessions delete` and `restore`: into the trash and back; forever only after a question or with --yes."""

import sys

import click

from qwenchat.cli import complete
from qwenchat.cli.output import Output, is_terminal
from qwenchat.errors import WrongUse
from qwenchat.i18n import _, ngettext
from qwenchat.program import Program
from qwenchat.sessions.migrate import safety_copies
from qwenchat.sessions.trash import MANY


@click.command()
@click.argument("session_ids", metavar="SESSION...", nargs=-1, shell_complete=complete.sessions)
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
        chosen = [entry.session.id for entry in store.shelf.newest(-1, trashed=True)]
    else:
        chosen = list(dict.fromkeys(store.shelf.resolve(prefix) for prefix in session_ids))
    count = len(chosen)
    if not chosen:
        output.say(_("The trash is empty."))
    elif not forever:
        if count >= MANY:
            _confirm(
                ngettext("Move {count} session to the trash?", "Move {count} sessions to the trash?", count), count, yes
            )
        store.trash.put(*chosen)
        output.say(_("In the trash; `qwenchat sessions restore` takes it back."))
    else:
        _confirm(ngettext("Delete {count} session forever?", "Delete {count} sessions forever?", count), count, yes)
        program.delete_forever(chosen)
        output.say(ngettext("{count} session deleted.", "{count} sessions deleted.", count).format(count=count))
        if count >= MANY:
            copy = safety_copies(program.paths.database)[-1]
            output.say(_("A copy from before is {file}; delete it when you are sure.").format(file=copy))


@click.command()
@click.argument("session_ids", metavar="SESSION...", nargs=-1, required=True, shell_complete=complete.trashed_sessions)
@click.pass_obj
def restore(program: Program, session_ids: tuple[str, ...]) -> None:
    """Take conversations out of the trash."""
    store = program.store
    store.trash.restore(*(store.shelf.resolve(prefix) for prefix in session_ids))


def _confirm(question: str, count: int, yes: bool) -> None:
    """Ask on stderr. Raises WrongUse where nobody can answer and click.Abort for a no."""
    if yes:
        return
    if not is_terminal(sys.stdin):
        raise WrongUse(_("Nobody is here to confirm this."), _("Give --yes if it is meant."))
    click.confirm(question.format(count=count), abort=True, err=True)
