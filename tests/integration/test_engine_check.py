"""An engine elsewhere is made from a reference, and checked: what it is, offers and can't do."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from qwenchat.chat.sampling import Dialect
from qwenchat.config import put_engine
from qwenchat.engine_settings import EngineSettings
from qwenchat.engines.local.protocol import Lora
from qwenchat.errors import NotFound, RemoteError, WrongUse
from qwenchat.runtime.engine_check import EngineReport, check_engine, limitations
from qwenchat.runtime.load_options import LoadOptions
from qwenchat.runtime.model_choice import lasting_reference, opening_model
from qwenchat.runtime.program import Program
from tests.fakes.standin_chat import answer_chunks, streamed, usage
from tests.fakes.standin_server import StandinServer, json_reply, standin_server


@asynccontextmanager
async def server_with(*models: str) -> AsyncIterator[StandinServer]:
    """Run a server of OpenAI's kind that answers with a word."""
    async with standin_server() as server:
        server.reply("/v1/models", json_reply({"object": "list", "data": [{"id": model} for model in models]}))
        server.reply("/v1/chat/completions", streamed(*answer_chunks("One", " two", counted=usage(12, 2))))
        yield server


def program_with(**engines: str) -> Program:
    """Return a program whose settings have engines, by their URLs."""
    program = Program.here()
    for name, url in engines.items():
        put_engine(program.paths.settings, name, EngineSettings(url=url))
    return program


async def checked(program: Program, name: str, model: str = "") -> EngineReport:
    remote = program.remote_engines
    return await check_engine(remote, remote.server(name), program.remote_engine, model)


async def test_a_check_says_what_a_server_is_and_can_not_do(home: Path) -> None:
    async with server_with("embedder", "Qwen2-7B") as server:
        report = await checked(program_with(lab=server.url), "lab")
        asked = server.asked_for("/v1/chat/completions")[0].json
    assert report.error is None
    assert (report.listing.dialect, report.model) == (Dialect.OPENAI, "Qwen2-7B")
    assert report.lacks == ("top-k", "min-p", "repeat-penalty")
    assert report.timings and report.timings.ttft_s > 0
    assert (asked["temperature"], asked["max_tokens"]) == (0, 32)
    words = " ".join(limitations(report))
    assert all(each in words for each in ("continued", "estimates", "control tokens", "top-k"))
    assert json.loads((home / "cache" / "engines.json").read_text())["lab"]["dialect"] == "openai"


async def test_a_check_ends_where_there_is_no_model() -> None:
    async with server_with() as server:
        report = await checked(program_with(lab=server.url), "lab")
    assert isinstance(report.error, NotFound)
    assert report.listing.error is None
    assert report.timings is None


async def test_a_check_of_a_server_that_is_gone() -> None:
    async with server_with("a") as server:
        program = program_with(lab=server.url)
    report = await checked(program, "lab")
    assert isinstance(report.error, RemoteError)
    assert report.error is report.listing.error
    assert limitations(report) == []


async def test_a_name_alone_is_the_only_model_of_a_server() -> None:
    async with server_with("Qwen2-0.5B") as one, server_with("a", "b") as two:
        program = program_with(one=one.url, two=two.url)
        engine = program.engine("@one", LoadOptions(ctx=2048))
        info = await engine.load()
        await engine.close()
        assert (info.name, info.reference, info.n_ctx) == ("Qwen2-0.5B", "@one/Qwen2-0.5B", 2048)
        assert info.file == f"{one.url}#Qwen2-0.5B"
        several = program.engine("@two", LoadOptions())
        with pytest.raises(NotFound) as caught:
            await several.load()
        await several.close()
    assert "a, b" in caught.value.hint


async def test_sampling_follows_the_makers_and_the_settings() -> None:
    async with server_with("Qwen2-1.5B") as server:
        program = program_with(lab=server.url)
        colder = Program({**program.environ, "QWENCHAT_SAMPLING_TEMPERATURE": "0.1"})
        engine = colder.engine("@lab/Qwen2-1.5B", LoadOptions())
        defaults = (await engine.load()).defaults
        await engine.close()
    assert (defaults.temperature, defaults.top_p, defaults.repeat_penalty) == (0.1, 0.8, 1.1)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (LoadOptions(threads=2), "--threads"),
        (LoadOptions(gpu_layers=0), "--gpu-layers"),
        (LoadOptions(kv_type="f16"), "--kv-type"),
        (LoadOptions(loras=(Lora(b"x", 1.0),)), "--lora"),
        (LoadOptions(force=True), "--force"),
    ],
)
def test_what_only_a_local_model_can_follow_is_refused(options: LoadOptions, name: str) -> None:
    program = program_with(lab="http://10.0.0.5")
    with pytest.raises(WrongUse, match=name):
        program.engine("@lab/x", options)
    with pytest.raises(NotFound, match="other"):
        program.engine("@other/x", LoadOptions())


def test_a_new_chat_opens_with_the_model_used_last_wherever_it_is() -> None:
    program = program_with(lab="http://10.0.0.5")
    program.model_folders.used.add("@lab/x")
    assert opening_model(program) == "@lab/x"
    assert opening_model(Program({**program.environ, "QWENCHAT_HUB_OFFLINE": "true"})) == ""
    put_engine(program.paths.settings, "lab", None)
    assert opening_model(Program(program.environ)) == ""


def test_a_reference_elsewhere_lasts() -> None:
    program = program_with(lab="http://10.0.0.5")
    assert lasting_reference(program, " @LAB/Qwen2:7b ") == "@lab/Qwen2:7b"
    with pytest.raises(NotFound, match="other"):
        lasting_reference(program, "@other/x")
