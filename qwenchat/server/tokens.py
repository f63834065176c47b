"""`/tokenize`, `/detokenize` and `/tokenizer_info`, in the fields of llama-server and of vLLM alike.

Harnesses make their prompts with these, so that they need no tokenizer of their own.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from qwenchat.chat.ports import Mode
from qwenchat.chat.prompt import Turn
from qwenchat.engines.local.engine import LocalEngine
from qwenchat.errors import EngineDied
from qwenchat.runtime.served_models import ServedModels
from qwenchat.runtime.served_names import ServedNames
from qwenchat.server.api_errors import invalid, unsupported
from qwenchat.server.chat_messages import read_chat
from qwenchat.server.endpoint import Reply, as_json
from qwenchat.server.requests import DetokeniseRequest, TokeniseRequest


class TokenDoor:
    """Turns texts and chats into the tokens of a model, and back."""

    def __init__(self, served: ServedModels, names: ServedNames) -> None:
        self._served, self._names = served, names

    async def tokenise(self, request: TokeniseRequest) -> Reply:
        """Return the tokens of a text or of a chat. Raises ApiError, and what `ServedModels.grant` raises."""
        text = request.content if request.prompt is None else request.prompt
        if request.messages:
            chat = read_chat(request.messages, request.tools or ())
            turns, mode = chat.turns, chat.mode
        elif text is not None:
            turns, mode = (Turn("user", text),), Mode.COMPLETE if request.parse_special is False else Mode.RAW
        else:
            raise invalid("content", "There is neither a text nor a chat.")
        async with self._engine(request.model) as (engine, n_ctx):
            ids = await engine.tokens(turns, mode) if text or request.messages else ()
        return as_json({"tokens": ids, "count": len(ids), "max_model_len": n_ctx})

    async def detokenise(self, request: DetokeniseRequest) -> Reply:
        """Return the text of tokens. Raises as `tokenise` does."""
        async with self._engine(request.model) as (engine, _n_ctx):
            text = await engine.text(request.tokens)
        return as_json({"content": text, "prompt": text})

    async def info(self) -> dict[str, str | None]:
        """Return the special texts of the default model, as vLLM does. Raises as `tokenise` does."""
        async with self._engine(None) as (engine, _n_ctx):
            if engine.loaded is None:
                raise EngineDied("The model was unloaded.")
            ready = engine.loaded.ready
        return {
            "bos_token": ready.bos or None,
            "eos_token": ready.eos or None,
            "pad_token": None,
            "chat_template": ready.chat_template or None,
        }

    @asynccontextmanager
    async def _engine(self, model: str | None) -> AsyncIterator[tuple[LocalEngine, int]]:
        reference = await asyncio.to_thread(self._names.resolve, model or "")
        async with self._served.grant(reference) as granted:
            if not isinstance(granted.engine, LocalEngine):
                raise unsupported("model", "The engine of this model does not say how it makes tokens.")
            yield granted.engine, granted.info.n_ctx
