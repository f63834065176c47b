"""The worker process: loads one model and serves the parent's requests, one after another or several together.

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
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO

from qwenchat.engines.local import protocol
from qwenchat.engines.local.protocol import (
    AddPeers,
    Cancel,
    CompareKV,
    Count,
    Counted,
    Detokenise,
    Detokenised,
    Generate,
    Hello,
    KVCompared,
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
    Tokenise,
    Tokenised,
    WirePart,
    WorkerProgress,
    WorkerReply,
    frame,
)
from qwenchat.engines.schema.refusal import SchemaRefused
from qwenchat.engines.worker.c_api import Abort, DecodeFailed, LoadFailed, UnknownToken, bindings, disable_core_dumps
from qwenchat.engines.worker.generation import BATCH_S, GenerationJob, time_run
from qwenchat.engines.worker.ggml import Ggml, PeerRefused
from qwenchat.engines.worker.llama import LlamaModel
from qwenchat.engines.worker.schedule import Schedule
from qwenchat.engines.worker.vocabulary import Vocabulary

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
        self._cancelling = threading.Lock()
        self._known: set[int] = set()
        """The requests that have come and not ended."""
        self._active: set[int] = set()
        """Of these, the ones that are served."""
        self._cancelled: set[int] = set()
        """And the ones that are to be stopped."""
        self._todo: queue.SimpleQueue[protocol.WorkerRequest] = queue.SimpleQueue()
        self._next: protocol.WorkerRequest | None = None
        """A request that waits until others have ended."""
        self._to_count: queue.SimpleQueue[Count | Tokenise | Detokenise] = queue.SimpleQueue()
        self._tokens: dict[WirePart, array[int]] = {}
        self._model: LlamaModel | None = None
        self._schedule: Schedule | None = None
        self._constraints: Constraints | None = None

    def run(self) -> None:
        """Serve requests until the parent closes the pipe."""
        threading.Thread(target=self._count, daemon=True).start()
        # Starting a thread can hang where memory is limited: the one that answers pings is the last.
        threading.Thread(target=self._read, daemon=True).start()
        self._replies.put(self._hello())
        while True:
            if request := self._next_request():
                self._serve(request)
            elif self._schedule:
                self._schedule.step()

    def _next_request(self) -> protocol.WorkerRequest | None:
        """Return the request that can be served now; it waits for one where nothing is computed."""
        schedule = self._schedule
        if schedule is None or schedule.is_idle:
            request, self._next = self._next or self._todo.get(), None
            return request
        if self._next is None:
            with suppress(queue.Empty):
                self._next = self._todo.get_nowait()
        if not (isinstance(self._next, Generate) and schedule.has_room):
            return None
        request, self._next = self._next, None
        return request

    def _begin(self, request_id: int) -> None:
        with self._cancelling:
            self._active.add(request_id)
            if request_id in self._cancelled:
                self._abort.set()
            elif len(self._active) == 1:
                self._abort.clear()

    def _end(self, request_id: int, error: Exception | None = None) -> None:
        with self._cancelling:
            for requests in (self._known, self._active, self._cancelled):
                requests.discard(request_id)
        if error:
            self._replies.put(_failed(request_id, error))

    def _is_cancelled(self, request_id: int) -> bool:
        return request_id in self._cancelled

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
                with self._cancelling:
                    if request.id in self._known:
                        self._cancelled.add(request.id)
                    others_get_on = self._schedule is None or not self._schedule.must_get_on
                    if request.id in self._active and (others_get_on or self._active <= self._cancelled):
                        self._abort.set()
            elif isinstance(request, Ping):
                self._replies.put(Pong())
            elif isinstance(request, Count | Tokenise | Detokenise):
                self._to_count.put(request)
            else:
                with self._cancelling:
                    self._known.add(request.id)
                self._todo.put(request)
        os._exit(0)

    def _serve(self, request: protocol.WorkerRequest) -> None:
        """Serve a request, or start to where it generates."""
        self._begin(request.id)
        failure: Exception | None = None
        try:
            if isinstance(request, Generate):
                self._generate(request)
                return
            self._compute(request)
        except (PeerRefused, LoadFailed, SchemaRefused, UnknownToken, DecodeFailed) as error:
            failure = error
        self._end(request.id, failure)

    def _generate(self, request: Generate) -> None:
        model, schedule = self._ready()
        is_bound = request.sampling.schema or (request.calls and request.calls.tools)
        constraint = self._constraint(request) if is_bound else None
        prompt, scored_from = self._prompt(request.parts), None
        if request.scored_parts:
            before = request.parts[: -request.scored_parts]
            scored_from = len(self._prompt(before)) if before else 0
        job = GenerationJob(
            model,
            schedule.take_slot(prompt),
            request,
            prompt,
            report=self._replies.put,
            constraint=constraint,
            scored_from=scored_from,
        )
        schedule.start(job)

    def _compute(self, request: protocol.WorkerRequest) -> None:
        if isinstance(request, Load):
            self._load(request)
        elif isinstance(request, AddPeers):
            self._replies.put(PeersAdded(request.id, Ggml.beside(self._c).add_peers(request.peers)))
        elif isinstance(request, CompareKV):
            model, _schedule = self._ready()
            prompt = self._prompt(request.parts)
            saved = [model.saved_with(prompt, path) for path in request.paths]
            self._replies.put(KVCompared(request.id, len(prompt), model.slots[0].shared_with(prompt), saved))
        elif isinstance(request, SaveKV):
            model, _schedule = self._ready()
            self._replies.put(KVTokens(request.id, model.save(request.path), model.slots[0].exact_tokens))
        elif isinstance(request, RestoreKV):
            model, _schedule = self._ready()
            self._replies.put(KVTokens(request.id, model.restore(request.path, request.exact_tokens)))
        elif isinstance(request, TimeRun):
            model, _schedule = self._ready()
            self._replies.put(time_run(model, request))

    def _constraint(self, request: Generate) -> "Future[Constraint]":
        """Begin to make what an answer by a schema, or the calls in it, must follow."""
        from qwenchat.engines.worker.constraint import Constraints  # noqa: PLC0415 - 0.2 s that few answers need

        self._constraints = self._constraints or Constraints(self._vocabulary)
        if request.calls and not request.sampling.schema:
            return self._constraints.of_calls(request.calls)
        return self._constraints.of_schema(request.sampling.schema or "", request.answered)

    def _ready(self) -> tuple[LlamaModel, Schedule]:
        if self._model is None or self._schedule is None:
            raise LoadFailed("no model is loaded")
        return self._model, self._schedule

    @property
    def _vocabulary(self) -> Vocabulary:
        return self._ready()[0].vocabulary

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
        self._model, self._schedule = model, Schedule(model, self._is_cancelled, self._end)
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
                draft_fault=model.draft_fault,
            )
        )

    def _count(self) -> None:
        while True:
            request = self._to_count.get()
            try:
                self._replies.put(self._counted(request))
            except (DecodeFailed, LoadFailed, UnknownToken) as error:
                self._replies.put(_failed(request.id, error))

    def _counted(self, request: Count | Tokenise | Detokenise) -> WorkerReply:
        if isinstance(request, Detokenise):
            return Detokenised(request.id, self._vocabulary.text(request.ids))
        if isinstance(request, Tokenise):
            return Tokenised(request.id, tuple(self._prompt(request.parts)))
        tokens = {part: self._tokenise(part) for part in request.parts}
        self._tokens = tokens
        return Counted(request.id, [len(tokens[part]) for part in request.parts], len(self._prompt(request.parts)))

    def _tokenise(self, part: WirePart) -> "array[int]":
        """Return a part's tokens, those of the last `Count` if it contained the part."""
        known = self._tokens.get(part)
        if known is not None:
            return known
        if isinstance(part, TokenIds):
            vocabulary = self._vocabulary
            return vocabulary.known(part.ids) if part.with_control else vocabulary.without_control(part.ids)
        return self._vocabulary.tokenise(part.text, special=isinstance(part, SpecialText))

    def _prompt(self, parts: Sequence[WirePart]) -> "array[int]":
        c, vocab = self._c, self._vocabulary.pointer
        tokens = array("i")
        for part in parts:
            tokens.extend(self._tokenise(part))
        is_whole = isinstance(parts[0], TokenIds) and parts[0].with_control if parts else False
        if c.llama_vocab_get_add_bos(vocab) and not is_whole:
            bos = c.llama_vocab_bos(vocab)
            if not tokens or tokens[0] != bos:
                tokens.insert(0, bos)
        return tokens


def _failed(request_id: int, error: Exception) -> RequestFailed:
    """Return the reply to a request that ended with an error."""
    match error:
        case SchemaRefused():
            return RequestFailed(request_id, "schema", error.detail, error.reason, error.pointer)
        case PeerRefused():
            return RequestFailed(request_id, "peer", str(error))
        case LoadFailed():
            return RequestFailed(request_id, "load", str(error))
        case UnknownToken():
            return RequestFailed(request_id, "token", str(error))
        case _:
            return RequestFailed(request_id, "decode", str(error))


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
