"""The messages of the MCP protocol: requests, tools, results. Nothing is sent or received here.

Everything that comes from a server is hostile. A tool's description is cleaned and cut, and a tool whose schema can't
be given to a model is refused with the reason. Whether answers can be made to follow a schema is the engine's matter: a
schema that it can't enforce is still offered, and what the model writes is checked before the call (`arguments`).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import msgspec

from qwenchat import __version__
from qwenchat.chat.tools import ToolSpec
from qwenchat.i18n import _, in_language
from qwenchat.text import syntax
from qwenchat.text.clusters import cut
from qwenchat.text.safe import clean, clean_line, human_size
from qwenchat.tools.tool import ToolError

Wire = TypeVar("Wire")

HANDSHAKE_VERSION = "2025-11-25"
"""The newest version of the protocol whose connections begin with `initialize`."""
STATELESS_VERSION = "2026-07-28"
"""The version in which each request says what the handshake said."""
MESSAGE_LIMIT = 16 << 20
"""Bytes of one message."""
MOST_TOOLS = 128
"""Tools of one server; no model chooses among more, and their descriptions fill its context window."""
_MOST_PAGES = 100
_DESCRIPTION_LIMIT = 1_500
"""Characters."""
_SCHEMA_LIMIT = 16_384
"""Characters."""
_PROBLEMS = (msgspec.DecodeError, RecursionError, UnicodeError)
"""What decoding a message can raise."""


class ServerFault(Exception):
    """A server can't be started or reached, ended, or broke the protocol: words without a full stop.

    The words are made on demand: the user reads them in the user's language, the model in English.
    """

    def __init__(self, words: Callable[[], str]) -> None:
        super().__init__(in_language("en", words))
        self.words = words


class RequestRefused(ServerFault):
    """The server answered a request with an error; it is still usable."""

    def __init__(self, method: str, message: str, code: int = 0) -> None:
        said = clean_line(message, 500).rstrip(".") or str(code)
        super().__init__(lambda: _("it refused {method}: {message}").format(method=method, message=said))
        self.message, self.code = said, code


class ErrorBody(msgspec.Struct, frozen=True):
    """The error of a JSON-RPC response."""

    code: int = 0
    message: str = ""


class ServerMessage(msgspec.Struct, frozen=True):
    """A JSON-RPC message from a server: a request, a notification or a response."""

    id: int | str | None = None
    method: str = ""
    result: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()

    @property
    def refusal(self) -> RequestRefused | None:
        """The exception for a response that is an error."""
        if bytes(self.error) in (b"", b"null"):
            return None
        try:
            body = msgspec.json.decode(self.error, type=ErrorBody)
        except _PROBLEMS:
            body = ErrorBody()
        return RequestRefused("", body.message, body.code)


class Discovered(msgspec.Struct, frozen=True, rename="camel"):
    """The result of `server/discover`."""

    supported_versions: list[str] = []


class Annotations(msgspec.Struct, frozen=True, rename="camel"):
    """What a server claims about a tool."""

    read_only_hint: bool | None = None


class OfferedTool(msgspec.Struct, frozen=True, rename="camel"):
    """A tool, as a server describes it."""

    name: str
    title: str | None = None
    description: str | None = None
    input_schema: dict[str, object] = {}
    annotations: Annotations | None = None


class ToolPage(msgspec.Struct, frozen=True, rename="camel"):
    """The result of `tools/list`; each tool is decoded alone, so that a broken one spoils no other."""

    tools: list[msgspec.Raw] = []
    next_cursor: str | None = None


class Resource(msgspec.Struct, frozen=True, rename="camel"):
    """A resource within a result."""

    uri: str = ""
    text: str | None = None
    blob: str = ""
    mime_type: str | None = None


class Content(msgspec.Struct, frozen=True, rename="camel"):
    """One part of a result."""

    type: str
    text: str = ""
    data: str = ""
    mime_type: str | None = None
    name: str = ""
    uri: str = ""
    resource: Resource | None = None


class CallResult(msgspec.Struct, frozen=True, rename="camel"):
    """The result of `tools/call`."""

    content: list[Content] = []
    structured_content: object = None
    is_error: bool = False
    result_type: str = "complete"


class Connection(Protocol):
    """One connection to a server: opened once, closed once."""

    async def open(self) -> None:
        """Connect, and agree on a version of the protocol. Raises ServerFault; it must be closed even so."""
        ...

    @property
    def ended(self) -> bool:
        """Whether nothing more can be asked."""
        ...

    async def list_tools(self, cursor: str | None) -> ToolPage:
        """Return one page of the tools. Raises ServerFault."""
        ...

    async def call(self, name: str, arguments: Mapping[str, object]) -> CallResult:
        """Call a tool and return its result. Raises ServerFault. Cancelling it ends the call at the server, too."""
        ...

    async def close(self) -> None:
        """End the connection, and the server where it runs for this connection."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """How long a server may take, in seconds. The caller sets the limit of a call."""

    start: float = 60.0
    """For its first answer: it may have to be downloaded before."""
    list: float = 30.0
    ping: float = 3.0
    """For an answer after a call was cancelled; a server that gives none hangs, and is ended."""
    pause: float = 300.0
    """Before it is started again after it has failed several times in a row."""
    end: float = 1.5
    """For ending after its input has ended, and again after SIGTERM; then it is killed."""


@dataclass(frozen=True, slots=True)
class ToolDescription:
    """A tool that can be offered."""

    name: str
    """What the server calls it."""
    spec: ToolSpec
    writes: bool


@dataclass(frozen=True, slots=True)
class Offer:
    """The tools of a server: those that can be offered, and why the others can't be, in the user's language."""

    tools: Sequence[ToolDescription]
    refused: Mapping[str, str]
    """Reasons by the names of the tools."""


def client_info() -> dict[str, str]:
    """Return the name and the version that a server receives."""
    return {"name": "qwenchat", "version": __version__}


def stateless_meta() -> dict[str, object]:
    """Return what each request contains where there was no handshake."""
    prefix = "io.modelcontextprotocol/"
    return {
        f"{prefix}protocolVersion": STATELESS_VERSION,
        f"{prefix}clientInfo": client_info(),
        f"{prefix}clientCapabilities": {},
    }


def decoded(data: bytes | msgspec.Raw, kind: type[Wire]) -> Wire:
    """Return what a server sent. Raises ServerFault."""
    try:
        return msgspec.json.decode(data, type=kind)
    except _PROBLEMS as error:
        broken = error

        def words() -> str:
            return _("it broke the protocol: {detail}").format(
                detail=clean_line(syntax.fault(broken, bytes(data)), 200)
            )

        raise ServerFault(words) from error


def converted(values: object, kind: type[Wire]) -> Wire:
    """Return what a server sent and a library has decoded. Raises ServerFault."""
    return decoded(msgspec.json.encode(values), kind)


async def offer_of(connection: Connection, *, is_elsewhere: bool) -> Offer:
    """Return the tools of a server. Raises ServerFault.

    A server on another machine receives words of the chat, so all its tools count as writing ones.
    """
    tools: dict[str, ToolDescription] = {}
    refused: dict[str, str] = {}
    cursor, number = None, 0
    for _page in range(_MOST_PAGES):
        page = await connection.list_tools(cursor)
        for raw in page.tools:
            number += 1
            if len(tools) == MOST_TOOLS:
                refused["…"] = _("it has more than {count} tools; the others are left out").format(count=MOST_TOOLS)
                return Offer(tuple(tools.values()), refused)
            name = f"#{number}"
            try:
                tool = decoded(raw, OfferedTool)
                name = clean_line(tool.name, 64) or name
                if tool.name in tools:
                    raise _unusable(_("another tool has the same name"))
                tools[tool.name] = _described(tool, is_elsewhere=is_elsewhere)
            except ServerFault as fault:
                refused[name] = fault.words()
        cursor = page.next_cursor
        if not cursor:
            break
    return Offer(tuple(tools.values()), refused)


def _described(tool: OfferedTool, *, is_elsewhere: bool) -> ToolDescription:
    """Return a tool as the model sees it. Raises ServerFault for one that can't be offered.

    Only a server on this machine can say that a tool does not write.
    """
    if not tool.name.strip():
        raise _unusable(_("it has no name"))
    reads_only = tool.annotations is not None and tool.annotations.read_only_hint is True
    words = clean(tool.description or tool.title or "").strip()
    if len(words) > _DESCRIPTION_LIMIT:
        words = cut(words, _DESCRIPTION_LIMIT - 1).rstrip() + "…"
    spec = ToolSpec(name=clean_line(tool.name, 64), description=words, parameters=_schema(tool.input_schema))
    return ToolDescription(tool.name, spec, writes=is_elsewhere or not reads_only)


def _schema(schema: Mapping[str, object]) -> str:
    """Return the schema of a tool's arguments as JSON that can be drawn. Raises ServerFault for one that is no use."""
    if schema.get("type", "object") != "object":
        raise _unusable(_("the schema of its arguments is not one of an object"))
    text = json.dumps({"type": "object", **schema}, ensure_ascii=False)
    if len(text) > _SCHEMA_LIMIT:
        raise _unusable(_("the schema of its arguments is too large"))
    return "".join(each if clean(each) == each else f"\\u{ord(each):04x}" for each in text)


