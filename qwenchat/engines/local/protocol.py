"""The messages between parent and worker: msgpack after a four-byte length, on two private pipes.

Each request has a number, which its replies repeat. `Cancel`, `Count`, `Tokenise`, `Detokenise` and `Ping` are
served while another request runs; all others are served in order.
"""

import struct
from typing import IO, BinaryIO, Literal

import msgspec
from msgspec import Struct

from qwenchat.chat.events import TokenChance
from qwenchat.chat.message import FinishReason, Timings, Usage
from qwenchat.chat.sampling import Sampling
from qwenchat.engines.schema.refusal import Reason

FRAME = struct.Struct("<I")
CHUNK = 512
"""Tokens of the longest prefill step: llama.cpp's physical batch size; longer steps are not faster."""
MAX_THREADS = 512
"""The most threads that ggml accepts (GGML_MAX_N_THREADS)."""


class Lora(Struct, frozen=True):
    """An adapter and its strength."""

    path: bytes
    """The path in the operating system's encoding (`os.fsencode`): file names need not be valid text."""
    scale: float = 1.0


class DeviceShare(Struct, frozen=True):
    """How many layers of a model are on a device; only the proportions count."""

    device: str
    """llama.cpp's name of the device."""
    layers: float


class DraftModel(Struct, frozen=True, kw_only=True):
    """A small model that guesses what a large one will say."""

    path: bytes
    """The path in the operating system's encoding."""
    name: str
    """The model's name for users."""
    gpu_layers: int = 0


DraftFault = Literal["load", "vocabulary"]
"""Why a draft model is not used: it can't be loaded, or has other tokens."""


class LoadPlan(Struct, frozen=True, kw_only=True):
    """The model to load, and the decided options."""

    path: bytes
    """The path in the operating system's encoding."""
    identity: str
    n_ctx: int
    threads: int
    gpu_layers: int = 0
    kv_type: str = "f16"
    """The type of keys and values: `f16` or `q8_0`."""
    flash_attention: bool = True
    """Whether llama.cpp may compute attention without storing its scores, which processors do slowly."""
    mmap: bool = True
    yarn_factor: float = 1.0
    """The factor by which YaRN extends the native context; 1: not at all, whatever the file says; 0: as it says."""
    native_ctx: int = 32768
    parallel: int = 1
    """How many requests are served together; each has a context window of its own."""
    scores: bool = False
    """Whether `Generate.scored_parts` is served without drafts, which takes memory."""
    drafts: bool = True
    """Whether answers are guessed ahead; only benchmarks and tests do without."""
    draft: DraftModel | None = None
    beside_screen: bool = False
    """Whether the threads that compute make way for a screen, which needs the same cores."""
    loras: tuple[Lora, ...] = ()
    extra_buffers: bool = True
    """Whether weights may be repacked for the processor's matrix instructions, such as AMX."""
    split: tuple[DeviceShare, ...] | None = None
    """The devices that share the `gpu_layers`, first layers first; None: llama.cpp decides."""
    peers: tuple[str, ...] = ()
    """Host and port of each peer that gets layers."""

    @property
    def spread_identity(self) -> str:
        """What is stored as `Message.model_file` with the answers: the identity, and the peers that take part."""
        return f"rpc://{','.join(self.peers)}#{self.identity}" if self.peers else self.identity


class Device(Struct, frozen=True):
    """An accelerator as llama.cpp sees it; memory in bytes."""

    name: str
    description: str
    memory_free: int
    memory_total: int
    shares_ram: bool = False
    """Whether it uses the RAM as its memory, as in Macs and in most laptops without a graphics card."""
    peer: str = ""
    """Host and port of the peer that lends it; empty for a device of this machine."""


class SpecialText(Struct, frozen=True, tag="s", array_like=True):
    """Text in which special tokens are recognised."""

    text: str


class PlainText(Struct, frozen=True, tag="p", array_like=True):
    """Text in which they are not."""

    text: str


class TokenIds(Struct, frozen=True, tag="t", array_like=True):
    """Tokens, passed on without those that end a turn or begin one, or with them."""

    ids: tuple[int, ...]
    with_control: bool = False


WirePart = SpecialText | PlainText | TokenIds


class Load(Struct, frozen=True, tag=True):
    """Load the model; answered by WorkerProgress, then Ready or RequestFailed."""

    id: int
    plan: LoadPlan


class AddPeers(Struct, frozen=True, tag=True):
    """Connect to peers, which must be reachable, to use their devices; answered by PeersAdded."""

    id: int
    peers: tuple[str, ...]
    """Host and port of each."""


