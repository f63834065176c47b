"""The server as an ASGI application: which paths there are, and who may use them.

On loopback it serves what was addressed to loopback: a page of a stranger that makes its own name resolve to this
machine is refused, and so is one that merely sends requests here. Anywhere else, requests need the key. There is no
CORS: no page in a browser may read an answer.
"""

import asyncio
import hmac
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qwenchat import __version__
from qwenchat.i18n import use_language
from qwenchat.net.addresses import is_loopback, origin
from qwenchat.runtime.served_models import ServedModels
from qwenchat.runtime.served_names import ServedNames
from qwenchat.server.answers import Answers
from qwenchat.server.api_errors import ApiError, api_error
from qwenchat.server.chat import Answered, ChatCompletions
from qwenchat.server.completions import Completions
from qwenchat.server.endpoint import BodyReader, Endpoint, error_reply, send_reply
from qwenchat.server.metrics import CONTENT_TYPE, Metrics
from qwenchat.server.requests import ChatRequest, CompletionRequest, DetokeniseRequest, TokeniseRequest
from qwenchat.server.tokens import TokenDoor

_OPEN = ("/health",)
"""Paths that need no key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who may use the server."""

    key: str = ""
    """What requests have to carry; empty where none is needed."""
    only_loopback: bool = True
    """Whether it listens at loopback alone."""

    def check(self, path: str, headers: Mapping[bytes, bytes]) -> None:
        """Raise ApiError for a request that may not be served."""
        host = headers.get(b"host", b"").decode("latin-1")
        if self.only_loopback and not is_loopback(origin(f"http://{host}")[1]):
            raise ApiError(403, "forbidden_host", "This server serves requests to localhost only.")
        sender = headers.get(b"origin", b"").decode("latin-1")
        if sender.startswith(("http:", "https:", "null")) and sender.partition("//")[2] != host:
            raise ApiError(403, "forbidden_origin", "Pages of other origins may not use this server.")
        if self.key and path not in _OPEN:
            given = headers.get(b"authorization", b"").decode("latin-1")
            scheme, _space, key = given.partition(" ")
            if scheme.lower() != "bearer" or not hmac.compare_digest(key.strip().encode(), self.key.encode()):
                challenge = {"www-authenticate": "Bearer"}
                raise ApiError(401, "invalid_api_key", "The API key is missing or wrong.", headers=challenge)


class App:
    """The application."""

    def __init__(
        self,
        served: ServedModels,
        names: ServedNames,
        access: Access,
        *,
        answered: Answered = lambda answer: None,
        bodies: BodyReader | None = None,
    ) -> None:
        """`answered` is called with each chat that was answered."""
        self._served, self._names, self._access = served, names, access
        self._metrics = Metrics()
        answers, bodies = Answers(served, self._metrics), bodies or BodyReader()
        self._tokens = tokens = TokenDoor(served, names)
        chat, completions = ChatCompletions(answers, names, answered), Completions(answers, names)
        posts: dict[str, ASGIApp] = {
            "/v1/chat/completions": Endpoint(chat.handle, ChatRequest, bodies),
            "/v1/completions": Endpoint(completions.handle, CompletionRequest, bodies),
            "/tokenize": Endpoint(tokens.tokenise, TokeniseRequest, bodies),
            "/detokenize": Endpoint(tokens.detokenise, DetokeniseRequest, bodies),
        }
        gets = {
            "/v1/models": self._models,
            "/v1/models/{name:path}": self._model,
            "/health": self._health,
            "/metrics": self._numbers,
            "/tokenizer_info": self._tokeniser,
        }
        self._paths = {*posts, *gets}
        self._router = Router(
            [
                *(Route(path, endpoint, methods=["POST"]) for path, endpoint in posts.items()),
                *(Route(path, endpoint, methods=["GET"]) for path, endpoint in gets.items()),
            ],
            redirect_slashes=False,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        use_language("en")
        path, has_begun = scope["path"], False

        async def counting(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                self._metrics.count_response(path if path in self._paths else "other", message["status"])
            await send(message)

        try:
            self._access.check(path, dict(scope["headers"]))
            await self._router({**scope, "app": self}, receive, counting)
        except HTTPException as refused:
            await send_reply(counting, error_reply(_of_router(refused)))
        except Exception as error:
            if not has_begun:
                await send_reply(counting, error_reply(api_error(error)))

    async def _models(self, _request: Request) -> Response:
        return _json({"object": "list", "data": await asyncio.to_thread(self._cards)})

    async def _model(self, request: Request) -> Response:
        name = request.path_params["name"]
        for card in await asyncio.to_thread(self._cards):
            if card["id"] == name:
                return _json(card)
        raise ApiError(404, "model_not_found", "There is no model of this name.", param="model")

    def _cards(self) -> list[dict[str, object]]:
        """Return the models as OpenAI's clients list them."""
        cards: list[dict[str, object]] = []
        for each in self._names.listed():
            card: dict[str, object] = {"id": each.name, "object": "model", "created": each.created}
            info = self._served.info if each.reference == self._served.reference else None
            card |= {"owned_by": "qwenchat", "loaded": info is not None}
            cards.append(card | ({"max_model_len": info.n_ctx} if info else {}))
        return cards

    async def _health(self, _request: Request) -> Response:
        return _json({"status": "ok", "version": __version__})

    async def _tokeniser(self, _request: Request) -> Response:
        return _json(await self._tokens.info())

    async def _numbers(self, _request: Request) -> Response:
        return Response(self._metrics.text(self._served), media_type=CONTENT_TYPE)


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


def _of_router(refused: HTTPException) -> ApiError:
    """Return the error for a path or a method that is not served."""
    if refused.status_code == 405:
        return ApiError(405, "method_not_allowed", "This path is not used with this method.")
    return ApiError(404, "unknown_url", "There is nothing at this path.")
