"""`qwenchat sessions rename`: a conversation's title, by the person or on request by a model."""

import asyncio
from collections.abc import Sequence

import click

from qwenchat.chat.conversation import Message
from qwenchat.chat.title import suggest
from qwenchat.cli import complete
from qwenchat.cli.output import Output
from qwenchat.errors import CannotLoad, WrongUse
from qwenchat.i18n import _
from qwenchat.planning import Wishes
from qwenchat.program import Program, no_model
from qwenchat.text import whole


@click.command()
@click.argument("session", shell_complete=complete.sessions)
@click.argument("title", nargs=-1)
@click.option("--suggest", "by_model", is_flag=True, help="Let a model find the title, and print it.")
@click.option(
    "-m", "--model", default="", metavar="REF", shell_complete=complete.models, help="With --suggest: the model to ask."
)
@click.pass_obj
def rename(program: Program, session: str, title: tuple[str, ...], by_model: bool, model: str) -> None:
    """Give a conversation another title."""
    if bool(title) == by_model or (model and not by_model):
        raise click.UsageError(_("Give a title, or --suggest."))
    store = program.store
    found = store.session(store.shelf.resolve(session))
    words = whole(" ".join(title))
    if by_model:
        asked = program.model_to_ask(model, found)
        if not asked:
            raise no_model()
        words = asyncio.run(_suggested(program, asked, store.branch(found.leaf)))
        if not words:
            raise WrongUse(_("Nothing was asked in this conversation yet."), _("Give it a title yourself."))
    store.label(found.id, title=words)
    if by_model:
        Output.standard().data(words)


async def _suggested(program: Program, model: str, branch: Sequence[Message]) -> str:
    engine = program.engine(model, Wishes())
    try:
        return await suggest(engine, branch)
    except CannotLoad as error:
        advice = _("Let another model find it (-m), or give the conversation a title yourself.")
        raise CannotLoad(error.message, advice) from error
    finally:
        await engine.close()
