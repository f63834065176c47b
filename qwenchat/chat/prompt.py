"""Turns become prompt parts, so that nothing anyone wrote can pass for a special token.

Only `Special` parts are tokenised with special tokens recognised, and only this module and the model's own
template make them. What people, files, system prompts and earlier answers say travels as `Plain` or `Tokens`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from qwenchat.chat.conversation import Message, Role
from qwenchat.text.safe import fenced

DEFAULT_SYSTEM = "You are a helpful assistant."
"""What Qwen2's template puts where no system prompt is given."""


@dataclass(frozen=True, slots=True)
class Special:
    """Text in which special tokens are recognised."""

    text: str


@dataclass(frozen=True, slots=True)
class Plain:
    """Text that can't hold special tokens, whatever it says."""

    text: str


@dataclass(frozen=True, slots=True)
class Tokens:
    """An earlier answer exactly as it was sampled."""

    ids: tuple[int, ...]


Part = Special | Plain | Tokens


@dataclass(frozen=True, slots=True)
class Turn:
    """One speaker's words as the model gets them; `role` is `system`, `user` or `assistant`."""

    role: str
    text: str
    token_ids: tuple[int, ...] = ()
    """If given, what the model reads in place of `text`."""

    @property
    def content(self) -> Part:
        """The words alone."""
        return Tokens(self.token_ids) if self.token_ids else Plain(self.text)


def turns_of(system: str, branch: Iterable[Message], model_file: str = "") -> list[Turn]:
    """Return the turns of a branch, system prompt first, attachments set before the words that came with them.

    Tokens stand for an answer only before `model_file`, the very file that sampled them: to another model they mean
    other words.
    """
    turns = [Turn("system", system or DEFAULT_SYSTEM)]
    for message in branch:
        if message.role is Role.ASSISTANT:
            ids = message.token_ids if message.model_file == model_file else ()
            turns.append(Turn("assistant", message.text, ids))
        else:
            files = [attachment_text(attachment.name, attachment.text) for attachment in message.attachments]
            turns.append(Turn("user", "\n\n".join([*files, message.text] if message.text else files)))
    return turns


def said_in(branch: Sequence[Message]) -> list[Message]:
    """Return the messages of a branch that the model reads: all but answers of which not a word came.

    The last message always stays: it is what is to be answered, or carried on.
    """
    *before, last = branch
    return [*(message for message in before if message.role is Role.USER or message.text), last]


def attachment_text(name: str, text: str) -> str:
    """Return a file as the model reads it: its name, then its text in a fence."""
    return f"{name}\n{fenced(text)}"


def chatml(turns: Sequence[Turn], *, answer: bool = True, resume: bool = False) -> list[Part]:
    """Return turns in ChatML, equal token for token to Qwen2's own template.

    With `answer` the prompt ends where an answer begins; with `resume` the last turn is left open to be carried on.
    """
    parts: list[Part] = []
    for turn in turns:
        parts += turn_parts(turn)
    if resume:
        return parts[:-2]
    if answer:
        parts += [Special("<|im_start|>"), Plain("assistant\n")]
    return parts


def turn_parts(turn: Turn) -> list[Part]:
    """Return one turn in ChatML: `<|im_start|>role⏎words<|im_end|>⏎`."""
    if turn.token_ids:
        body: list[Part] = [Plain(turn.role + "\n"), Tokens(turn.token_ids)]
    else:
        body = [Plain(f"{turn.role}\n{turn.text}")]
    return [Special("<|im_start|>"), *body, Special("<|im_end|>"), Plain("\n")]
