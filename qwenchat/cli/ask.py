"""`qwenchat ask`: one turn from the command line.

The prompt, piped input, files, schema and adapters are read and checked before a model is loaded. `ask_turn` asks, and
`ask_documents` reads; `ask_output` and `ask_markdown` show the answer, and `ask_tools` the calls of tools. What is not
needed to find the model is imported once its worker is starting.
"""

# ruff: noqa: PLC0415

import asyncio
import errno
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.decorators import FC
from msgspec import Struct, structs

from qwenchat.chat.ids import UUIDv7, unix_ms
from qwenchat.chat.message import FinishReason
from qwenchat.chat.sampling import PARAMETERS, Sampling
from qwenchat.chat.session import Session
from qwenchat.cli import completion
from qwenchat.cli.load_options import load_options, with_load_options
from qwenchat.cli.output import Output
from qwenchat.errors import ExitCode, FileError, NotFound, WrongUse
from qwenchat.i18n import _, reason_of
from qwenchat.models.reference import GuideReference
from qwenchat.runtime.load_options import LoadOptions
from qwenchat.runtime.model_choice import is_guide, model_to_ask, no_model, recommended_model
from qwenchat.runtime.program import Program
from qwenchat.text import files
from qwenchat.text.safe import encodable

if TYPE_CHECKING:
    from qwenchat.chat.ports import Engine
    from qwenchat.cli.ask_documents import NamedDocuments
    from qwenchat.sessions.store import Store


def _sampling_options(command: FC) -> FC:
    """Add an option for each sampling parameter. `Sampling.check` checks the values."""
    for parameter in reversed(PARAMETERS):
        option = click.option(f"--{parameter.label}", type=parameter.kind, help=f"{parameter.help}.")
        command = option(command)
    return command


@click.command()
@click.argument("prompt", nargs=-1)
@click.option(
    "-m",
    "--model",
    default="",
    metavar="REF",
    shell_complete=completion.models,
    help="Model: a size such as 7b:q4_k_m, a .gguf file, or @ENGINE/MODEL.",
)
@click.option("-s", "--system", default=None, help="System prompt.")
@click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Attach a file: text, PDF, Word, an e-book and others.",
)
@click.option(
    "--docs",
    multiple=True,
    metavar="PATH|NAME",
    shell_complete=completion.collections_or_files,
    help="Answer from this folder, file or collection (repeatable).",
)
@click.option(
    "--level", type=click.IntRange(1, 3), help="How documents are read: 1 by search, 2 every part, 3 step by step."
)
@click.option("--session", default="", metavar="ID", shell_complete=completion.sessions, help="Resume this session.")
@click.option("-c", "--continue", "continue_", is_flag=True, help="Resume the most recent session.")
@click.option("--no-save", is_flag=True, help="Do not save this session.")
@_sampling_options
@click.option("--stop", multiple=True, help="Stop sequence: text that ends the answer.")
@click.option("--schema", type=click.Path(path_type=Path), help="JSON Schema file that the answer must follow.")
@click.option("--tools/--no-tools", "tools", default=None, help="Let the model call tools, or not.")
@click.option(
    "--tool",
    "only",
    multiple=True,
    metavar="NAME",
    shell_complete=completion.tools,
    help="Let the model call this tool and no other (repeatable).",
)
@click.option(
    "--allow",
    multiple=True,
    metavar="NAME",
    shell_complete=completion.tools,
    help="Run calls of this tool without asking (repeatable).",
)
@with_load_options
@click.option("--complete", is_flag=True, help="Continue the text instead of answering it (base models).")
@click.option("--no-attach", is_flag=True, help="Load the model even if `qwenchat serve` has it loaded.")
@click.option("--json", "style", flag_value="json", help="One JSON object at the end.")
@click.option("--jsonl", "style", flag_value="jsonl", help="JSON events as they happen, one per line.")
@click.option("--raw", "style", flag_value="raw", help="Plain text; Markdown is not rendered.")
@click.option("-v", "--verbose", is_flag=True, help="Report tokens, speed and time to the first token.")
@click.pass_obj
def ask(program: Program, /, **options: Any) -> int:
    """Ask one question. Piped input is added to it."""
    if len([name for name in ("session", "continue_", "no_save") if options[name]]) > 1:
        raise WrongUse(
            _("--session, --continue and --no-save can't be combined."),
            _("Use one of them, or none to start a new session."),
        )
    _settle_tools(options)
    for name in ("docs", "level"):
        if options["complete"] and options[name]:
            raise WrongUse(
                _("{first} and {second} can't be combined.").format(first=f"--{name}", second="--complete"),
                _("Leave one of them out."),
            )
    question = Question.of(options)
    earlier = _earlier(program.store, options) if options["session"] or options["continue_"] else None
    model = model_to_ask(program, options["model"], earlier)
    if (options["files"] or options["docs"]) and is_guide(model or _guide(program)):
        from qwenchat.chat.answering import reads_no_documents

        raise reads_no_documents() if model else no_model()
    named = None
    if options["docs"]:
        from qwenchat.cli.ask_documents import documents_named

        named = documents_named(program, Output.standard(), options["docs"], saves=not options["no_save"])
    engine = program.engine(model or _guide(program), question.load_options_in(earlier))
    with asyncio.Runner() as runner:
        try:
            runner.run(engine.start())
            text = _prompt(options["prompt"], has_files=bool(options["files"]))  # it starts while this waits for a pipe
            question = structs.replace(question, text=text)
            asking = _ask(program, engine, question, model=model, earlier=earlier, named=named, options=options)
            return runner.run(asking)
        finally:
            runner.run(engine.close())


