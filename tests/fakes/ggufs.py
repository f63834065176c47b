"""GGUF files for tests, made on the spot: random weights, chains whose answer is known, and damage of every kind.

All of them carry a small but real byte-level BPE vocabulary with the ChatML tokens, which llama.cpp loads with its
qwen2 pre-tokenizer. Nothing is downloaded and each file takes about a megabyte or less.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, RopeScalingType, TokenType
from numpy.typing import NDArray

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
END_OF_TEXT, TURN_START, TURN_END = b"<|endoftext|>", b"<|im_start|>", b"<|im_end|>"
THINKING = CHATML.replace("<|im_start|>assistant\n", "<|im_start|>assistant\n<think>\n")
"""A chat template that opens the reasoning in the prompt, as QwQ's does."""
AWKWARD = (
    b"Look:",
    "好".encode()[:2],  # half a character,
    "好".encode()[2:],  # and the rest of it
    *(bytes([byte]) for byte in "🐼".encode()),  # one emoji in four tokens
    b" " * 40,
    b"\x1b[31m",  # a terminal would turn red
    b"\x07",
    b"\r\n",
    "“你好”，世界".encode(),
    b"\xff",  # never valid in UTF-8
    b" end.",
)
"""Tokens that break careless programs."""
REASONING = (b"<think>", b"Let me ", b"see.", b"</think>", b"\n\n", b"It is ", b"42.")
"""An answer that a reasoning model gives; its markers are tokens of the type that such models have them in."""
_MARKERS = frozenset({b"<think>", b"</think>"})
_WORDS = (
    "system",
    "user",
    "assistant",
    "You are",
    "helpful",
    "the",
    "The",
    "and",
    "Hello",
    "world",
    "你好",
    "世界",
    "的",
)


@dataclass(frozen=True)
class Vocabulary:
    """Tokens as the bytes they stand for; a token's id is its place."""

    tokens: tuple[bytes, ...]
    merges: tuple[str, ...]
    user_defined: frozenset[bytes] = frozenset()
    """Tokens of that type, as careless converters write special ones: they are recognised in any text."""
    padding: int = 0
    """Tokens without a text of their own at the end."""

    @property
    def size(self) -> int:
        return len(self.tokens) + self.padding

    @classmethod
    def small(cls, extra: Iterable[bytes] = ()) -> "Vocabulary":
        """Return 256 bytes, some words and runs of spaces with their merges, `extra` without merges, and ChatML."""
        tokens = dict.fromkeys(bytes([byte]) for byte in range(256))
        merges = []
        runs = [b" " * (1 << power) for power in range(6)]
        for left, right in [*zip(runs, runs, strict=True), (b" " * 32, b" " * 8), *_spellings()]:
            if left + right not in tokens:
                tokens[left + right] = None
                merges.append(f"{_shown(left)} {_shown(right)}")
        tokens |= dict.fromkeys(extra)
        return cls((*tokens, END_OF_TEXT, TURN_START, TURN_END), tuple(merges))

    def id(self, token: bytes) -> int:
        """Return a token's id."""
        return self.tokens.index(token)

    def write(self, writer: GGUFWriter) -> None:
        """Put the tokenizer's keys into a file."""
        special = len(self.tokens) - 3
        kinds = [TokenType.NORMAL] * special + [TokenType.CONTROL] * 3
        for token in self.user_defined:
            kinds[self.id(token)] = TokenType.USER_DEFINED
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("qwen2")
        shown = [_shown(t) if i < special else t.decode() for i, t in enumerate(self.tokens)]
        writer.add_token_list(shown + [f"[PAD{place}]" for place in range(len(shown), self.size)])
        writer.add_token_types(kinds + [TokenType.UNUSED] * self.padding)
        writer.add_token_merges(list(self.merges))
        writer.add_bos_token_id(special)
        writer.add_eos_token_id(special + 2)
        writer.add_pad_token_id(special)
        writer.add_add_bos_token(False)


@dataclass(frozen=True)
class Experts:
    """The mixture of a qwen2moe."""

    count: int = 4
    used: int = 2
    ff: int = 64
    shared_ff: int = 128


@dataclass(frozen=True)
class Shape:
    """Sizes of a model; what llama.cpp's q8_0 KV cache needs holds: heads are a multiple of 32 wide."""

    layers: int = 2
    width: int = 128
    heads: int = 4
    kv_heads: int = 2
    ff: int = 256
    context: int = 4096
    freq_base: float = 1_000_000.0
    yarn_factor: float = 0.0
    """YaRN's in the header, where `context` is the original window."""
    tied: bool = True
    experts: Experts | None = None


