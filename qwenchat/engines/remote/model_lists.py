"""The models that servers with chat APIs of OpenAI's kind offer, with their windows, as far as these are known.

OpenAI's own list says nothing of windows; some servers add a field, LM Studio has a list of its own and loads models on
demand, and of what DashScope hosts there is only documentation (`dashscope.json`).
"""

from functools import cache
from importlib.resources import files
from typing import Protocol

import msgspec
from msgspec.structs import replace

from qwenchat.engines.remote.api import LOAD_S, ServedModel, find_model, shaped
from qwenchat.engines.remote.http import RemoteHttp
from qwenchat.errors import RemoteRefused
from qwenchat.text.safe import clean_line


class ServedModelList(Protocol):
    """The models of one server."""

    def __init__(self, http: RemoteHttp, url: str) -> None:
        """`url`: where the interface of OpenAI's kind begins."""
        ...

    async def models(self) -> list[ServedModel]:
        """Return the models that the server offers now. Raises RemoteError."""
        ...

    async def prepared(self, model: str, n_ctx: int) -> ServedModel:
        """Return a model, with the window that requests will have; `n_ctx` as for `ServerApi.prepare`.

        Raises NotFound, and RemoteError.
        """
        ...


class OpenAiList:
    """Implements `ServedModelList` with OpenAI's own list."""

    def __init__(self, http: RemoteHttp, url: str) -> None:
        self._http, self._url = http, url

    async def models(self) -> list[ServedModel]:
        reply = await self._http.get(f"{self._url}/models")
        return [card.served() for card in shaped(self._http.server, reply, _OpenAiCards).data]

    async def prepared(self, model: str, n_ctx: int) -> ServedModel:
        """Some servers list nothing, and others take names that they do not list: only a request shows."""
        try:
            listed = await self.models()
        except RemoteRefused:
            listed = []
        served = next((each for each in listed if each.id == model), ServedModel(id=model))
        return replace(served, n_ctx=min(n_ctx or served.n_ctx, served.n_ctx or n_ctx))


class LmStudioList:
    """Implements `ServedModelList` with LM Studio's own list."""

    def __init__(self, http: RemoteHttp, url: str) -> None:
        self._http, self._root = http, http.server.root
        self._plain = OpenAiList(http, url)

    async def models(self) -> list[ServedModel]:
        """Versions before 0.4 have OpenAI's list alone, without windows."""
        try:
            reply = await self._http.get(f"{self._root}/api/v1/models")
        except RemoteRefused:
            return await self._plain.models()
        listed = shaped(self._http.server, reply, _StudioModels).models
        return [model.served() for model in listed if model.type == "llm"]

    async def prepared(self, model: str, n_ctx: int) -> ServedModel:
        """A model that is not loaded is loaded, because its window is known only then."""
        served = find_model(self._http.server, await self.models(), model)
        if not served.is_loaded:
            body: dict[str, object] = {"model": model, "echo_load_config": True}
            if n_ctx:
                body["context_length"] = n_ctx
            reply = await self._http.post(f"{self._root}/api/v1/models/load", body, silence_s=LOAD_S)
            window = shaped(self._http.server, reply, _StudioLoaded).load_config.context_length
            served = replace(served, n_ctx=max(0, window), is_loaded=True)
        return replace(served, n_ctx=min(n_ctx or served.n_ctx, served.n_ctx or n_ctx))


class DashScopeList:
    """Implements `ServedModelList` with the documentation of DashScope."""

    def __init__(self, http: RemoteHttp, url: str) -> None:
        self._listed = OpenAiList(http, url)

    async def models(self) -> list[ServedModel]:
        """Where the server has no list, those that are documented under a lasting name."""
        try:
            listed = await self._listed.models()
        except RemoteRefused:
            listed = [ServedModel(id=family.prefix) for family in _hosted_families() if family.id]
        return [_documented(model) for model in listed]

    async def prepared(self, model: str, n_ctx: int) -> ServedModel:
        served = _documented(ServedModel(id=model))
        return replace(served, n_ctx=n_ctx or served.n_ctx)


class _OpenAiMeta(msgspec.Struct, frozen=True):
    n_ctx: int | None = None
    n_ctx_train: int | None = None
    size: int | None = None


class _OpenAiCard(msgspec.Struct, frozen=True):
    """A model in a list of models. No server has all fields, many have none of the windows."""

    id: str
    max_model_len: int | None = None
    context_length: int | None = None
    context_window: int | None = None
    max_context_length: int | None = None
    meta: _OpenAiMeta | None = None

    def served(self) -> ServedModel:
        meta = self.meta or _OpenAiMeta()
        windows = (meta.n_ctx, self.max_model_len, self.context_length, self.context_window, self.max_context_length)
        return ServedModel(
            id=clean_line(self.id),
            n_ctx=max(0, next(filter(None, windows), 0)),
            n_ctx_max=max(0, meta.n_ctx_train or 0),
            size=max(0, meta.size or 0),
        )


class _OpenAiCards(msgspec.Struct, frozen=True):
    data: list[_OpenAiCard]


class _StudioConfig(msgspec.Struct, frozen=True):
    context_length: int = 0


class _StudioInstance(msgspec.Struct, frozen=True):
    id: str
    config: _StudioConfig = _StudioConfig()


class _StudioQuantisation(msgspec.Struct, frozen=True):
    name: str | None = None


class _StudioModel(msgspec.Struct, frozen=True):
    """A model in LM Studio's own list."""

    key: str
    type: str = "llm"
    quantization: _StudioQuantisation | None = None
    size_bytes: int | None = None
    loaded_instances: list[_StudioInstance] = []
    max_context_length: int = 0

    def served(self) -> ServedModel:
        return ServedModel(
            id=clean_line(self.key),
            n_ctx=max(0, self.loaded_instances[0].config.context_length) if self.loaded_instances else 0,
            n_ctx_max=max(0, self.max_context_length),
            quantisation=clean_line((self.quantization and self.quantization.name) or "").lower(),
            size=max(0, self.size_bytes or 0),
            is_loaded=bool(self.loaded_instances),
        )


class _StudioModels(msgspec.Struct, frozen=True):
    models: list[_StudioModel]


class _StudioLoaded(msgspec.Struct, frozen=True):
    load_config: _StudioConfig = _StudioConfig()


class HostedFamily(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What DashScope documents of the models whose ids begin with `prefix`; the longest prefix counts."""

    prefix: str
    n_ctx: int = 0
    id: bool = False
    """Whether the prefix is also a model's id."""
    continues: bool = False
    schema: bool = False


class _Hosted(msgspec.Struct, frozen=True):
    source: str
    families: list[HostedFamily]


@cache
def _hosted_families() -> tuple[HostedFamily, ...]:
    data = files(__package__).joinpath("dashscope.json").read_bytes()
    return tuple(msgspec.json.decode(data, type=_Hosted).families)


def family_of(model: str) -> HostedFamily:
    """Return what is documented of a model that DashScope hosts; of an unknown one, that it can do nothing special."""
    fitting = (family for family in _hosted_families() if model.startswith(family.prefix))
    return max(fitting, key=lambda family: len(family.prefix), default=HostedFamily(prefix=model))


def _documented(model: ServedModel) -> ServedModel:
    n_ctx = family_of(model.id).n_ctx
    return replace(model, n_ctx=n_ctx, n_ctx_max=n_ctx)
