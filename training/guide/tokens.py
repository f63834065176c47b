"""The guide's byte-level BPE: trained on its corpus, and applied as llama.cpp's `qwen2` pre-tokenizer will apply it."""

from collections.abc import Iterable
from dataclasses import dataclass

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from qwenchat.chat.prompt import Plain, Special, Turn, turn_parts

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen2's tokenizer cuts text before merging; source: `tokenizer.json` of the instruct repositories."""
_APART = r"\p{Han}|" + _QWEN2
"""The same with each hanzi by itself: merges learnt so never join two, and unseen words fall into known characters."""


@dataclass(frozen=True)
class Codec:
    """Text to token ids; specials come last, as in Qwen2's own vocabulary."""

    tokens: tuple[str, ...]
    """In GPT-2's notation of bytes; a token's id is its index."""
    merges: tuple[tuple[str, str], ...]

    @classmethod
    def trained(cls, texts: Iterable[str], size: int) -> "Codec":
        """Learn merges until there are `size` tokens in all."""
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = _pre_tokenizer(_APART)
        trainer = trainers.BpeTrainer(
            vocab_size=size - len(SPECIALS),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            min_frequency=2,
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        vocabulary = tokenizer.get_vocab()
        model = tokenizer.to_str()
        merges = _merges(model)
        return cls((*sorted(vocabulary, key=lambda token: vocabulary[token]), *SPECIALS), merges)

    def encoder(self, dropout: float | None = None) -> Tokenizer:
        """Return an encoder for plain text; with `dropout` it skips some merges at random, as a regulariser."""
        vocabulary = {token: at for at, token in enumerate(self.tokens[: -len(SPECIALS)])}
        tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=list(self.merges), dropout=dropout))
        tokenizer.pre_tokenizer = _pre_tokenizer(_QWEN2)
        tokenizer.decoder = decoders.ByteLevel()
        return tokenizer

    def special(self, token: str) -> int:
        """Return a special token's id."""
        return len(self.tokens) - len(SPECIALS) + SPECIALS.index(token)


@dataclass(frozen=True)
class Encoded:
    """Token ids of a conversation, and for each whether the model learns to write it."""

    ids: list[int]
    learnt: list[bool]
    asked: tuple[int, int]
    """The indices at which the last question's turn and its answer begin."""


def encode(turns: Iterable[Turn], codec: Codec, rough: Tokenizer, exact: Tokenizer, *, cut: int = 0) -> Encoded:
    """Return turns in ChatML, tokenised as the engine tokenises them; `rough` encodes what users say.

    Answers are learnt with the end of their turn; of the last answer only the first `cut` tokens if `cut` is given.
    """
    ids: list[int] = []
    learnt: list[bool] = []
    turns = list(turns)
    for turn in turns:
        is_answer = turn.role == "assistant"
        for part in turn_parts(turn):
            if isinstance(part, Special):
                ids.append(codec.special(part.text))
                learnt.append(is_answer and part.text == "<|im_end|>")
            elif isinstance(part, Plain):
                head, text = _split(part.text) if is_answer else ("", part.text)
                before = exact.encode(head).ids if head else []
                words = (exact if is_answer else rough).encode(text).ids
                ids += before + words
                learnt += [False] * len(before) + [is_answer and text != "\n"] * len(words)
    question, answer = [at for at, token in enumerate(ids) if token == codec.special("<|im_start|>")][-2:]
    first = learnt.index(True, answer)
    if cut:
        ids, learnt = ids[: first + cut], learnt[: first + cut]
    return Encoded(ids, learnt, (question, first))


def _split(text: str) -> tuple[str, str]:
    """Return `assistant⏎` and the answer: the engine tokenises the first and samples the second."""
    role, newline, words = text.partition("\n")
    return (role + newline, words) if role == "assistant" else ("", text)


def _pre_tokenizer(pattern: str) -> pre_tokenizers.Sequence:
    cut = pre_tokenizers.Split(Regex(pattern), "isolated")
    return pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _merges(model: str) -> tuple[tuple[str, str], ...]:
    import json  # noqa: PLC0415

    return tuple((left, right) for left, right in json.loads(model)["model"]["merges"])