@click.pass_obj
def _ask_about_documents(program: Program, /, words: tuple[str, ...], **options: Any) -> int:
    from qwenchat.cli.ask_documents import collection_names

    *names, question = words
    if not (names or (names := collection_names(program))):
        raise NotFound(
            _("There are no collections yet."),
            _("To add documents to one: {command}").format(command="qwenchat docs add PATH"),
        )
    assert ask.callback is not None  # noqa: S101 - it is a command
    return int(ask.callback(prompt=(question,), docs=tuple(names), **options))


def documents_command() -> click.Command:
    """Return `qwenchat docs ask`: `ask` with the options that it has."""
    about = click.Argument(
        ["words"],
        nargs=-1,
        required=True,
        metavar="[NAME|PATH]... QUESTION",
        shell_complete=completion.collections_or_files,
    )
    return click.Command(
        "ask",
        params=[about, *(each for each in ask.params if each.name not in ("prompt", "docs"))],
        callback=_ask_about_documents,
        help="Ask about collections, folders and files; about all collections where none is named.",
    )


def _settle_tools(options: dict[str, Any]) -> None:
    """Switch tools on where one is named. Raises WrongUse for options that exclude each other."""
    if options["only"] or options["allow"]:
        if options["tools"] is False:
            raise WrongUse(_("--no-tools can't be combined with --tool or --allow."), _("Leave one of them out."))
        options["tools"] = True
    for name in ("schema", "complete"):
        if options["tools"] and options[name]:
            raise WrongUse(
                _("Tools can't be combined with {option}.").format(option=f"--{name}"), _("Leave one of them out.")
            )


class Question(Struct, frozen=True, kw_only=True):
    """A question with the options for its answer."""

    sampling: Sampling
    load_options: LoadOptions
    text: str = ""

    @classmethod
    def of(cls, options: dict[str, Any]) -> "Question":
        """Read and check the options before anything is loaded. Raises WrongUse or FileError."""
        numbers = {parameter.name: options[parameter.name] for parameter in PARAMETERS}
        schema = files.read(options["schema"]).text if options["schema"] else None
        if schema is not None and options["stop"]:
            raise WrongUse(
                _("--schema and --stop can't be combined: a stop sequence could cut the JSON off."),
                _("Leave one of them out."),
            )
        sampling = Sampling(**numbers, stop=tuple(map(encodable, options["stop"])), schema=schema).check()
        return cls(
            sampling=sampling,
            load_options=load_options(options, attach=not options["no_attach"]),
        )

    def load_options_in(self, earlier: Session | None) -> LoadOptions:
        """Return how the model is loaded for a session."""
        if earlier and self.load_options.ctx is None:
            return structs.replace(self.load_options, ctx=earlier.context)
        return self.load_options


