"""The peers of llama.cpp's RPC: other machines that take layers of a model which is too large for this one.

llama.cpp ends its process where a peer is missing, has another version, or goes away later, and it waits without limit
for one that serves another program. So each peer is asked for its version here, with a time limit, before a worker
connects to it; and again after a worker has died, to name the peer that was lost. Neither words nor weights are sent
from here.
"""

import asyncio
import re
import socket
import struct
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from qwenchat.engines.local.failures import OTHER_MODEL, START_AGAIN
from qwenchat.engines.local.link import WorkerLink
from qwenchat.engines.local.process import install_command
from qwenchat.engines.local.protocol import AddPeers, Device, Hello, PeersAdded, RequestFailed
from qwenchat.errors import CannotLoad, EngineDied, Recovery, RecoveryKind, RemoteUnreachable
from qwenchat.i18n import _, reason_of, sentences
from qwenchat.text.safe import clean_line

CMAKE_OPTION = "-DGGML_RPC=ON"
"""What builds llama.cpp with RPC."""
ANSWER_S = 3.0
"""Seconds within which a peer that is free answers."""
WITHOUT_PEERS = Recovery(RecoveryKind.WITHOUT_PEERS)
_CAPABILITIES = 24
"""Bytes about other transports than TCP (RPC_CONN_CAPS_SIZE); all 0 for none."""
_HELLO = struct.pack(f"<BQ{_CAPABILITIES}x", 14, _CAPABILITIES)
"""RPC_CMD_HELLO, with the length of its body."""
_ANSWER = struct.Struct(f"<Q3B{_CAPABILITIES + 1}x")
"""The length of what follows, and the version of the protocol."""
_LENGTH = 8
"""Bytes of that length."""
_LOSS = re.compile(
    r"Remote RPC server crashed|RPC handshake failed|Failed to connect to|no answer from|(send|recv) failed"
)
"""What llama.cpp or the worker logs about a peer that is gone."""
_NO_ROOM = re.compile(r"RPC\d+\[([^\]]+)\]")
"""A device of a peer, in a line about memory that could not be had there."""


def faults(peers: Sequence[str]) -> dict[str, str]:
    """Return why peers (`host:port`) can't be used now; those that answer are left out.

    All are asked at once. It blocks for ANSWER_S at most, and for as long as names are looked up.
    """
    if not peers:
        return {}
    with ThreadPoolExecutor(len(peers)) as threads:
        found = list(threads.map(_fault, peers))
    return {peer: fault for peer, fault in zip(peers, found, strict=True) if fault}


async def connect(worker: WorkerLink, hello: Hello, peers: Sequence[str]) -> list[Device]:
    """Connect a worker to peers and return their devices.

    Raises CannotLoad where its llama.cpp has no RPC, RemoteUnreachable where a peer can't be used, and EngineDied.
    """
    if not hello.rpc:
        raise CannotLoad(
            _("The model needs the memory of peers, but llama.cpp was built without RPC."),
            _("Install it again: {command}").format(command=install_command(CMAKE_OPTION)),
            recoveries=(WITHOUT_PEERS, OTHER_MODEL),
        )
    if found := await asyncio.to_thread(faults, peers):
        raise RemoteUnreachable(
            _describe(found),
            _("Lend that machine again, and check the setting model.rpc."),
            recoveries=(START_AGAIN, WITHOUT_PEERS, OTHER_MODEL),
        )
    reply = await worker.ask_once(AddPeers(worker.number(), tuple(peers)))
    if isinstance(reply, PeersAdded):
        return reply.devices
    detail = reply.detail if isinstance(reply, RequestFailed) else repr(reply)
    raise CannotLoad(
        _("llama.cpp can't use the peers: {reason}.").format(reason=clean_line(detail)),
        _("Check what is lent there."),
        recoveries=(WITHOUT_PEERS, OTHER_MODEL),
    )


async def loss(error: EngineDied, peers: Sequence[str]) -> EngineDied | None:
    """Return the error for a worker that died because a peer was lost; None if that was not the cause."""
    if not (peers and _LOSS.search(error.log)):
        return None
    found = await asyncio.to_thread(faults, peers)
    if not found:  # whoever ended the connection can be reached again
        words = _("it ended the connection") if len(peers) == 1 else _("it or another peer ended the connection")
        found = dict.fromkeys(peers, words)
    return EngineDied(
        _describe(found),
        _("Start the peer again. What came of an answer is saved."),
        log=error.log,
        recoveries=(START_AGAIN, WITHOUT_PEERS, OTHER_MODEL),
    )


def lacking_memory(log: Sequence[str], name: str) -> CannotLoad | None:
    """Return the error for a peer that had too little memory for its part of a model; None if the log names none."""
    found = [match[1] for line in log if (match := _NO_ROOM.search(line)) and "allocate" in line]
    if not found:
        return None
    return CannotLoad(
        _("The peer {peer} has too little memory for its part of {name}.").format(
            peer=clean_line(found[-1]), name=name
        ),
        _("Close other programs there, or add another peer."),
        recoveries=(START_AGAIN, WITHOUT_PEERS, OTHER_MODEL),
    )


def _describe(found: dict[str, str]) -> str:
    return sentences(*(_("Peer {peer}: {reason}.").format(peer=peer, reason=reason) for peer, reason in found.items()))


def _fault(peer: str) -> str:
    """Return why a peer can't be used; empty where it answers as llama.cpp's RPC does."""
    host, _colon, port = peer.rpartition(":")
    is_connected, answer = False, b""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_S)
            connection.connect((host, int(port)))
            is_connected, until = True, time.monotonic() + ANSWER_S
            connection.sendall(_HELLO)
            while len(answer) < _ANSWER.size:
                connection.settimeout(max(0.01, until - time.monotonic()))
                if not (piece := connection.recv(_ANSWER.size - len(answer))):
                    return _not_rpc()
                answer += piece
    except TimeoutError:
        return _("it serves another program, or does not respond") if is_connected else _("it does not respond")
    except ConnectionResetError:
        return _not_rpc()
    except socket.gaierror:
        return _("its name is not known")
    except OSError as error:
        return clean_line(reason_of(error))
    length, *_version = _ANSWER.unpack(answer)
    return "" if length == _ANSWER.size - _LENGTH else _not_rpc()


def _not_rpc() -> str:
    return _("it is no RPC server, or its llama.cpp has another version than this one")
