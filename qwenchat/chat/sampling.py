"""How the next token is chosen: the sampling parameters, defined once, and the values that one request carries.

`PARAMETERS` is the only place that knows a parameter's range, help text and name in other engines. The settings, the
options of `qwenchat ask`, the chat's settings on the screen and the published schema are made from it. Nothing here
samples: that is the engine's work.
"""

import re
from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct, structs

from qwenchat.errors import WrongUse
from qwenchat.i18n import _


class Dialect(StrEnum):
    """A family of engines that use the same parameter names in a request."""

    OPENAI = "openai"
    """What every OpenAI-compatible server accepts."""
    LLAMA_SERVER = "llama-server"
    VLLM = "vllm"
    LM_STUDIO = "lm-studio"
    DASHSCOPE = "dashscope"
    """Hosted Qwen."""
    OLLAMA = "ollama"
    """The `options` of Ollama's native API; its OpenAI-compatible API is OPENAI."""


_MIN_P = (Dialect.LLAMA_SERVER, Dialect.VLLM, Dialect.OLLAMA)
_OPEN = (*_MIN_P, Dialect.LM_STUDIO, Dialect.DASHSCOPE)
"""Dialects that have more than OpenAI's parameters."""


class Parameter(Struct, frozen=True, kw_only=True):
    """A sampling parameter that is one number."""

    name: str
    """The field of `Sampling`; options and the screen write it with hyphens."""
    kind: type[int] | type[float]
    low: float
    high: float
    """The bounds belong to the range."""
    help: str
    """In English and without a full stop; `_` translates it."""
    dialects: Mapping[Dialect, str]
    """Its name in each dialect; a dialect without the parameter is missing."""
    neutral: float | None = None
    """The value that changes nothing; None where every value means something."""
    in_settings: bool = True
    """Whether the settings can give it a value for all sessions."""

    @property
    def label(self) -> str:
        """The name as options and the screen write it."""
        return self.name.replace("_", "-")


PARAMETERS = (
    Parameter(
        name="temperature",
        kind=float,
        low=0,
        high=100,
        help="0 always picks the most likely token",
        dialects=dict.fromkeys(Dialect, "temperature"),
    ),
    Parameter(
        name="top_p",
        kind=float,
        low=0,
        high=1,
        help="Pick from the most likely tokens up to this total probability",
        neutral=1,
        dialects=dict.fromkeys(Dialect, "top_p"),
    ),
    Parameter(
        name="top_k",
        kind=int,
        low=0,
        high=1_000_000,
        help="Pick from this many most likely tokens; 0: all",
        neutral=0,
        dialects=dict.fromkeys(_OPEN, "top_k"),
    ),
    Parameter(
        name="min_p",
        kind=float,
        low=0,
        high=1,
        help="Drop tokens less likely than this fraction of the most likely one",
        neutral=0,
        dialects=dict.fromkeys(_MIN_P, "min_p"),
    ),
    Parameter(
        name="repeat_penalty",
        kind=float,
        low=0.01,
        high=10,
        help="Above 1, what was written before becomes less likely; 1: no change",
        neutral=1,
        dialects={
            **dict.fromkeys(_OPEN, "repeat_penalty"),
            **dict.fromkeys((Dialect.VLLM, Dialect.DASHSCOPE), "repetition_penalty"),
        },
    ),
    Parameter(
        name="seed",
        kind=int,
        low=0,
        high=2**32 - 2,
        help="The same seed gives the same answer to the same chat, on the same computer with the same settings",
        dialects=dict.fromkeys(Dialect, "seed"),
        in_settings=False,
    ),
    Parameter(
        name="max_tokens",
        kind=int,
        low=1,
        high=2**31 - 1,
        help="Tokens after which an answer is cut off",
        dialects={**dict.fromkeys(Dialect, "max_tokens"), Dialect.OLLAMA: "num_predict"},
    ),
)
"""Every parameter that is one number, in the order in which people see them."""


def parameter(name: str) -> Parameter:
    """Return a parameter by its name here or in any dialect. Raises KeyError."""
    for found in PARAMETERS:
        if name == found.name or name in found.dialects.values():
            return found
    raise KeyError(name)


class Sampling(Struct, frozen=True):
    """Values of the sampling parameters; None means "as the model's makers advise"."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    seed: int | None = None
    """None draws a new seed."""
    max_tokens: int | None = None
    """None: until the model ends or the window is full."""
    stop: tuple[str, ...] = ()
    """Strings that end the answer and are not part of it."""
    schema: str | None = None
    """A JSON Schema, as JSON, that the answer follows; stop strings are then not looked for."""

    @property
    def is_repeatable(self) -> bool:
        """Whether the same prompt must give the same text: nothing is left to chance."""
        return self.seed is not None or self.temperature == 0

    def over(self, base: "Sampling") -> "Sampling":
        """Return these values with those of `base` wherever nothing is set."""
        unset = {name: value for name, value in structs.asdict(base).items() if getattr(self, name) in (None, ())}
        return structs.replace(self, **unset)

    def fitted_to_schema(self) -> "Sampling":
        """Return these values, with no penalty for repetition under a schema unless one is set.

        JSON repeats its quotation marks, braces, keys and indentation. Penalised, they give way to others that the
        schema allows just as well, and the layout drifts.
        """
        return structs.replace(self, repeat_penalty=1.0) if self.schema and self.repeat_penalty is None else self

    def check(self) -> "Sampling":
        """Return self, or raise WrongUse naming the first parameter outside its range."""
        for each in PARAMETERS:
            value = getattr(self, each.name)
            if value is not None and not each.low <= value <= each.high:
                raise WrongUse(
                    _("{name} must be between {low} and {high}, not {value}.").format(
                        name=each.label, value=value, low=_number(each.low), high=_number(each.high)
                    ),
                    _("Give a number in that range, or leave it out for the default."),
                )
        if "" in self.stop:
            raise WrongUse(_("A stop sequence is empty."), _("Give it at least one character."))
        return self

    def numbers(self, dialect: Dialect) -> dict[str, float]:
        """Return the numbers that are set, by their names in a dialect; what it does not have is left out."""
        return {
            each.dialects[dialect]: value
            for each in PARAMETERS
            if dialect in each.dialects and (value := getattr(self, each.name)) is not None
        }

    def lacked_by(self, dialect: Dialect) -> tuple[str, ...]:
        """Return the labels of the numbers that are set, change something, and that a dialect can't be sent."""
        return tuple(
            each.label
            for each in PARAMETERS
            if dialect not in each.dialects and getattr(self, each.name) not in (None, each.neutral)
        )


UNSET = Sampling()
"""Nothing set: everything follows the session and the model."""


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def qwen2_defaults(layers: int, width: int) -> Sampling:
    """Return what Qwen2's makers advise for a model of this shape.

    Source: `generation_config.json` of the instruct repositories. The two small sizes (0.5B is 24 layers of 896,
    1.5B 28 of 1,536) repeat themselves more and get the stronger repetition penalty.
    """
    return _advised(is_small=layers * width <= 28 * 1536)


def qwen2_defaults_by_name(name: str) -> Sampling:
    """Return the same for a model of which only the name is known, such as `Qwen/Qwen2-72B-Instruct`."""
    size = re.search(r"(?<![\d.])(\d+(?:[._]\d+)?)b(?![a-z])", name.lower())
    return _advised(is_small=size is not None and float(size[1].replace("_", ".")) <= 1.5)


def _advised(*, is_small: bool) -> Sampling:
    return Sampling(temperature=0.7, top_p=0.8, top_k=20, min_p=0.0, repeat_penalty=1.1 if is_small else 1.05)
