"""llama.cpp's answers follow a JSON Schema through the worker: at random, in reasoning models, when cancelled."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from msgspec.structs import replace

from qwenchat.chat.events import Delta, Finished
from qwenchat.chat.ports import Mode
from qwenchat.chat.prompt import Turn
from qwenchat.chat.sampling import Sampling
from qwenchat.engines.local.engine import LocalEngine
from qwenchat.errors import WrongUse
from tests.fakes import ggufs
from tests.fakes.engines import answer, engine, questions, request

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "yes": {"type": "boolean"},
        "n": {"type": "integer", "minimum": -5, "maximum": 300},
        "种类": {"enum": ["好 😀", "C:\\temp"]},
        "day": {"type": "string", "format": "date"},
        "code": {"type": "string", "pattern": "^[A-Z]{2}]\\d{2}$"},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 3}, "minItems": 1, "maxItems": 3},
    },
    "required": ["yes", "n", "种类", "day", "code", "tags"],
    "additionalProperties": False,
}
KIND = {"enum": ["yes", "no"]}


async def asked(made: LocalEngine, schema: Any, **sampling: Any) -> Any:
    """Return an answer that follows a schema."""
    return await answer(made, questions("Hi"), Sampling(schema=json.dumps(schema), **sampling))


async def test_a_schema_is_followed_even_by_noise(tiny: Path, tmp_path: Path) -> None:
    async with engine(tiny, tmp_path) as made:
        for seed in range(2):
            sampling = {"top_k": 40 if seed % 2 else 0, "repeat_penalty": 1.1, "seed": seed, "max_tokens": 600}
            said = await asked(made, SCHEMA, temperature=1.0, **sampling)
            assert said.finished.reason == "stop"
            jsonschema.validate(json.loads(said.text), SCHEMA, format_checker=jsonschema.FormatChecker())
            again = await asked(made, SCHEMA, temperature=1.0, **sampling)
            assert again.text == said.text


async def test_the_likeliest_allowed_token_is_taken_at_temperature_0(models: Path, tmp_path: Path) -> None:
    chain = ggufs.write_chain(models / "says-yes.gguf", [b'"', b"y", b"e", b"s", b"!"])
    async with engine(chain.path, tmp_path) as made:
        said = await asked(made, KIND, temperature=0.0)
        assert said.text == '"yes"' and said.finished.reason == "stop"
        free = await answer(made, questions("Hi"))
    assert free.text == '"yes!'


async def test_any_token_that_ends_an_answer_ends_json(models: Path, tmp_path: Path) -> None:
    chain = ggufs.write_chain(models / "says-42.gguf", [b"4", b"2"])
    async with engine(chain.path, tmp_path) as made:
        said = await asked(made, {"type": "integer"}, temperature=0.0, max_tokens=20)
    assert said.text == "42" and said.finished.reason == "stop"


async def test_what_can_not_be_enforced_is_refused_before_the_model_is_loaded(tiny: Path, tmp_path: Path) -> None:
    async with engine(tiny, tmp_path) as made:
        schemas: list[dict[str, Any]] = [{"not": {}}, {"type": "array", "uniqueItems": True}]
        for schema in schemas:
            with pytest.raises(WrongUse, match=r"JSON Schema can't be used: #/"):
                await made.check(Sampling(schema=json.dumps(schema)))
            with pytest.raises(WrongUse, match=r"JSON Schema can't be used: #/"):
                await asked(made, schema)
        assert made.worker_pid is None
        assert (await asked(made, KIND, temperature=0.0)).text in ('"yes"', '"no"')


async def test_a_schema_that_becomes_too_complex_ends_the_answer_with_an_error(tiny: Path, tmp_path: Path) -> None:
    async with engine(tiny, tmp_path) as made:
        with pytest.raises(WrongUse, match="too complex"):
            await asked(made, {"type": "string", "pattern": "^a{1000000000}$"}, temperature=0.0)
        assert (await asked(made, KIND, temperature=0.0)).text in ('"yes"', '"no"')


async def test_reasoning_is_free_and_the_json_comes_after_it(models: Path, tmp_path: Path) -> None:
    thinker = ggufs.write_chain(models / "json-thinker.gguf", [*ggufs.REASONING[:4], b'"', b"n", b"o"])
    async with engine(thinker.path, tmp_path) as made:
        said = await asked(made, KIND, temperature=0.0)
    assert said.text == '<think>Let me see.</think>"no"'


async def test_reasoning_that_the_prompt_opens_is_free_too(models: Path, tmp_path: Path) -> None:
    tokens = [*ggufs.REASONING[1:4], b'"', b"n", b"o"]
    thinker = ggufs.write_chain(models / "json-opened.gguf", tokens, chat_template=ggufs.THINKING)
    async with engine(thinker.path, tmp_path) as made:
        assert (await asked(made, KIND, temperature=0.0)).text == 'Let me see.</think>"no"'


async def test_an_answer_can_not_end_in_its_reasoning(models: Path, tmp_path: Path) -> None:
    thinker = ggufs.write_chain(models / "only-thinks.gguf", ggufs.REASONING[:3])
    async with engine(thinker.path, tmp_path) as made:
        said = await asked(made, KIND, temperature=0.0)
    assert said.text in ('<think>Let me see.</think>"yes"', '<think>Let me see.</think>"no"')


async def test_an_answer_that_ended_early_is_continued_to_valid_json(tiny: Path, tmp_path: Path) -> None:
    async with engine(tiny, tmp_path) as made:
        sampling = Sampling(temperature=1.0, top_k=0, seed=3, schema=json.dumps(SCHEMA))
        begun = await answer(made, questions("Hi"), replace(sampling, max_tokens=12))
        assert begun.finished.reason == "length"
        turns = [*questions("Hi"), Turn("assistant", begun.text, begun.ids)]
        rest = await answer(made, turns, replace(sampling, max_tokens=600), mode=Mode.CONTINUE)
        jsonschema.validate(json.loads(begun.text + rest.text), SCHEMA)
        other = [*questions("Hi"), Turn("assistant", "Sure, ")]
        with pytest.raises(WrongUse, match="no value can match"):
            await answer(made, other, sampling, mode=Mode.CONTINUE)


async def test_stop_strings_do_not_cut_json(tiny: Path, tmp_path: Path) -> None:
    async with engine(tiny, tmp_path) as made:
        assert (await asked(made, {"const": "a, b"}, stop=(",",))).text == '"a, b"'


async def test_an_answer_without_end_is_cancelled(tiny: Path, tmp_path: Path) -> None:
    async with engine(tiny, tmp_path) as made:
        schema = json.dumps({"type": "array", "minItems": 1_000_000_000, "items": {"type": "integer"}})
        generation = made.generate(request(questions("Hi"), Sampling(temperature=1.0, schema=schema)))
        async for event in generation:
            if isinstance(event, Delta):
                await generation.cancel()
        assert isinstance(event, Finished) and event.reason == "cancelled"