@dataclass(frozen=True)
class Chain:
    """A model that always gives the same answer."""

    path: Path
    tokens: tuple[bytes, ...]
    """The answer token by token, without the end of turn."""
    ids: tuple[int, ...]

    @property
    def text(self) -> str:
        """The answer as a person should get it; what is not UTF-8 is replaced."""
        return b"".join(self.tokens).decode("utf-8", "replace")


def write_model(
    path: Path,
    *,
    arch: str = "",
    shape: Shape | None = None,
    name: str = "Test",
    chat_template: str | None = CHATML,
    vocabulary: Vocabulary | None = None,
    file_type: int = 0,
    kind: str = "model",
    tensors_per_part: int = 0,
    weights: bool = True,
    seed: int = 0,
) -> Path:
    """Write a model with random weights and return the path to load.

    `arch` is qwen2, or qwen2moe where the shape has experts, unless given. `tensors_per_part` splits it:
    the returned path is then that of part 1. Without `weights` the file holds a vocabulary alone.
    """
    shape, vocabulary = shape or Shape(), vocabulary or Vocabulary.small()
    rng = np.random.default_rng(seed)

    def fill(rows: tuple[int, ...], ones: bool = False) -> NDArray[np.float32]:
        return np.ones(rows, np.float32) if ones else rng.normal(0, 0.05, rows).astype(np.float32)

    arch = arch or ("qwen2moe" if shape.experts else "qwen2")
    writer = GGUFWriter(path, arch, split_max_tensors=tensors_per_part)
    writer.add_type(kind)
    writer.add_file_type(file_type)
    describe(writer, shape, name, vocabulary, chat_template)
    if weights:
        writer.add_tensor("token_embd.weight", fill((vocabulary.size, shape.width)))
        if not shape.tied:
            writer.add_tensor("output.weight", fill((vocabulary.size, shape.width)))
        for tensor, dims in blocks(shape):
            writer.add_tensor(tensor, fill(dims, ones="norm" in tensor))
    finish(writer)
    if tensors_per_part:
        return min(path.parent.glob(f"{path.stem}-00001-of-*.gguf"))
    return path


def write_chain(
    path: Path,
    answer: str | Sequence[bytes],
    *,
    shape: Shape | None = None,
    ends: bool = True,
    chat_template: str | None = CHATML,
    name: str = "Chain",
    markers: frozenset[bytes] = frozenset(),
    vocabulary: Vocabulary | None = None,
) -> Chain:
    """Write a model that answers every prompt with `answer` and then ends the turn.

    A text is cut into tokens that are all different; bytes are taken as the tokens they are and must be. The blocks
    add nothing to the residual stream, so it still is the last token's embedding when the output matrix maps it
    to the next token: what follows depends on the last token alone, at any temperature. A token that is not of
    the answer leads to its beginning. Without `ends` the answer begins again for ever.
    """
    tokens = tuple(distinct(answer) if isinstance(answer, str) else answer)
    if len(set(tokens)) != len(tokens) or not tokens:
        raise ValueError("a chain needs tokens, and all of them different")
    vocabulary = vocabulary or Vocabulary.small(tokens)
    if special := markers | (_MARKERS if _MARKERS & set(tokens) else frozenset()):
        vocabulary = replace(Vocabulary.small([*tokens, *sorted(special)]), user_defined=special)
    ids = tuple(vocabulary.id(token) for token in tokens)
    shape = shape or Shape(tied=False)
    size, width = vocabulary.size, shape.width
    rng = np.random.default_rng(0)
    # The first column marks tokens outside the answer, the others tell the answer's tokens apart.
    embedding = np.zeros((size, width), np.float32)
    embedding[:, 0] = np.sqrt(width)
    embedding[ids, :] = rng.choice([-1, 1], (len(ids), width))
    embedding[ids, 0] = 0
    output = np.zeros((size, width), np.float32)
    output[ids[0], 0] = 1
    following = [*ids[1:], vocabulary.id(TURN_END) if ends else ids[0]]
    for token, after in zip(ids, following, strict=True):
        output[after] += embedding[token] / np.sqrt(width)
    writer = GGUFWriter(path, "qwen2moe" if shape.experts else "qwen2")
    describe(writer, shape, name, vocabulary, chat_template)
    writer.add_tensor("token_embd.weight", embedding)
    writer.add_tensor("output.weight", output * 4)
    for tensor, dims in blocks(shape):
        writer.add_tensor(tensor, np.full(dims, "norm" in tensor, np.float32))
    finish(writer)
    return Chain(path, tokens, ids)


def distinct(text: str) -> list[bytes]:
    """Cut a text into different pieces: words, several in one where a word came before."""
    pieces: dict[str, None] = {"\n": None}
    start = 0
    for end in range(1, len(text) + 1):
        whole = text[start:end]
        if whole not in pieces and (end == len(text) or (text[end].isspace() and not whole[-1].isspace())):
            pieces[whole] = None
            start = end
    if start < len(text):
        raise ValueError("the text ends as it went before; end it otherwise")
    return [piece.encode() for piece in pieces if piece != "\n"]