class Count(Struct, frozen=True, tag=True):
    """Count the tokens of a prompt, as `Generate` would make it; answered by Counted."""

    id: int
    parts: list[WirePart]


class Tokenise(Struct, frozen=True, tag=True):
    """Return the tokens of a prompt, as `Generate` would make it; answered by Tokenised."""

    id: int
    parts: list[WirePart]


class Detokenise(Struct, frozen=True, tag=True):
    """Return the text of tokens, that of special ones included; answered by Detokenised."""

    id: int
    ids: tuple[int, ...]


class CallOfTool(Struct, frozen=True):
    """The text of a call around its arguments: `engines.calls.format.CallSyntax`."""

    before: str
    bare: str
    parameters: str
    after: str


class Calls(Struct, frozen=True):
    """How the model may call tools: `engines.calls.format.CallMarkers` and the syntax of each tool."""

    begin: str
    end: str
    stops: tuple[str, ...]
    """What ends the answer, as the stop strings of the sampling do."""
    tools: tuple[CallOfTool, ...]
    """Empty: calls are not made to follow anything."""
    is_required: bool = False
    """Whether the answer has to be calls."""


class Generate(Struct, frozen=True, tag=True):
    """Answer a prompt; answered by WorkerProgress, Scored and Piece, then Done or RequestFailed."""

    id: int
    parts: list[WirePart]
    sampling: Sampling
    answered: str = ""
    """The text of the answer that is continued, without its reasoning; a schema covers it too."""
    calls: Calls | None = None
    """None where the model may not call tools."""
    chances: int = 0
    """How many of the likeliest tokens are reported for each one that is sampled."""
    scored_parts: int = 0
    """Of how many parts, from the last one backwards, the chances of the tokens are reported, as Scored.

    Those of the token that ends the answer are then reported, too, as a Piece without text.
    """


class CompareKV(Struct, frozen=True, tag=True):
    """Compare a prompt with the KV cache and with saved ones; answered by KVCompared or RequestFailed."""

    id: int
    parts: list[WirePart]
    paths: list[bytes]
    """The files of the saved ones."""


class SaveKV(Struct, frozen=True, tag=True):
    """Write the KV cache to a file; answered by KVTokens."""

    id: int
    path: bytes


class RestoreKV(Struct, frozen=True, tag=True):
    """Read the KV cache from a file; answered by KVTokens, with 0 if it could not be used."""

    id: int
    path: bytes
    exact_tokens: int
    """How many of its tokens were decoded in exact steps, as KVTokens said when it was saved."""


class TimeRun(Struct, frozen=True, tag=True):
    """Time the decoding of random tokens after `depth` others; answered by RunTimed or RequestFailed.

    `prompt` tokens are decoded in steps, like a prompt, then `generate` tokens one by one. Nothing is sampled.
    """

    id: int
    depth: int
    prompt: int
    generate: int


class Cancel(Struct, frozen=True, tag=True):
    """Stop the request `id` if it is still running."""

    id: int


class Ping(Struct, frozen=True, tag=True):
    """Ask whether the worker still runs; answered at once by Pong."""

    id: int = 0


WorkerRequest = (
    Load
    | AddPeers
    | Count
    | Tokenise
    | Detokenise
    | Generate
    | CompareKV
    | SaveKV
    | RestoreKV
    | TimeRun
    | Cancel
    | Ping
)


class Hello(Struct, frozen=True, tag=True):
    """The worker's first message: what this build of llama.cpp can do."""

    binding: str
    """Version of llama-cpp-python; empty if only its C part could be read."""
    features: str
    """llama.cpp's list of the features that it was compiled with."""
    devices: list[Device]
    offload: bool = False
    """Whether this build can use accelerators at all, on this machine or another."""
    rpc: bool = False
    """Whether this build can use the devices of peers, and lend its own."""


class WorkerProgress(Struct, frozen=True, tag=True):
    """The progress of loading (`total` is 1.0) or of prefill (`total` is a number of tokens)."""

    id: int
    done: float
    total: float
    seconds: float


class Ready(Struct, frozen=True, tag=True):
    """The model is loaded."""

    id: int
    n_ctx: int
    chat_template: str
    chatml: bool
    """Whether the vocabulary has ChatML's two markers."""
    bos: str
    eos: str
    load_s: float
    description: str
    """What llama.cpp calls the model, such as `qwen2 1.5B Q4_K - Medium`."""
    tensor_bytes: int
    parameters: int
    draft_fault: DraftFault | None = None
    """Why the draft model of the plan is not used."""


