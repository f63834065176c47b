"""`qwenchat tools`: lists what models may call, tries a tool or a server, and adds and removes MCP servers.

Only `test` and `add` start a server or connect to one. What they do is what the user typed, so nothing is asked; what
the model of a chat calls is another matter (`ask_tools`).
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from qwenchat.chat.message import ToolCall, ToolResult
from qwenchat.chat.session import Session
from qwenchat.cli import completion
from qwenchat.cli.output import Output, shell_advice
from qwenchat.errors import ExitCode, NotFound, QwenchatError, WrongUse
from qwenchat.i18n import _, labelled, ngettext, sentences
from qwenchat.runtime.program import Program
from qwenchat.runtime.session_tools import SessionTools, built_in, no_such_tool
from qwenchat.text.safe import clean_line
from qwenchat.tools.mcp.server import McpServer, McpTool, Surroundings
from qwenchat.tools.mcp.settings import ServerFile, ToolServerSettings, found_in, load, put, wrong_entry
from qwenchat.tools.policy import Decision, Leave, PendingCall, Policy
from qwenchat.tools.tool import Tool
from qwenchat.tools.toolbox import ToolRunner, named

as_json = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.group()
def tools() -> None:
    """See and try what models may call: built-in tools and MCP servers."""


@tools.command(name="list")
@as_json
@click.pass_obj
def list_(program: Program, as_json: bool) -> None:
    """List the built-in tools and the MCP servers. No server is started."""
    output, file = Output.standard(), load(program.paths.tool_servers)
    rows = [_row(program, tool.spec.name, tool) for tool in built_in(program)]
    if as_json:
        broken = [{"name": name, "server": None, "off": None, "error": why} for name, why in file.problems.items()]
        usable = [
            {"name": name, "server": server.shown, "off": server.disabled, "error": None}
            for name, server in file.servers.items()
        ]
        output.json({"tools": rows, "servers": [*usable, *broken]})
        return
    _show_tools(output, rows)
    shown = [[name, server.shown, _("disabled") if server.disabled else ""] for name, server in file.servers.items()]
    shown += [[name, "", problem] for name, problem in file.problems.items()]
    if shown:
        output.table([_("MCP server"), _("command or URL"), ""], shown)


def _row(program: Program, name: str, tool: Tool) -> dict[str, Any]:
    rule = Policy(program.settings.tools.policy, _agree).rule(name, writes=tool.writes)
    return {"name": name, "description": tool.spec.description, "writes": tool.writes, "policy": rule}


def _show_tools(output: Output, rows: Sequence[Mapping[str, Any]]) -> None:
    output.table([_("tool"), _("policy"), ""], [[row["name"], row["policy"], row["description"]] for row in rows])


@tools.command()
@click.argument("name", shell_complete=completion.tools_and_servers)
@click.argument("arguments", default="")
@as_json
@click.pass_obj
def test(program: Program, name: str, arguments: str, as_json: bool) -> int:
    """Start an MCP server and list its tools, or call a tool.

    ARGUMENTS are a JSON object, such as '{"expression": "37*41"}'. A tool of a server is named SERVER__TOOL.
    """
    output, file = Output.standard(), load(program.paths.tool_servers)
    if name in file.problems:
        raise wrong_entry(name, file.problems[name], program.paths.tool_servers)
    if name in file.servers and not arguments:
        answer = asyncio.run(_answer(program, name, file.servers[name]))
        _show_answer(output, answer, as_json=as_json)
        if answer.error:
            raise answer.error
        return ExitCode.DONE
    result = asyncio.run(_call(program, name, arguments))
    if as_json:
        output.json({"name": name, "result": result.text, "is_error": result.is_error, "took_ms": result.took_ms})
    elif result.is_error:
        output.say(result.text)
    else:
        output.data(result.text)
    return ExitCode.USAGE if result.is_error else ExitCode.DONE


async def _call(program: Program, name: str, arguments: str) -> ToolResult:
    """Call a tool, whatever the settings say about models. Raises WrongUse where there is none of that name."""
    session_tools = SessionTools(program, _agree_in, is_private=lambda _id: False)
    try:
        found = await session_tools.all()
        if name not in found:
            raise no_such_tool(name, found)
        runner = ToolRunner({name: found[name]}, Policy({}, _agree, granted=(name,)))
        return await runner.run(ToolCall("", name, arguments))
    finally:
        await session_tools.close()


async def _agree(_pending: PendingCall) -> Decision:
    return Decision(Leave.ONCE)


async def _agree_in(_session: Session, pending: PendingCall) -> Decision:
    return await _agree(pending)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAnswer:
    """What a server answered when it was asked for its tools."""

    name: str
    shown: str
    tools: Sequence[Mapping[str, Any]] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    error: QwenchatError | None = None

    @property
    def as_json(self) -> dict[str, Any]:
        """As the commands print it."""
        error = self.error
        said = error and {"code": error.code, "message": error.message, "advice": shell_advice(error)}
        return {
            "name": self.name,
            "server": self.shown,
            "tools": list(self.tools),
            "refused": dict(self.refused),
            "error": said,
        }


async def _answer(program: Program, name: str, settings: ToolServerSettings) -> ServerAnswer:
    """Start a server, ask it for its tools and end it."""
    surroundings = Surroundings(
        environ=program.environ, log_folder=program.paths.logs, offline=program.settings.hub.offline
    )
    server = McpServer(name, settings, surroundings)
    try:
        offer = await server.checked_offer()
    except QwenchatError as error:
        return ServerAnswer(name=name, shown=settings.shown, error=error)
    finally:
        await server.close()
    found = named((), {name: [McpTool(server, each) for each in offer.tools]})
    rows = [_row(program, known_as, tool) for known_as, tool in found.items()]
    return ServerAnswer(name=name, shown=settings.shown, tools=rows, refused=offer.refused)


def _show_answer(output: Output, answer: ServerAnswer, *, as_json: bool) -> None:
    """Print what a server offers; its error is the caller's."""
    if as_json:
        output.json(answer.as_json)
    elif not answer.error:
        words = ngettext("{name} offers {count} tool.", "{name} offers {count} tools.", len(answer.tools))
        output.say(words.format(name=clean_line(answer.name), count=len(answer.tools)))
        _show_tools(output, answer.tools)
        for tool, reason in answer.refused.items():
            output.say(labelled(clean_line(tool), reason))