def header(
    *, magic: bytes = b"GGUF", version: int = 3, tensors: int = 0, keys: int | None = None, body: Sequence[bytes] = ()
) -> bytes:
    """Return a header by hand, true or false: `body` holds keys made by `entry`."""
    return magic + struct.pack("<IQQ", version, tensors, len(body) if keys is None else keys) + b"".join(body)


def entry(key: str, kind: int, payload: bytes) -> bytes:
    """Return one key of a header with its value's type number and bytes."""
    return struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", kind) + payload


def word(text: str) -> bytes:
    """Return the bytes of a text value (type 8)."""
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _spellings() -> Iterable[tuple[bytes, bytes]]:
    """Return the merges that build each word byte by byte, and the word after a space."""
    for text in _WORDS:
        for whole in (text.encode(), b" " + text.encode()):
            for end in range(1, len(whole)):
                yield whole[:end], whole[end : end + 1]


def _shown(token: bytes) -> str:
    """Return bytes in GPT-2's notation: a printable character for each byte."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return "".join(chr(byte) if byte in plain else chr(256 + others.index(byte)) for byte in token)


def describe(writer: GGUFWriter, shape: Shape, name: str, vocabulary: Vocabulary, chat_template: str | None) -> None:
    writer.add_name(name)
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.ff)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_freq_base(shape.freq_base)
    if shape.yarn_factor:
        writer.add_rope_scaling_type(RopeScalingType.YARN)
        writer.add_rope_scaling_factor(shape.yarn_factor)
        writer.add_rope_scaling_orig_ctx_len(shape.context)
    writer.add_layer_norm_rms_eps(1e-6)
    if shape.experts:
        writer.add_expert_count(shape.experts.count)
        writer.add_expert_used_count(shape.experts.used)
        writer.add_expert_feed_forward_length(shape.experts.ff)
        writer.add_expert_shared_feed_forward_length(shape.experts.shared_ff)
    vocabulary.write(writer)
    if chat_template is not None:
        writer.add_chat_template(chat_template)


def blocks(shape: Shape) -> Iterable[tuple[str, tuple[int, ...]]]:
    """Return names and sizes of all tensors but embedding and output."""
    width, kv = shape.width, shape.width // shape.heads * shape.kv_heads
    yield "output_norm.weight", (width,)
    for layer in range(shape.layers):
        block = f"blk.{layer}."
        for name, rows in (("q", width), ("k", kv), ("v", kv)):
            yield f"{block}attn_{name}.weight", (rows, width)
            yield f"{block}attn_{name}.bias", (rows,)
        yield block + "attn_norm.weight", (width,)
        yield block + "attn_output.weight", (width, width)
        yield block + "ffn_norm.weight", (width,)
        if not (mix := shape.experts):
            yield from _feed_forward(block, "", (), shape.ff, width)
            continue
        yield block + "ffn_gate_inp.weight", (mix.count, width)
        yield block + "ffn_gate_inp_shexp.weight", (width,)
        yield from _feed_forward(block, "_exps", (mix.count,), mix.ff, width)
        yield from _feed_forward(block, "_shexp", (), mix.shared_ff, width)


def _feed_forward(
    block: str, suffix: str, experts: tuple[int, ...], ff: int, width: int
) -> Iterable[tuple[str, tuple[int, ...]]]:
    yield f"{block}ffn_gate{suffix}.weight", (*experts, ff, width)
    yield f"{block}ffn_up{suffix}.weight", (*experts, ff, width)
    yield f"{block}ffn_down{suffix}.weight", (*experts, width, ff)


def finish(writer: GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_lora(
    path: Path,
    *,
    rank: int = 4,
    shape: Shape | None = None,
    arch: str = "qwen2",
    kind: str = "adapter",
    form: str = "lora",
    tensor: str = "blk.0.attn_output.weight",
    halves: Sequence[str] = ("lora_a", "lora_b"),
) -> Path:
    """Write an adapter with random weights for one matrix of the first block."""
    shape = shape or Shape()
    rng = np.random.default_rng(1)
    writer = GGUFWriter(path, arch)
    writer.add_type(kind)
    writer.add_string("adapter.type", form)
    writer.add_float32("adapter.lora.alpha", float(rank))
    rows = {"lora_a": (rank, shape.width), "lora_b": (shape.width, rank)}
    for half in halves:
        writer.add_tensor(f"{tensor}.{half}", rng.normal(0, 1, rows[half]).astype(np.float32))
    finish(writer)
    return path
