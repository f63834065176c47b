"""The prompt as token ids, for servers that take them: no text can forge a marker, and what is counted is what is sent.

A server tokenises text, but it recognises special tokens in it, or may. Here only `Special` parts go there as they are.
A `Plain` part is cut inside everything in it that could be such a token, and `Tokens` of earlier answers lose those
that could end an answer: an imported file may have been forged. Nothing is generated here.
"""

import re
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Annotated, Protocol

import msgspec

from qwenchat.chat.ports import Mode, Request, TokenCounts
from qwenchat.chat.prompt import Plain, PromptPart, Special, Tokens, Turn
from qwenchat.engines.prompt_format import PromptFormat, for_mode, prompt_to_count

TokenId = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
Natural = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
"""A number of a server's that counts something."""
REASONING_MARKERS = ("<think>", "</think>")
USUAL_MARKERS = (
    *(f"<|{name}|>" for name in ("im_start", "im_end", "endoftext", "system", "user", "assistant")),
    *REASONING_MARKERS,
)
"""The markers of ChatML, those that a template may build from a role, and those of reasoning."""
_KNOWN_CHARACTERS = 4 << 20
"""Characters of the texts whose tokens are remembered: those of several long chats."""


class RemoteVocabulary(Protocol):
    """The tokens of a model on a server. Methods raise RemoteError."""

    async def tokenise(self, texts: Sequence[str], *, special: bool) -> list[Sequence[int]]:
        """Return the tokens of each text; special tokens are recognised if `special`, and may be otherwise."""
        ...

    async def without_control(self, ids: Sequence[int]) -> Sequence[int]:
        """Return the tokens without those that could end an answer or begin another turn. Reasoning markers stay."""
        ...


class TokenPrompts:
    """Makes prompts of token ids for one model, and counts them."""

    def __init__(
        self, vocabulary: RemoteVocabulary, prompt_format: PromptFormat, *, cuts: re.Pattern[str], first: Sequence[int]
    ) -> None:
        """`cuts`: where plain text is cut, see `cuts_inside`; `first`: the tokens that every prompt begins with."""
        self.format = prompt_format
        self._vocabulary, self._cuts, self._first = vocabulary, cuts, tuple(first)
        self._known: OrderedDict[PromptPart, array[int]] = OrderedDict()
        """The tokens of parts that were asked for, those that were used last at the end."""
        self._known_characters = 0

    async def prompt(self, request: Request) -> list[int]:
        """Return the prompt of a request."""
        used = for_mode(self.format, request.mode)
        rendered = await used.prompt(request.turns, continuing=request.mode is Mode.CONTINUE)
        return self._joined(await self._tokens(rendered.parts))

    async def count(self, turns: Sequence[Turn], mode: Mode) -> TokenCounts:
        """Return the tokens of the prompt that `prompt` would make."""
        prompt = await prompt_to_count(self.format, turns, mode)
        tokens = await self._tokens(prompt.rendered.parts)
        return prompt.counts([len(each) for each in tokens], len(self._joined(tokens)))

    async def tokenise(self, text: str) -> Sequence[int]:
        """Return the tokens of a text in which no special token is recognised."""
        (tokens,) = await self._tokens([Plain(text)])
        return tokens

    def _joined(self, tokens: Iterable[Sequence[int]]) -> list[int]:
        ids = [token for part in tokens for token in part]
        return ids if not self._first or ids[: len(self._first)] == [*self._first] else [*self._first, *ids]

    async def _tokens(self, parts: Sequence[PromptPart]) -> list[Sequence[int]]:
        """Return the tokens of each part; the server is asked for those that are not known."""
        unknown = [part for part in dict.fromkeys(parts) if part not in self._known]
        special = [part for part in unknown if isinstance(part, Special)]
        plain = [part for part in unknown if isinstance(part, Plain)]
        tokens: dict[PromptPart, Sequence[int]] = {part: self._known[part] for part in parts if part in self._known}
        tokens |= zip(special, await self._tokenise([part.text for part in special], special=True), strict=True)
        pieces = [self._cuts.split(part.text) for part in plain]
        ids = iter(await self._tokenise([piece for cut in pieces for piece in cut], special=False))
        for text, cut in zip(plain, pieces, strict=True):
            tokens[text] = [token for _piece in cut for token in next(ids)]
        for part in unknown:
            if isinstance(part, Tokens):
                tokens[part] = await self._vocabulary.without_control(part.ids)
        self._remember(tokens)
        return [tokens[part] for part in parts]

    async def _tokenise(self, texts: Sequence[str], *, special: bool) -> list[Sequence[int]]:
        return await self._vocabulary.tokenise(texts, special=special) if texts else []

    def _remember(self, tokens: dict[PromptPart, Sequence[int]]) -> None:
        for part, ids in tokens.items():
            if part not in self._known:
                self._known_characters += _length(part)
                self._known[part] = array("I", ids)
            self._known.move_to_end(part)
        while self._known_characters > _KNOWN_CHARACTERS and len(self._known) > len(tokens):
            self._known_characters -= _length(self._known.popitem(last=False)[0])


def _length(part: PromptPart) -> int:
    return len(part.ids) if isinstance(part, Tokens) else len(part.text)


def cuts_inside(markers: Iterable[str] = (), *, pattern: str = r"(?!)") -> re.Pattern[str]:
    """Return the places to cut a text so that none of the markers is whole in any piece: behind its first character.

    `pattern` matches more of them, from the second character on, after a `<`.
    """
    rests = {"<": [pattern]}
    for marker in markers:
        rests.setdefault(marker[0], []).append(re.escape(marker[1:]))
    return re.compile("|".join(f"(?<={re.escape(first)})(?={'|'.join(rest)})" for first, rest in rests.items()))