def _unusable(reason: str) -> ServerFault:
    return ServerFault(lambda: reason)


def text_of(result: CallResult) -> str:
    """Return what a model reads of a result. Raises ToolError where the tool says that it failed."""
    if result.result_type != "complete":
        raise ToolError("The tool wants more input than a call can give.")
    text = "\n".join(filter(None, map(_words, result.content)))
    if not text and result.structured_content is not None:
        text = json.dumps(result.structured_content, ensure_ascii=False)
    text = text or "The tool returned nothing."
    if result.is_error:
        raise ToolError(text)
    return text


def _words(content: Content) -> str:
    """Return one part of a result as text; what is no text is named."""
    kind = clean_line(content.mime_type or "", 60)
    match content.type:
        case "text":
            return content.text
        case "image" | "audio":
            return f"[{content.type} {kind}, {_size(content.data)}: it can't be shown to you]"
        case "resource_link":
            return f"[resource {clean_line(content.name)}: {clean_line(content.uri, 500)}]"
        case "resource" if content.resource:
            held = content.resource
            name = clean_line(held.uri, 500)
            if held.text is not None:
                return f"[resource {name}]\n{held.text}"
            return f"[resource {name}, {_size(held.blob)}: it can't be shown to you]"
    return f"[{clean_line(content.type, 60)}: it can't be shown to you]"


def _size(data: str) -> str:
    """Return the size of what is given in base64."""
    return human_size(len(data) * 3 // 4)
