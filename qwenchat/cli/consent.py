"""Asks before a command sends a chat to another machine for the first time. `RemoteEngines` has the rule."""

import shlex
import sys
from collections.abc import Callable, Iterable

import click

from qwenchat.chat.message import Message
from qwenchat.cli.output import Output, is_terminal
from qwenchat.errors import WrongUse
from qwenchat.i18n import _
from qwenchat.models.reference import remote_in
from qwenchat.runtime.program import Program
from qwenchat.text.safe import clean_line


def ask_to_send(
    program: Program,
    output: Output,
    model: str,
    messages: Callable[[], Iterable[Message]],
    *,
    named: bool,
    has_documents: bool = False,
) -> None:
    """Return when a chat may be sent to a model; where it goes to another machine, say to which one.

    `messages` reads the chat, if it has any; its documents are sent as its words are. A model that was `named` on the
    command line was agreed to. Raises click.Abort for a no, and WrongUse without a terminal to ask on.
    """
    if named or not remote_in(model):
        return
    remote = program.remote_engines
    if not remote.may_ask(model) or not remote.host_to_confirm(model, ()):
        return
    host, name = clean_line(remote.host_of(model)), clean_line(model, 1000)
    if not remote.host_to_confirm(model, messages()):
        output.say(_("{model} answers on {host}.").format(model=name, host=host))
        return
    if not is_terminal(sys.stdin):
        raise WrongUse(
            _("{model} is on {host}, and this chat was never sent there.").format(model=name, host=host),
            _("To send it, name the model: -m {model}").format(model=shlex.quote(name)),
        )
    words = (
        _("Send this chat and its documents to {host}, for {model} to answer?")
        if has_documents
        else _("Send this chat to {host}, for {model} to answer?")
    )
    click.confirm(words.format(host=host, model=name), abort=True, err=True)
