"""How the next token is chosen: the person's wishes over the session's over the model's own defaults."""

from dataclasses import dataclass, fields, replace

from qwenchat.errors import WrongUse
from qwenchat.i18n import _


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters; None means "as the model's makers advise"."""

    temperature: float | None = None
    """0 always takes the likeliest token."""
    top_p: float | None = None
    top_k: int | None = None
    """0 keeps all candidates."""
    min_p: float | None = None
    repeat_penalty: float | None = None
    """1 does not penalise."""
    seed: int | None = None
    """The same seed, prompt and machine give the same text; None draws a new one."""
    max_tokens: int | None = None
    """None: until the model ends or the window is full."""
    stop: tuple[str, ...] = ()
    """Strings that end the answer and are not part of it."""
    schema: str | None = None
    """A JSON Schema, as JSON, that the answer follows."""

    def over(self, base: "Sampling") -> "Sampling":
        """Return these parameters with `base` wherever nothing is set."""
        unset = {f.name: getattr(base, f.name) for f in fields(self) if getattr(self, f.name) in (None, ())}
        return replace(self, **unset)

    def check(self) -> "Sampling":
        """Return self, or raise WrongUse naming the first parameter outside its range."""
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise WrongUse(
                    _("{name} is {value}, which is not between {low} and {high}.").format(
                        name=name.replace("_", "-"), value=value, low=_number(low), high=_number(high)
                    ),
                    _("Give a number in that range, or leave it out for the model's own."),
                )
        if "" in self.stop:
            raise WrongUse(_("A stop string is empty."), _("Give it at least one character."))
        return self


UNSET = Sampling()
"""Nothing wished for: everything follows the session and the model."""


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


_RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0.0, 100.0),
    "top_p": (0.0, 1.0),
    "top_k": (0, 1_000_000),
    "min_p": (0.0, 1.0),
    "repeat_penalty": (0.01, 10.0),
    "seed": (0, 2**32 - 2),
    "max_tokens": (1, 2**31 - 1),
}


def qwen2_defaults(layers: int, width: int) -> Sampling:
    """Return what Qwen2's makers advise for a model of this shape.

    Source: `generation_config.json` of the instruct repositories. The two small sizes (0.5B is 24 layers of 896,
    1.5B 28 of 1,536) repeat themselves more and get the stronger repetition penalty.
    """
    penalty = 1.1 if layers * width <= 28 * 1536 else 1.05
    return Sampling(temperature=0.7, top_p=0.8, top_k=20, min_p=0.0, repeat_penalty=penalty)
