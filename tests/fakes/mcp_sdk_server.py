"""A well-behaved MCP server of the official SDK, over standard input and output."""

import asyncio

from mcp.server.mcpserver import MCPServer

server = MCPServer("sdk")


@server.tool()
def echo(text: str) -> str:
    """Returns the text."""
    return text


@server.tool()
async def hang() -> str:
    """Never returns."""
    await asyncio.Event().wait()
    return ""


if __name__ == "__main__":
    server.run("stdio")