def _prompt(words: Sequence[str], *, has_files: bool) -> str:
    """Return the question: the arguments, then the piped input. Raises WrongUse when there is nothing to ask."""
    piped = "" if sys.stdin is None or sys.stdin.isatty() else _piped_text()
    text = "\n\n".join(part for part in (" ".join(words), piped.strip("\n")) if part.strip())
    if not text and not has_files:
        raise WrongUse(_("There is no question."), _("Write it after `qwenchat ask`, or pipe it in."))
    return text


def _piped_text() -> str:
    """Return standard input as text, empty where it is open for writing only. Raises FileError when it is not text."""
    name = _("standard input")
    try:
        data = sys.stdin.buffer.read(files.SIZE_LIMIT + 1)
    except OSError as error:
        if error.errno == errno.EBADF or isinstance(error, io.UnsupportedOperation):  # as nohup leaves it
            return ""
        raise FileError(
            _("{file} can't be read: {reason}.").format(file=name, reason=reason_of(error)),
            _("Check the piped input, or add `</dev/null`."),
        ) from error
    return files.decode(data, name)


async def _ask(
    program: Program,
    engine: "Engine",
    question: Question,
    *,
    model: str,
    earlier: Session | None,
    named: "NamedDocuments | None",
    options: dict[str, Any],
) -> int:
    """Ask with the engine of `model`, which is empty for the guide, in the session `earlier` or in a new one."""
    from qwenchat.cli.ask_documents import read_files
    from qwenchat.cli.ask_turn import Asking
    from qwenchat.cli.consent import ask_to_send

    output = Output.standard()
    collections = named.collections if named else ()
    attachments = await read_files(output, options["files"], in_parts=named.files if named else ())
    if not model:
        output.say(_("No model is installed yet, so the built-in guide answers. It only knows about this program."))
        command = f"qwenchat models pull {recommended_model(program)}"
        output.say(_("To get a real model: {command}").format(command=command))
    ask_to_send(
        program,
        output,
        model,
        lambda: program.store.tree(earlier.id) if earlier else (),
        named=bool(options["model"]),
        has_documents=bool(attachments or collections or (earlier and earlier.collections)),
    )
    # A wrong model name, a schema that can't be followed and a wrong tool are refused before the store is touched.
    await engine.check(question.sampling)
    asking = Asking(program, output, engine, _session(program, options, earlier, model, collections), options)
    try:
        reason = await asking.answer(question.text, attachments, question.sampling, earlier)
    finally:
        await asking.close()
    return ExitCode.INTERRUPTED if reason is FinishReason.CANCELLED else ExitCode.DONE


def _guide(program: Program) -> str:
    """Return the reference of the built-in guide. The session does not record it as its model. Raises NotFound."""
    guide = GuideReference()
    if not program.library.find(guide):
        raise no_model()
    return str(guide)


def _session(
    program: Program, options: dict[str, Any], earlier: Session | None, model: str, collections: Sequence[str]
) -> Session:
    """Return the session to ask in, new or resumed, as the options want it; nothing is stored yet."""
    now = unix_ms()
    session = earlier or Session(id=UUIDv7()(), created=now, updated=now, system=encodable(program.settings.system))
    return structs.replace(
        session,
        model=model,
        system=session.system if options["system"] is None else encodable(options["system"]),
        tools=session.tools if options["tools"] is None else options["tools"],
        collections=tuple(dict.fromkeys((*session.collections, *collections))),
        level=session.level if options["level"] is None else options["level"],
    )


def _earlier(store: "Store", options: dict[str, Any]) -> Session:
    if options["session"]:
        return store.find_to_resume(options["session"])
    if (latest := store.listing.latest()) is None:
        raise NotFound(_("There is no session to resume."), _("Ask without -c to start one."))
    return latest
