"""Finds out which dialect a server speaks, by asking, and makes the `ServerApi` for it.

First the list of models, which every server has and which waits while one loads; then, all at once, what only one kind
of server answers. Nothing is generated, and a server whose kind is set is not asked.
"""

import asyncio
import re
from urllib.parse import urlsplit

from qwenchat.chat.sampling import Dialect
from qwenchat.engines.remote.api import ServerApi
from qwenchat.engines.remote.http import RemoteHttp
from qwenchat.engines.remote.llama_server import LlamaServerApi
from qwenchat.engines.remote.ollama import OllamaApi
from qwenchat.engines.remote.openai import OpenAiApi
from qwenchat.engines.remote.vllm import VllmApi
from qwenchat.errors import RemoteError, RemoteRefused

PROBE_S = 3.0
"""Seconds that a server has for the questions that only some servers know."""
_DASHSCOPE = re.compile(r"(?:.*\.)?dashscope(?:-\w+)?\.aliyuncs\.com")
_PROBES = (
    (Dialect.LLAMA_SERVER, "/props", "default_generation_settings"),
    (Dialect.LM_STUDIO, "/api/v1/models", "models"),
    (Dialect.OLLAMA, "/api/version", "version"),
    (Dialect.VLLM, "/version", "version"),
)
"""Paths that one dialect alone has, and a field of the answer; the first that is there decides."""
_OWNERS = {"llamacpp": Dialect.LLAMA_SERVER, "vllm": Dialect.VLLM}
"""What servers call themselves in their list of models."""


async def server_api(http: RemoteHttp) -> ServerApi:
    """Return the interface of a server in its dialect, found out by asking where it is not set. Raises RemoteError."""
    dialect = http.server.dialect or await detect(http)
    if dialect is Dialect.LLAMA_SERVER:
        return LlamaServerApi(http)
    if dialect is Dialect.VLLM:
        return VllmApi(http)
    return chat_api(http, dialect)


def chat_api(http: RemoteHttp, dialect: Dialect) -> ServerApi:
    """Return the interface to a server's chat API, which takes messages and not tokens."""
    if dialect is Dialect.OLLAMA:
        return OllamaApi(http)
    return OpenAiApi(http, dialect)


async def detect(http: RemoteHttp) -> Dialect:
    """Return the dialect of a server. Raises RemoteError where it does not answer, or speaks no known dialect."""
    if _DASHSCOPE.fullmatch(urlsplit(http.server.url).hostname or ""):
        return Dialect.DASHSCOPE
    root, refusal = http.server.root, None
    try:
        owners = _owners(await http.get(f"{root}/v1/models"))
    except RemoteRefused as error:  # it has no such path, but perhaps others
        owners, refusal = set(), error
    for owner in owners & _OWNERS.keys():
        return _OWNERS[owner]
    found = await asyncio.gather(*(_has(http, root + path, field) for _dialect, path, field in _PROBES))
    for (dialect, _path, _field), is_there in zip(_PROBES, found, strict=True):
        if is_there:
            return dialect
    if refusal:
        raise refusal
    return Dialect.OPENAI


def _owners(listing: object) -> set[str]:
    """Return who the models of a list are owned by; that is no proof of anything, and may have any shape."""
    cards = listing.get("data") if isinstance(listing, dict) else None
    if not isinstance(cards, list):
        return set()
    return {str(card.get("owned_by")) for card in cards if isinstance(card, dict)}


async def _has(http: RemoteHttp, url: str, field: str) -> bool:
    """Return whether a path of a server answers with an object that has a field."""
    try:
        async with asyncio.timeout(PROBE_S):
            reply = await http.get(url)
    except (RemoteError, TimeoutError):
        return False
    return isinstance(reply, dict) and field in reply