@tools.command(context_settings={"allow_interspersed_args": False})
@click.argument("name", required=False, default="")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--url", default="", help="URL of a server elsewhere, instead of a command.")
@click.option("--env", multiple=True, metavar="NAME=VALUE", help="Environment variable of the command (repeatable).")
@click.option("--header", multiple=True, metavar="NAME=VALUE", help="Header for the URL (repeatable).")
@click.option(
    "--from", "file", type=click.Path(path_type=Path), help="Take servers from another program's file; NAME: only this."
)
@click.option("--no-test", is_flag=True, help="Do not start it or connect to it.")
@as_json
@click.pass_obj
def add(program: Program, /, **options: Any) -> None:
    """Add an MCP server: a COMMAND on this machine, a URL, or those in another program's file.

    Options come before NAME. A value such as ${TOKEN} stands for an environment variable, so that no secret is written
    into the file.
    """
    output = Output.standard()
    found = _found(options) if options["file"] else ServerFile({options["name"]: _given(options)})
    known = load(program.paths.tool_servers)
    for name in found.servers:
        if name in known.servers or name in known.problems:
            raise WrongUse(
                _("There is an MCP server named {name} already.").format(name=clean_line(name)),
                _("Remove it first with `qwenchat tools remove {name}`, or use another name.").format(name=name),
            )
    for name, problem in found.problems.items():
        output.say(wrong_entry(name, problem).message)
    for name, settings in found.servers.items():
        put(program.paths.tool_servers, name, settings)
    answers = [
        ServerAnswer(name=name, shown=settings.shown)
        if options["no_test"] or settings.disabled
        else asyncio.run(_answer(program, name, settings))
        for name, settings in found.servers.items()
    ]
    if options["as_json"]:
        output.json([answer.as_json for answer in answers])
        return
    for answer in answers:
        output.say(labelled(_("Saved"), f"{clean_line(answer.name)} ({answer.shown})"))
        if answer.error:
            output.say(sentences(answer.error.message, shell_advice(answer.error)))
        elif not options["no_test"]:
            _show_answer(output, answer, as_json=False)


def _found(options: Mapping[str, Any]) -> ServerFile:
    """Return the servers of another program's file, or the one that is named. Raises NotFound, FileError, WrongUse.

    What can't be used is reported with the others, and refused where it is all that was asked for.
    """
    found, name = found_in(options["file"]), options["name"]
    if options["url"] or options["command"] or options["env"] or options["header"]:
        raise WrongUse(_("--from takes no command and no other options."), _("Leave them out."))
    if found.servers and not name:
        return found
    name = name or next(iter(found.problems))
    if name in found.problems:
        raise wrong_entry(name, found.problems[name], options["file"])
    if name not in found.servers:
        raise NotFound(
            _("{file} has no tool server named {name}.").format(file=options["file"], name=clean_line(name)),
            _("Leave the name out to add all of them."),
        )
    return ServerFile({name: found.servers[name]})


def _given(options: Mapping[str, Any]) -> ToolServerSettings:
    """Return the server that the options describe. `put` checks the rest. Raises WrongUse."""
    command, *arguments = options["command"] or [""]
    if bool(command) == bool(options["url"]) or not options["name"]:
        raise WrongUse(
            _("An MCP server needs a name, and either a command or a URL."),
            _("For example: {command}").format(command="qwenchat tools add notes uvx notes-server"),
        )
    return ToolServerSettings(
        command=command,
        args=tuple(arguments),
        env=dict(map(_pair, options["env"])),
        url=options["url"],
        headers=dict(map(_pair, options["header"])),
    )


def _pair(words: str) -> tuple[str, str]:
    name, equals, value = words.partition("=")
    if not (name and equals):
        raise WrongUse(_("{words} is not NAME=VALUE.").format(words=clean_line(words)), _("Correct it."))
    return name, value


@tools.command()
@click.argument("name", shell_complete=completion.tool_servers)
@as_json
@click.pass_obj
def remove(program: Program, name: str, as_json: bool) -> None:
    """Remove an MCP server from qwenchat. The server itself stays as it is."""
    output, file = Output.standard(), load(program.paths.tool_servers)
    if name not in file.servers and name not in file.problems:
        raise NotFound(
            _("There is no MCP server named {name}.").format(name=clean_line(name)),
            _("`qwenchat tools list` shows them."),
        )
    put(program.paths.tool_servers, name, None)
    shown = file.servers[name].shown if name in file.servers else ""
    if as_json:
        output.json({"name": name, "server": shown})
    else:
        output.say(labelled(_("Removed"), clean_line(f"{name} ({shown})")))