class PeersAdded(Struct, frozen=True, tag=True):
    """The peers are connected until the worker ends."""

    id: int
    devices: list[Device]
    """Of all peers."""


class Counted(Struct, frozen=True, tag=True):
    """Tokens of each part, and of the whole prompt, to which the vocabulary may add a token at the beginning."""

    id: int
    counts: list[int]
    total: int


class Tokenised(Struct, frozen=True, tag=True):
    """The tokens of a prompt."""

    id: int
    ids: tuple[int, ...]


class Detokenised(Struct, frozen=True, tag=True):
    """The text of tokens; bytes that are no character are replaced."""

    id: int
    text: str


class Piece(Struct, frozen=True, tag=True, omit_defaults=True):
    """The next piece of the answer: complete characters, and the tokens that they come from."""

    id: int
    text: str
    ids: tuple[int, ...]
    apart: bool = False
    """Never joined with other pieces: it is a reasoning marker, the line breaks after one, or has chances."""
    chances: tuple[tuple[TokenChance, ...], ...] = ()
    """Of each token, where they were asked for; a token that was not sampled itself has none."""


class Scored(Struct, frozen=True, tag=True):
    """The next tokens of the prompt, and how likely each was after those before it; the first token has no chances."""

    id: int
    ids: tuple[int, ...]
    chances: tuple[tuple[TokenChance, ...], ...]


class Done(Struct, frozen=True, tag=True):
    """The answer ended."""

    id: int
    reason: FinishReason
    usage: Usage
    timings: Timings


class KVCompared(Struct, frozen=True, tag=True):
    """How many tokens a prompt has, and how many of them, from the beginning, are in which KV cache."""

    id: int
    prompt: int
    cached: int
    """In that of the first slot."""
    saved: list[int]
    """In each of the files."""


class KVTokens(Struct, frozen=True, tag=True):
    """The number of tokens that were saved or restored."""

    id: int
    tokens: int
    exact_tokens: int = 0
    """When saved: how many of them, from the beginning, were decoded in exact steps."""


class RunTimed(Struct, frozen=True, tag=True):
    """How long a timed run took."""

    id: int
    nanoseconds: int


class RequestFailed(Struct, frozen=True, tag=True):
    """The request failed.

    `kind` is `load`, `peer`, `context`, `token`, `schema` or `decode`; `binding` means that the worker can't start, and
    `refused` that the program which shares it refuses the request.
    """

    id: int
    kind: str
    detail: str = ""
    reason: Reason = Reason.OTHER
    """Of a schema that is refused."""
    pointer: str = "#"
    """Where in it."""


class Pong(Struct, frozen=True, tag=True):
    """The worker still runs, whatever it computes."""

    id: int = 0


RequestReply = (
    WorkerProgress
    | Ready
    | PeersAdded
    | Counted
    | Tokenised
    | Detokenised
    | Scored
    | Piece
    | Done
    | KVCompared
    | KVTokens
    | RunTimed
    | RequestFailed
)
WorkerReply = Hello | Pong | RequestReply

encode = msgspec.msgpack.Encoder().encode
_requests: msgspec.msgpack.Decoder[WorkerRequest] = msgspec.msgpack.Decoder(WorkerRequest)
_replies: msgspec.msgpack.Decoder[WorkerReply] = msgspec.msgpack.Decoder(WorkerReply)


def frame(message: WorkerRequest | WorkerReply) -> bytes:
    """Return a message with its length in front, ready to be written."""
    body = encode(message)
    return FRAME.pack(len(body)) + body


def decode_reply(body: bytes) -> WorkerReply:
    """Return the reply in the body of a frame."""
    return _replies.decode(body)


def read_reply(stream: IO[bytes]) -> WorkerReply | None:
    """Return the next reply; None when the worker has ended."""
    body = _read_frame(stream)
    return None if body is None else _replies.decode(body)


def read_request(stream: BinaryIO) -> WorkerRequest | None:
    """Return the next request; None when the parent has closed the pipe or died."""
    body = _read_frame(stream)
    return None if body is None else _requests.decode(body)


def _read_frame(stream: IO[bytes]) -> bytes | None:
    head = stream.read(FRAME.size)
    if len(head) < FRAME.size:
        return None
    (length,) = FRAME.unpack(head)
    body = stream.read(length)
    return body if len(body) == length else None
