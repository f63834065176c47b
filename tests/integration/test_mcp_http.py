"""MCP servers that are reached by a URL: a real one of the SDK on loopback, and one that misbehaves."""

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp_types import ToolAnnotations

from qwenchat.tools.mcp.protocol import MESSAGE_LIMIT, ServerLimits
from qwenchat.tools.mcp.server import McpServers, ServerTools, Surroundings
from qwenchat.tools.mcp.settings import ToolServerSettings
from qwenchat.tools.tool import ToolError
from tests.fakes.standin_server import Asked, Reply, Then, json_reply, page_reply, standin_server

KEY = "s3cr3t-value"


def notes() -> MCPServer:
    server = MCPServer("notes")
    hanging = asyncio.Event()

    @server.tool(annotations=ToolAnnotations(read_only_hint=True), structured_output=False)
    def echo(text: str) -> str:
        """Returns the text."""
        return text

    @server.tool()
    def weather(place: str) -> dict[str, int]:
        """Returns the weather."""
        if place == "nowhere":
            raise ValueError("no such place")
        return {place: 21}

    @server.tool()
    async def hang() -> str:
        """Never returns."""
        await hanging.wait()
        return ""

    return server


@asynccontextmanager
async def served(server: MCPServer, *, as_json: bool = False, stateless: bool = False) -> AsyncIterator[str]:
    """Serve a server on loopback, and give its URL."""
    app = server.streamable_http_app(json_response=as_json, stateless_http=stateless)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        web = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=0))
        task = asyncio.create_task(web.serve([listening]))
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
        finally:
            web.should_exit = True
            await task


@asynccontextmanager
async def running(url: str, limits: ServerLimits | None = None) -> AsyncIterator[ServerTools]:
    entry = ToolServerSettings(url=url, headers={"Authorization": f"Bearer {KEY}"})
    limits = limits or ServerLimits(end=0.5)
    servers = McpServers(Surroundings(environ=dict(os.environ), limits=limits))
    try:
        yield await servers.tools({"web": entry})
    finally:
        await servers.close()


async def call(found: ServerTools, name: str, **arguments: object) -> str:
    return await next(tool for tool in found.tools["web"] if tool.spec.name == name).run(arguments)


@pytest.mark.parametrize("options", [{}, {"as_json": True}, {"stateless": True}])
async def test_tools_of_a_real_server_are_listed_and_called(options: dict[str, bool]) -> None:
    async with served(notes(), **options) as url, running(url) as found:
        assert not found.problems
        echo, weather, _hang = found.tools["web"]
        assert (echo.spec.name, echo.spec.description, echo.writes) == ("echo", "Returns the text.", False)
        assert '"required": ["text"]' in echo.spec.parameters
        assert weather.writes
        assert await call(found, "echo", text="你好\n") == "你好\n"
        assert '"Paris": 21' in await call(found, "weather", place="Paris")
        with pytest.raises(ToolError, match="Error executing tool weather"):
            await call(found, "weather", place="nowhere")
        many = await asyncio.gather(*(call(found, "echo", text=str(number)) for number in range(20)))
        assert many == [str(number) for number in range(20)]


async def test_a_call_can_be_cancelled_and_the_server_still_answers() -> None:
    async with served(notes()) as url, running(url) as found:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await call(found, "hang")
        assert await call(found, "echo", text="still here") == "still here"


async def test_a_server_that_was_started_again_is_connected_to_again() -> None:
    answers = [True]

    def reply(asked: Asked) -> Reply:
        message = asked.json if asked.body else {}
        match message.get("method"):
            case "initialize":
                result = {
                    "protocolVersion": "2025-06-18",
                    "capabilities": {},
                    "serverInfo": {"name": "n", "version": "1"},
                }
                return json_reply(
                    {"jsonrpc": "2.0", "id": message["id"], "result": result}, Mcp_Session_Id=f"s{len(answers)}"
                )
            case "tools/list":
                tool = {"name": "echo", "inputSchema": {"type": "object"}}
                return json_reply({"jsonrpc": "2.0", "id": message["id"], "result": {"tools": [tool]}})
            case "tools/call" if asked.headers["mcp-session-id"] == f"s{len(answers)}":
                return json_reply({"jsonrpc": "2.0", "id": message["id"], "result": {"content": []}})
            case "notifications/initialized":
                return Reply(status=202)
        return json_reply({}, 404 if asked.headers.get("mcp-session-id") else 400)

    async with standin_server() as web:
        web.reply("/mcp", reply)
        async with running(f"{web.url}/mcp") as found:
            assert await call(found, "echo") == "The tool returned nothing."
            answers.append(True)
            with pytest.raises(ToolError):
                await call(found, "echo")
            assert await call(found, "echo") == "The tool returned nothing."


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (json_reply({"error": KEY}, 401), "it answered with the HTTP status 401"),
        (page_reply(), "it refused initialize: Unexpected content type: text/html; charset=utf-8"),
        (json_reply({"no": "JSON-RPC"}), "it refused initialize: Failed to parse JSON response"),
        (Reply(pieces=(b"x" * (1 << 20) for _ in range((MESSAGE_LIMIT >> 20) + 1))), "the response is too large"),
        (Reply(headers={"Content-Encoding": "gzip"}, pieces=(b"x",)), "compressed"),
        (Reply(then=Then.RESET), "it can't be reached"),
        (Reply(status=302, headers={"Location": f"http://127.0.0.2/{KEY}"}), "Redirect to http://127.0.0.2"),
    ],
)
async def test_a_server_that_misbehaves_is_a_reason_without_secrets(reply: Reply, reason: str) -> None:
    async with standin_server() as web:
        web.reply("/mcp", reply)
        async with running(f"{web.url}/mcp?key={KEY}") as found:
            assert reason in found.problems["web"]
            assert KEY not in found.problems["web"]
            assert web.asked[0].headers["authorization"] == f"Bearer {KEY}"


async def test_a_server_that_never_answers_is_given_up() -> None:
    async with standin_server() as web:
        web.reply("/mcp", Reply(then=Then.STALL))
        async with running(f"{web.url}/mcp", ServerLimits(start=0.3, end=0.2)) as found:
            assert found.problems["web"] == "it does not answer"


async def test_nobody_listens() -> None:
    async with running("http://127.0.0.1:1/mcp") as found:
        assert found.problems["web"].startswith("it can't be reached: ")


async def test_the_sdk_writes_nothing_on_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("mcp").setLevel(logging.NOTSET)
    async with standin_server() as web:
        web.reply("/mcp", json_reply([], 500))
        async with running(f"{web.url}/mcp"):
            pass
    assert capfd.readouterr() == ("", "")


def test_without_the_sdk_one_line_says_what_to_install() -> None:
    script = (
        "import sys, asyncio\nsys.modules['mcp'] = None\n"
        "from qwenchat.tools.mcp.server import McpServers, Surroundings\n"
        "from qwenchat.tools.mcp.settings import ToolServerSettings\n"
        "found = McpServers(Surroundings(environ={})).tools({'web': ToolServerSettings(url='http://127.0.0.1/')})\n"
        "print(asyncio.run(found).problems)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "pip install 'qwenchat[mcp]'" in done.stdout


def test_servers_on_this_machine_need_no_sdk() -> None:
    script = (
        "import sys, qwenchat.tools.mcp.server\nprint([m for m in ('mcp', 'pydantic', 'httpx2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
