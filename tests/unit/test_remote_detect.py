"""Which dialect a server speaks is found out by asking, with few requests and whatever it answers."""

import pytest

from qwenchat.chat.sampling import Dialect
from qwenchat.engines.remote.detect import detect, server_api
from qwenchat.engines.remote.http import RemoteHttp
from qwenchat.engines.remote.retry import ASK_ONCE
from qwenchat.engines.remote.server import RemoteServer
from qwenchat.errors import RemoteBusy, RemoteError, RemoteRefused, RemoteUnauthorised
from tests.fakes.standin_server import Reply, Then, json_reply, page_reply, standin_server

MODELS = json_reply({"object": "list", "data": [{"id": "m", "object": "model"}]})
NO_PATH = json_reply({"error": "Unexpected endpoint or method. (GET /props)"})
"""What LM Studio says with status 200."""
STALLS = Reply(then=Then.STALL)


async def asked(replies: dict[str, Reply], path: str = "") -> tuple[Dialect, list[str]]:
    """Return what a server with these replies is taken for, and which paths it was asked for."""
    async with standin_server() as server:
        for name, reply in replies.items():
            server.reply(name, reply)
        http = RemoteHttp(RemoteServer(name="lab", url=server.url + path), policy=ASK_ONCE)
        try:
            return await detect(http), sorted(each.path for each in server.asked)
        finally:
            await http.close()


@pytest.mark.parametrize("path", ["", "/v1"])
@pytest.mark.parametrize(
    ("replies", "dialect"),
    [
        ({"/props": json_reply({"default_generation_settings": {}})}, Dialect.LLAMA_SERVER),
        ({"/v1/models": json_reply({"data": [{"id": "m", "owned_by": "llamacpp"}]})}, Dialect.LLAMA_SERVER),
        ({"/version": json_reply({"version": "0.33.0"})}, Dialect.VLLM),
        ({"/v1/models": json_reply({"data": [{"id": "m", "owned_by": "vllm"}]})}, Dialect.VLLM),
        ({"/api/version": json_reply({"version": "0.9.0"})}, Dialect.OLLAMA),
        ({"/api/version": json_reply({"version": "0.9.0"}), "/v1/models": page_reply(status=404)}, Dialect.OLLAMA),
        ({"/api/v1/models": json_reply({"models": []}), "/props": NO_PATH, "/version": NO_PATH}, Dialect.LM_STUDIO),
        ({"/props": NO_PATH, "/api/version": json_reply(["version"]), "/version": page_reply()}, Dialect.OPENAI),
        ({"/v1/models": json_reply({"data": "odd"})}, Dialect.OPENAI),
        ({"/v1/models": json_reply({"data": [{"id": "m", "owned_by": {"odd": 1}}, 7]})}, Dialect.OPENAI),
    ],
)
async def test_a_dialect_is_recognised(replies: dict[str, Reply], dialect: Dialect, path: str) -> None:
    found, paths = await asked({"/v1/models": MODELS} | replies, path)
    assert found is dialect
    assert len(paths) <= 5


async def test_a_server_is_asked_once_where_its_list_of_models_says_what_it_is() -> None:
    replies = {"/v1/models": json_reply({"data": [{"id": "m", "owned_by": "llamacpp"}]}), "/props": STALLS}
    assert await asked(replies) == (Dialect.LLAMA_SERVER, ["/v1/models"])


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (
            json_reply({"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}, 503),
            RemoteBusy,
        ),
        (json_reply({"error": "no key"}, 401), RemoteUnauthorised),
        (page_reply(status=404), RemoteRefused),
        (page_reply(), RemoteError),
    ],
)
async def test_what_is_no_server_of_models_or_refuses_is_said(reply: Reply, error: type[RemoteError]) -> None:
    with pytest.raises(error):
        await asked({"/v1/models": reply})


@pytest.mark.parametrize(
    ("host", "dialect"),
    [("dashscope.aliyuncs.com", Dialect.DASHSCOPE), ("dashscope-intl.aliyuncs.com", Dialect.DASHSCOPE)],
)
async def test_a_hosted_server_is_recognised_by_its_name(host: str, dialect: Dialect) -> None:
    http = RemoteHttp(RemoteServer(name="lab", url=f"https://{host}/compatible-mode/v1"), offline=True)
    assert await detect(http) is dialect
    await http.close()


async def test_a_set_dialect_is_not_asked_for() -> None:
    http = RemoteHttp(RemoteServer(name="lab", url="https://far.example/v1", dialect=Dialect.VLLM), offline=True)
    assert (await server_api(http)).dialect is Dialect.VLLM
    await http.close()
