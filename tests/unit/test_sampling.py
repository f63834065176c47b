"""Sampling parameters are defined once; settings, options, schema and screen follow from the definition."""

from typing import Any

import click
import msgspec
import pytest

from qwenchat import config
from qwenchat.chat.sampling import PARAMETERS, Dialect, Parameter, Sampling, parameter, qwen2_defaults_by_name
from qwenchat.cli.ask import ask
from qwenchat.errors import WrongUse
from qwenchat.tui.parameters import parse_number

SETTINGS = {name.removeprefix("sampling.") for name in config.names() if name.startswith("sampling.")}
each_parameter = pytest.mark.parametrize("each", PARAMETERS, ids=lambda each: each.name)


def test_every_number_of_sampling_is_a_parameter() -> None:
    numbers = [name for name in Sampling.__struct_fields__ if name not in ("stop", "schema")]
    assert numbers == [each.name for each in PARAMETERS]


@each_parameter
def test_the_range_is_the_same_everywhere(each: Parameter) -> None:
    below, above = (each.kind(bound) for bound in (each.low - 1, each.high * 10))
    for value in (each.low, each.high):
        assert parse_number(each.name, f"{value}") == value
    for value in (below, above):
        wrong: dict[str, Any] = {each.name: value}
        with pytest.raises(WrongUse, match=f"{each.label} must be between"):
            Sampling(**wrong).check()
        with pytest.raises(WrongUse, match=f"{each.label} must be between"):
            parse_number(each.name, f"{value}")


def test_settings_have_the_parameters_that_apply_to_all_sessions() -> None:
    assert [each.name for each in PARAMETERS if each.in_settings] == [
        field.name for field in msgspec.structs.fields(config.SamplingSettings)
    ]


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_the_schema_of_the_settings_has_range_and_description(name: str) -> None:
    each = parameter(name)
    schema = msgspec.json.schema(config.SamplingSettings)["$defs"]["SamplingSettings"]["properties"][name]
    assert schema["anyOf"][0] == {
        "type": "integer" if each.kind is int else "number",
        "minimum": each.low,
        "maximum": each.high,
        "description": each.help,
    }
    assert config.description(f"sampling.{name}") == each.help


@each_parameter
def test_ask_has_an_option_for_each(each: Parameter) -> None:
    [option] = [option for option in ask.params if option.name == each.name]
    assert isinstance(option, click.Option)
    assert (option.opts, option.help) == ([f"--{each.label}"], f"{each.help}.")
    assert option.type is (click.INT if each.kind is int else click.FLOAT)


def test_other_engines_get_their_own_names() -> None:
    sampling = Sampling(temperature=0.0, top_k=20, repeat_penalty=1.1, max_tokens=9, stop=("END",))
    assert sampling.numbers(Dialect.LLAMA_SERVER) == {
        "temperature": 0.0,
        "top_k": 20,
        "repeat_penalty": 1.1,
        "max_tokens": 9,
    }
    assert sampling.numbers(Dialect.VLLM).keys() == {"temperature", "top_k", "repetition_penalty", "max_tokens"}
    assert sampling.numbers(Dialect.OLLAMA).keys() == {"temperature", "top_k", "repeat_penalty", "num_predict"}
    assert sampling.numbers(Dialect.LM_STUDIO).keys() == {"temperature", "top_k", "repeat_penalty", "max_tokens"}
    assert sampling.numbers(Dialect.DASHSCOPE).keys() == {"temperature", "top_k", "repetition_penalty", "max_tokens"}
    assert sampling.numbers(Dialect.OPENAI) == {"temperature": 0.0, "max_tokens": 9}


def test_a_dialect_lacks_only_what_would_change_something() -> None:
    neutral = Sampling(temperature=0.0, top_p=1.0, top_k=0, min_p=0.0, repeat_penalty=1.0, seed=1, max_tokens=9)
    assert not any(neutral.lacked_by(dialect) for dialect in Dialect)
    felt = Sampling(temperature=1.0, top_p=0.8, top_k=20, min_p=0.1, repeat_penalty=1.1)
    assert felt.lacked_by(Dialect.OPENAI) == ("top-k", "min-p", "repeat-penalty")
    assert felt.lacked_by(Dialect.DASHSCOPE) == felt.lacked_by(Dialect.LM_STUDIO) == ("min-p",)
    assert felt.lacked_by(Dialect.LLAMA_SERVER) == felt.lacked_by(Dialect.VLLM) == felt.lacked_by(Dialect.OLLAMA) == ()


def test_a_parameter_is_found_by_the_names_of_other_programs() -> None:
    assert parameter("num_predict").name == "max_tokens"
    assert parameter("repetition_penalty").name == "repeat_penalty"
    with pytest.raises(KeyError):
        parameter("num_ctx")


@pytest.mark.parametrize(
    ("name", "penalty"),
    [
        ("Qwen/Qwen2-72B-Instruct", 1.05),
        ("qwen2:0.5b", 1.1),
        ("qwen2-1_5b-instruct-q4_k_m", 1.1),
        ("qwen2.5-14b", 1.05),
        ("Qwen2-57B-A14B", 1.05),
        ("qwen-plus", 1.05),
        ("", 1.05),
    ],
)
def test_the_size_in_a_models_name_decides_the_penalty(name: str, penalty: float) -> None:
    assert qwen2_defaults_by_name(name).repeat_penalty == penalty
