"""The worker process: loads one model and serves the parent's requests, one after another.

It has four threads. Only the main thread computes. The second reads requests and serves `Cancel` at once; the third
counts tokens while an answer is generated; the fourth writes replies, so that a slow parent never delays a token. When
the pipe from the parent closes, the process ends immediately, even during a prefill; this is also how a load is
cancelled.

It is started as `python -m qwenchat.engines.worker.main`. The protocol takes over descriptors 0 and 1, and the output
of llama.cpp goes to the log on descriptor 2.
"""

import os
import queue
import signal
import sys
import threading
import time
import traceback
from array import array
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, BinaryIO

from qwenchat.engines.local import protocol
from qwenchat.engines.local.protocol import (
    AddPeers,
    Cancel,
    Count,
    Counted,
    Generate,
    Hello,
    KVTokens,
    Load,
    PeersAdded,
    Piece,
    Ping,
    Pong,
    Ready,
    RequestFailed,
    RestoreKV,
    SaveKV,
    SpecialText,
    TimeRun,
    TokenIds,
    WirePart,
    WorkerProgress,
    WorkerReply,
    frame,
)
from qwenchat.engines.schema.document import SchemaRefused
from qwenchat.engines.worker.c_api import Abort, DecodeFailed, LoadFailed, bindings, disable_core_dumps
from qwenchat.engines.worker.generation import BATCH_S, GenerationJob, time_run
from qwenchat.engines.worker.ggml import Ggml, PeerRefused
from qwenchat.engines.worker.llama import LlamaModel

if TYPE_CHECKING:
    from qwenchat.engines.worker.constraint import Constraint, Constraints


class ReplyWriter:
    """Sends replies to the parent from a thread of its own: the computing thread never waits, and memory stays bounded.

    While the pipe is full, pieces of the same answer are joined and newer progress replaces older, so that at most one
    answer waits, however slowly the parent reads. When the pipe breaks, the process ends.
    """

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        self._waiting: deque[WorkerReply] = deque()
        self._filled = threading.Condition()
        threading.Thread(target=self._write, daemon=True).start()

    def put(self, message: WorkerReply) -> None:
        """Queue a message; never blocks."""
        with self._filled:
            last = self._waiting[-1] if self._waiting else None
            if isinstance(last, WorkerProgress) and isinstance(message, WorkerProgress) and last.id == message.id:
                self._waiting[-1] = message
            else:
                self._waiting.append(message)
            self._filled.notify()

    def _take(self) -> WorkerReply:
        """Wait for a message and return it; consecutive pieces of the same answer are joined."""
        with self._filled:
            while not self._waiting:
                self._filled.wait()
            first = self._waiting.popleft()
            if not isinstance(first, Piece) or first.apart:
                return first
            texts, ids = [first.text], [*first.ids]
            while self._waiting and isinstance(piece := self._waiting[0], Piece):
                if piece.id != first.id or piece.apart:
                    break
                texts.append(piece.text)
                ids += piece.ids
                self._waiting.popleft()
        return Piece(first.id, "".join(texts), tuple(ids))

    def _write(self) -> None:
        while True:
            data = memoryview(frame(self._take()))
            try:
                while data:
                    data = data[self._pipe.write(data) :]
            except OSError:
                os._exit(0)


