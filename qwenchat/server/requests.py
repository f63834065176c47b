"""What clients send: the fields that are served, as typed values, and those that are known and are not.

A field that nobody knows is ignored, as OpenAI's clients expect of a server that is older than they are. One that would
change the answer and is not served is refused by its name, unless its value changes nothing.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from qwenchat.chat.ports import MOST_CHANCES
from qwenchat.chat.sampling import Sampling
from qwenchat.errors import WrongUse
from qwenchat.server.api_errors import ApiError, invalid, unsupported

MOST_PROMPTS = 1024
"""Prompts of one request for completions."""
MOST_STOPS = 64
"""Stop strings of one request; OpenAI allows four."""
_SEEDS = 2**32 - 1
"""How many seeds there are; larger ones, which OpenAI allows, are taken modulo that."""
_ANY_OBJECT = '{"type": "object"}'
_PATH = re.compile(r" - at `\$\.?(.*?)`$")
"""How msgspec says where in a request something is wrong."""

_NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "suffix": ("",),
    "audio": (),
    "modalities": (["text"],),
    "prediction": (),
    "functions": ([],),
    "function_call": ("auto", "none"),
    "web_search_options": (),
    "reasoning_effort": (),
    "verbosity": (),
    # of vLLM
    "min_tokens": (0,),
    "ignore_eos": (False,),
    "stop_token_ids": ([],),
    "bad_words": ([],),
    "use_beam_search": (False,),
    "length_penalty": (1,),
    "truncate_prompt_tokens": (),
    "prompt_logprobs": (),
    "chat_template": (),
    "chat_template_kwargs": ({},),
    "documents": ([],),
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": (),
    "guided_grammar": (),
    "structured_outputs": (),
    # of llama-server
    "grammar": ("",),
    "json_schema": ({},),
    "typical_p": (1,),
    "mirostat": (0,),
    "dry_multiplier": (0,),
    "xtc_probability": (0,),
    "dynatemp_range": (0,),
    "top_n_sigma": (-1,),
}
"""Fields that are known and not served, and their values that change nothing."""
_Unserved = msgspec.defstruct("_Unserved", [(name, Any, None) for name in _NEUTRAL])

Shape = TypeVar("Shape")


class StreamOptions(Struct, frozen=True):
    """How an answer is streamed."""

    include_usage: bool = False


class JsonSchemaFormat(Struct, frozen=True):
    """A JSON Schema with a name."""

    schema: msgspec.Raw = msgspec.Raw()
    name: str = ""


class ResponseFormat(Struct, frozen=True):
    """What an answer must be."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: JsonSchemaFormat | None = None
    schema: msgspec.Raw = msgspec.Raw()
    """Of the type `json_object`, as llama-server takes it."""

    @property
    def wanted(self) -> str | None:
        """The JSON Schema that the answer must follow, as JSON; None for free text."""
        match self.type:
            case "json_object":
                return given(self.schema) or _ANY_OBJECT
            case "json_schema":
                if self.json_schema is None or not (schema := given(self.json_schema.schema)):
                    raise invalid("response_format.json_schema", "The type json_schema needs a schema.")
                return schema
        return None


class FunctionSpec(Struct, frozen=True):
    """A function as it is described to a model."""

    name: str
    description: str | None = None
    parameters: msgspec.Raw = msgspec.Raw()


class RequestedTool(Struct, frozen=True):
    """A tool that a model may call."""

    function: FunctionSpec
    type: Literal["function"] = "function"


class NamedFunction(Struct, frozen=True):
    """The name of a function."""

    name: str


class NamedTool(Struct, frozen=True):
    """The tool that must be called."""

    function: NamedFunction
    type: Literal["function"] = "function"


class CalledFunction(Struct, frozen=True):
    """What a model called, in the history of a chat."""

    name: str
    arguments: str = "{}"


class MadeCall(Struct, frozen=True):
    """A call in the history of a chat."""

    id: str
    function: CalledFunction


class ContentPart(Struct, frozen=True):
    """A part of what a message says."""

    type: str
    text: str | None = None


