"""`qwenchat sessions show` and `search`: print one session, and search all of them.

On a terminal, answers are drawn as Markdown. Text is never interpreted as control sequences or as rich's markup.
"""

from typing import TYPE_CHECKING

import click
import msgspec

from qwenchat.chat.message import Message, Part, Role, Text, ToolCall, summary_heading
from qwenchat.chat.session import Session
from qwenchat.cli import completion
from qwenchat.cli.ask_documents import citations_json
from qwenchat.cli.ask_output import calls_json
from qwenchat.cli.output import Output, iso_time, local_time
from qwenchat.i18n import _, labelled, ngettext
from qwenchat.runtime.program import Program
from qwenchat.sessions.reading_order import part_block, part_label, to_read
from qwenchat.sessions.search import MANY, Hit, SearchResults
from qwenchat.text.safe import clean, clean_line

if TYPE_CHECKING:
    from qwenchat.markdown.lines import Run
    from qwenchat.markdown.palette import Palette


@click.command()
@click.argument("session", shell_complete=completion.sessions)
@click.option("--full", is_flag=True, help="Print reasoning and tool calls in full, instead of one line each.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def show(program: Program, session: str, full: bool, as_json: bool) -> None:
    """Print the last open branch of a session."""
    output, store = Output.standard(), program.store
    found = store.session(store.listing.resolve(session))
    branch = store.branch(found.leaf)
    if as_json:
        output.json(_as_json(found, branch))
    elif output.on_terminal:
        _draw(program, output, found, branch, full=full)
    else:
        output.data(_plain(program, found, branch, full=full))


@click.command()
@click.argument("words", nargs=-1, required=True)
@click.option("--limit", type=click.IntRange(1, 2**31 - 1), default=20, show_default=True, help="Number of messages.")
@click.option("--offset", type=click.IntRange(0, 2**31 - 1), default=0, help="Number of messages to skip.")
@click.option("--trash", is_flag=True, help="Search the trash instead.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def search(program: Program, *, words: tuple[str, ...], limit: int, offset: int, trash: bool, as_json: bool) -> None:
    """Search all sessions.

    Narrow the search with role:user, model:7b, before:2025-03, after:2025-01-31, tag:work and in:SESSION; in:reasoning
    searches the reasoning before answers instead of messages. Put an exact phrase in quotes.
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
            (hit.session, hit.message or "", hit.role or "title", iso_time(hit.created), hit.excerpt.text)
            for hit in found.hits
        ]
        output.table([], rows)
    if not found.hits:
        output.say(_("Nothing found."))
    elif found.messages > offset + limit:
        count = f"{MANY:,}+" if found.messages >= MANY else str(found.messages)
        output.say(ngettext("{count} message in all.", "{count} messages in all.", found.messages).format(count=count))


def _typed(words: tuple[str, ...]) -> str:
    """Return the query as typed: an argument with spaces was in quotes, which the shell removed."""
    return " ".join(f'"{word}"' if " " in word and '"' not in word and ":" not in word else word for word in words)


def _speaker(program: Program, message: Message) -> str:
    if message.summarises:
        return summary_heading(message)
    if message.role is Role.USER:
        return _("You")
    name = program.model_name(message.model) or _("Assistant")
    return f"{name} ({message.host})" if message.host else name


def _block(part: Part, full: bool) -> str:
    """Return a part as plain text; one that is not text as one line, unless `full`."""
    if full or isinstance(part, Text):
        return part_block(part).rstrip()
    words = part.arguments if isinstance(part, ToolCall) else part.text
    return _("[{label} · {count:,} characters]").format(label=part_label(part), count=len(words))


def _plain(program: Program, session: Session, branch: list[Message], *, full: bool) -> str:
    parts = [session.title] if session.title else []
    for message in branch:
        files = [_("[file: {name}]").format(name=clean_line(file.name)) for file in message.attachments]
        blocks = [_block(part, full) for part in to_read(message.parts)]
        parts.append("\n".join([labelled(_speaker(program, message), "").rstrip(), *files, "\n\n".join(blocks)]))
    return clean("\n\n".join(parts))


def _draw(program: Program, output: Output, session: Session, branch: list[Message], *, full: bool) -> None:
    from rich.console import Console  # noqa: PLC0415 - for terminals only

    from qwenchat.cli.drawing import literal, markdown, words  # noqa: PLC0415
    from qwenchat.markdown.palette import Palette  # noqa: PLC0415

    console, palette = Console(file=output.out), Palette.of_terminal()
    console.print(words((clean_line(session.title), palette.heading)))
    console.print()
    for message in branch:
        is_question = message.role is Role.USER
        head = [(clean_line(_speaker(program, message)), palette.you if is_question else palette.model)]
        head.append((f"  {local_time(message.created)}", palette.muted))
        if message.status != "complete":
            head.append((f"  {message.status}", palette.warning))
        console.print(words(*head))
        for file in message.attachments:
            console.print(words((_("[file: {name}]").format(name=clean_line(file.name)), palette.muted)))
        for part in to_read(message.parts):
            text = clean(_block(part, full))
            if isinstance(part, Text):
                console.print(literal(text) if is_question else markdown(text, palette), crop=False)
            else:
                console.print(literal(text, palette.muted))
            console.print()
        if not message.parts:
            console.print()


def _draw_hits(program: Program, output: Output, found: SearchResults) -> None:
    from rich.console import Console  # noqa: PLC0415 - for terminals only
    from rich.style import Style  # noqa: PLC0415

    from qwenchat.cli.drawing import words  # noqa: PLC0415
    from qwenchat.markdown.palette import Palette  # noqa: PLC0415

    console, palette, above = Console(file=output.out), Palette.of_terminal(), ""
    for hit in found.hits:
        excerpt = _marked(hit, palette)
        if hit.session != above:
            bold = Style(bold=True)
            title = (
                [(clean_line(hit.title), bold)] if hit.message else [(text, bold + style) for text, style in excerpt]
            )
            console.print(words((program.store.listing.short(hit.session), palette.link), ("  ", palette.text), *title))
            above = hit.session
        if hit.message:
            console.print(words((f"  {local_time(hit.created)}  ", palette.muted), *excerpt))


def _marked(hit: Hit, palette: "Palette") -> "list[Run]":
    """Return a hit's excerpt, in which the words that were found stand out."""
    runs: list[Run] = []
    at = 0
    for start, end in hit.excerpt.marks:
        runs += [(hit.excerpt.text[at:start], palette.text), (hit.excerpt.text[start:end], palette.found)]
        at = end
    return [*runs, (hit.excerpt.text[at:], palette.text)]


def _as_json(session: Session, branch: list[Message]) -> dict[str, object]:
    return {
        "id": session.id,
        "title": session.title,
        "created": iso_time(session.created),
        "updated": iso_time(session.updated),
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
        **({"reasoning": message.reasoning} if message.reasoning else {}),
        **({"tool_calls": calls} if (calls := calls_json(message)) else {}),
        **({"citations": citations_json(message)} if message.citations else {}),
        "status": message.status,
        "created": iso_time(message.created),
        "finished": None if message.finished is None else iso_time(message.finished),
        "model": message.model,
        **({"host": message.host} if message.host else {}),
        "finish_reason": message.finish_reason,
        "usage": msgspec.to_builtins(message.usage),
        "timings": msgspec.to_builtins(message.timings),
        "attachments": [
            {
                "name": file.name,
                "media_type": file.media_type,
                "bytes": len(file.data),
                "sha256": file.digest,
                "in_parts": file.in_parts,
            }
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
        "created": iso_time(hit.created),
        "excerpt": hit.excerpt.text,
        "marks": [list(mark) for mark in hit.excerpt.marks],
    }