class Worker:
    """The state of the process: the model, the waiting requests, and the outgoing replies."""

    def __init__(self, c: Any, requests: BinaryIO, replies: BinaryIO) -> None:
        self._c = c
        self._requests = requests
        self._replies = ReplyWriter(replies)
        self._abort = Abort()
        self._running = threading.Lock()
        self._current = self._cancelled = 0
        self._todo: queue.SimpleQueue[protocol.WorkerRequest] = queue.SimpleQueue()
        self._to_count: queue.SimpleQueue[Count] = queue.SimpleQueue()
        self._tokens: dict[WirePart, array[int]] = {}
        self._model: LlamaModel | None = None
        self._constraints: Constraints | None = None

    def run(self) -> None:
        """Serve requests until the parent closes the pipe."""
        threading.Thread(target=self._count, daemon=True).start()
        # Starting a thread can hang where memory is limited: the one that answers pings is the last.
        threading.Thread(target=self._read, daemon=True).start()
        self._replies.put(self._hello())
        while True:
            request = self._todo.get()
            with self._running:
                self._current = request.id
                if self._cancelled == request.id:
                    self._abort.set()
            try:
                self._serve(request)
            finally:
                with self._running:
                    self._current = 0
                    self._abort.clear()

    def _hello(self) -> Hello:
        offload = bool(self._c.llama_supports_gpu_offload())
        return Hello(
            _version(),
            self._c.llama_print_system_info().decode(),
            Ggml.beside(self._c).accelerators() if offload else [],
            offload=offload,
            rpc=bool(self._c.llama_supports_rpc()),
        )

    def _read(self) -> None:
        while (request := protocol.read_request(self._requests)) is not None:
            if isinstance(request, Cancel):
                with self._running:
                    self._cancelled = request.id
                    if self._current == request.id:
                        self._abort.set()
            elif isinstance(request, Ping):
                self._replies.put(Pong())
            elif isinstance(request, Count):
                self._to_count.put(request)
            else:
                self._todo.put(request)
        os._exit(0)

    def _serve(self, request: protocol.WorkerRequest) -> None:
        try:
            if isinstance(request, Load):
                self._load(request)
            elif isinstance(request, AddPeers):
                self._replies.put(PeersAdded(request.id, Ggml.beside(self._c).add_peers(request.peers)))
            elif isinstance(request, Generate):
                is_bound = request.sampling.schema or (request.calls and request.calls.tools)
                constraint = self._constraint(request) if is_bound else None
                prompt = self._prompt(request.parts)
                GenerationJob(self._ready(), request, prompt, self._replies.put, constraint).run()
            elif isinstance(request, SaveKV):
                model = self._ready()
                self._replies.put(KVTokens(request.id, model.save(request.path), model.exact_tokens))
            elif isinstance(request, RestoreKV):
                tokens = self._ready().restore(request.path, request.exact_tokens)
                self._replies.put(KVTokens(request.id, tokens))
            elif isinstance(request, TimeRun):
                self._replies.put(time_run(self._ready(), request))
        except PeerRefused as error:
            self._replies.put(RequestFailed(request.id, "peer", str(error)))
        except LoadFailed as error:
            self._replies.put(RequestFailed(request.id, "load", str(error)))
        except SchemaRefused as error:
            self._replies.put(RequestFailed(request.id, "schema", error.detail, error.reason, error.pointer))
        except DecodeFailed as error:
            self._replies.put(RequestFailed(request.id, "decode", str(error)))

    def _constraint(self, request: Generate) -> "Future[Constraint]":
        """Begin to make what an answer by a schema, or the calls in it, must follow."""
        from qwenchat.engines.worker.constraint import Constraints  # noqa: PLC0415 - 0.2 s that few answers need

        self._constraints = self._constraints or Constraints(self._ready().vocabulary)
        if request.calls and not request.sampling.schema:
            return self._constraints.of_calls(request.calls)
        return self._constraints.of_schema(request.sampling.schema or "", request.answered)

    def _ready(self) -> LlamaModel:
        if self._model is None:
            raise LoadFailed("no model is loaded")
        return self._model

    def _load(self, request: Load) -> None:
        started = time.perf_counter()
        last = 0.0

        def progress(fraction: float) -> None:
            nonlocal last
            now = time.perf_counter()
            if now - last > BATCH_S:
                last = now
                self._replies.put(WorkerProgress(request.id, fraction, 1.0, now - started))

        model = LlamaModel(self._c, request.plan, self._abort, progress)
        markers = [model.vocabulary.tokenise(text, special=True) for text in ("<|im_start|>", "<|im_end|>")]
        vocab = model.vocabulary.pointer
        self._model = model
        self._replies.put(
            Ready(
                request.id,
                n_ctx=model.n_ctx,
                chat_template=model.vocabulary.chat_template,
                chatml=all(len(marker) == 1 for marker in markers),
                bos=model.vocabulary.special(self._c.llama_vocab_bos(vocab)),
                eos=model.vocabulary.special(self._c.llama_vocab_eos(vocab)),
                load_s=time.perf_counter() - started,
                description=model.description,
                tensor_bytes=model.tensor_bytes,
                parameters=model.parameters,
            )
        )

    def _count(self) -> None:
        while True:
            request = self._to_count.get()
            try:
                tokens = {part: self._tokenise(part) for part in request.parts}
                self._tokens = tokens
                total = len(self._prompt(request.parts))
            except (DecodeFailed, LoadFailed) as error:
                self._replies.put(RequestFailed(request.id, "decode", str(error)))
                continue
            self._replies.put(Counted(request.id, [len(tokens[part]) for part in request.parts], total))

    def _tokenise(self, part: WirePart) -> "array[int]":
        """Return a part's tokens, those of the last `Count` if it contained the part."""
        known = self._tokens.get(part)
        if known is not None:
            return known
        if isinstance(part, TokenIds):
            return self._ready().vocabulary.without_control(part.ids)
        return self._ready().vocabulary.tokenise(part.text, special=isinstance(part, SpecialText))

    def _prompt(self, parts: Sequence[WirePart]) -> "array[int]":
        model = self._ready()
        tokens = array("i")
        for part in parts:
            tokens.extend(self._tokenise(part))
        if model.c.llama_vocab_get_add_bos(model.vocabulary.pointer):
            bos = model.c.llama_vocab_bos(model.vocabulary.pointer)
            if not tokens or tokens[0] != bos:
                tokens.insert(0, bos)
        return tokens


def _version() -> str:
    from importlib.metadata import version  # noqa: PLC0415 - 10 ms that a failed start can save

    return version("llama-cpp-python")


def _end_process(failure: threading.ExceptHookArgs) -> None:
    """End the process when a thread fails; otherwise the parent would wait for that thread's work forever."""
    traceback.print_exception(failure.exc_type, failure.exc_value, failure.exc_traceback)
    sys.stderr.flush()
    os._exit(1)


def main() -> None:
    """Take over the protocol's descriptors, then serve requests."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    disable_core_dumps()
    threading.excepthook = _end_process
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    try:
        c = bindings()
    except Exception as error:  # a broken binding may raise anything when it is imported
        traceback.print_exc()
        replies.write(protocol.frame(RequestFailed(0, "binding", str(error) or repr(error))))
        return
    Worker(c, requests, replies).run()


if __name__ == "__main__":
    main()