class ChatMessageIn(Struct, frozen=True):
    """A message of the chat that is to be answered."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[ContentPart] | None = None
    tool_calls: list[MadeCall] | None = None
    tool_call_id: str | None = None


class GenerationRequest(Struct, frozen=True, kw_only=True):
    """What requests for chats and for completions share."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with the numbers of tokens."""
        return self.stream_options is not None and self.stream_options.include_usage

    def sampling(self, *, max_tokens: int | None, schema: str | None = None) -> Sampling:
        """Return the sampling parameters that are set. Raises ApiError where one is out of its range."""
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if len(stops) > MOST_STOPS:
            raise invalid("stop", f"There may be at most {MOST_STOPS} stop strings.")
        if schema is not None and any(stops):
            raise unsupported("stop", "stop can't be combined with response_format: it could cut the JSON off.")
        sampling = Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=0 if self.top_k == -1 else self.top_k,
            min_p=self.min_p,
            repeat_penalty=self.repeat_penalty if self.repetition_penalty is None else self.repetition_penalty,
            seed=None if self.seed in (None, -1) else self.seed % _SEEDS,
            max_tokens=max_tokens or None,
            stop=tuple(filter(None, stops)),
            schema=schema,
        )
        try:
            sampling.check()
        except WrongUse as error:
            raise invalid(None, error.message) from None
        return sampling


class ChatRequest(GenerationRequest, frozen=True, kw_only=True):
    """`/v1/chat/completions`."""

    messages: Annotated[list[ChatMessageIn], Meta(min_length=1)]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    response_format: ResponseFormat | None = None
    tools: list[RequestedTool] | None = None
    tool_choice: Literal["auto", "none", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MOST_CHANCES)] | None = None
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None

    @property
    def tokens(self) -> int | None:
        """The most tokens of the answer; None for no limit, which some clients write as -1. Raises ApiError."""
        tokens = self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        if tokens is not None and tokens < 1 and tokens != -1:
            raise invalid("max_tokens", "An answer has at least one token.")
        return None if tokens == -1 else tokens

    @property
    def chances(self) -> int:
        """How many of the likeliest tokens are looked at, at least 1 where the chances are asked for."""
        return max(1, self.top_logprobs or 0) if self.logprobs else 0


class CompletionRequest(GenerationRequest, frozen=True, kw_only=True):
    """`/v1/completions`."""

    prompt: str | list[str | int | list[int]]
    max_tokens: Annotated[int, Meta(ge=-1)] | None = None
    """0 for the prompt's chances alone, -1 for no limit."""
    echo: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=MOST_CHANCES)] | bool | None = None

    @property
    def prompts(self) -> list[str | tuple[int, ...]]:
        """The prompts, each a text or token ids. Raises ApiError."""
        given = self.prompt
        if isinstance(given, list) and given and all(isinstance(each, int) for each in given):
            found: list[str | tuple[int, ...]] = [tuple(each for each in given if isinstance(each, int))]
        elif isinstance(given, list):
            if any(isinstance(each, int) for each in given):
                raise invalid("prompt", "The prompt is a text, token ids, or a list of either.")
            found = [each if isinstance(each, str) else tuple(each) for each in given if not isinstance(each, int)]
        else:
            found = [given]
        if not found or not all(found):
            raise invalid("prompt", "The prompt is empty.")
        if len(found) > MOST_PROMPTS:
            raise invalid("prompt", f"There may be at most {MOST_PROMPTS} prompts.")
        return found

    @property
    def top(self) -> int | None:
        """How many of the likeliest tokens are reported for each one; None where no chances are."""
        if self.logprobs is None or self.logprobs is False:
            return None
        return int(self.logprobs)


class TokeniseRequest(Struct, frozen=True, kw_only=True):
    """`/tokenize`: a text, or the messages of a chat."""

    model: str | None = None
    content: str | None = None
    prompt: str | None = None
    messages: list[ChatMessageIn] | None = None
    tools: list[RequestedTool] | None = None
    parse_special: bool | None = None
    """Whether special tokens in the text are recognised; they are unless this is false."""


class DetokeniseRequest(Struct, frozen=True, kw_only=True):
    """`/detokenize`."""

    tokens: list[int]
    model: str | None = None


def given(raw: msgspec.Raw) -> str:
    """Return a field of any shape as JSON; empty where it is missing or null."""
    text = bytes(raw).decode()
    return "" if text == "null" else text


def read(body: bytes, shape: type[Shape]) -> Shape:
    """Return a request of a shape. Raises ApiError, which names the field that is wrong or not served."""
    try:
        request = msgspec.json.decode(body, type=shape)
        unserved = msgspec.json.decode(body, type=_Unserved)
    except msgspec.ValidationError as error:
        words = str(error)
        where = _PATH.search(words)
        raise invalid(where[1].removeprefix(".") or None if where else None, _PATH.sub("", words) + ".") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(400, "invalid_json", f"The body is not JSON: {error}.") from None
    except RecursionError:
        raise ApiError(400, "invalid_json", "The JSON is nested too deeply.") from None
    for name, neutral in _NEUTRAL.items():
        value = getattr(unserved, name)
        if value is not None and value not in neutral:
            raise unsupported(name, f"{name} is not supported with this value.")
    return request
