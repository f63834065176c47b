"""A hub on loopback: real HTTP, bytes behind a redirect to a second origin, every fault on command.

It speaks the parts of the Hugging Face API and of ModelScope's that this program uses. `StandIn.log` has every
request with its headers and the bytes that went out, so that tests can count and look for what must not be there.
"""

import gzip
import hashlib
import http.server
import json
import os
import re
import socket
import ssl
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34
CERTIFICATE = Path(__file__).parents[1] / "data" / "loopback.pem"
_RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
_MODEL = re.compile(r"/api/models/([^/]+/[^/]+?)(?:/revision/([^/]+))?")
_SCOPE = re.compile(r"/api/v1/models/([^/]+/[^/]+)/repo(/files)?")


@dataclass(frozen=True)
class Trouble:
    """What goes wrong with one request for bytes. Nothing set: nothing does."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    """Send this many bytes, then close."""
    reset: bool = False
    """Close with a TCP reset instead."""
    stall: bool = False
    """Go silent before closing, until `StandIn.go_on` is set."""
    ignore_range: bool = False
    declared: int | None = None
    """A false Content-Length."""
    total: int | None = None
    """A false size in Content-Range."""
    extra: bytes = b""
    """Sent after the file; the length is then not declared."""
    chunked: bool = False
    compressed: bool = False
    html: bool = False
    corrupt: bool = False
    etag: str = ""


@dataclass
class Request:
    """One request as it came, and what went out."""

    origin: str
    method: str
    path: str
    headers: dict[str, str]
    sent: int = 0


class StandIn:
    """The hub, with its second origin for bytes. Use it as a context manager."""

    def __init__(self, *, tls: bool = False) -> None:
        self.repos: dict[str, dict[str, bytes | Path]] = {}
        self.commit = COMMIT
        """What `main` stands for."""
        self.troubles: deque[Trouble] = deque()
        """For the requests for bytes, one each, in turn."""
        self.answers: deque[tuple[int, dict[str, str]]] = deque()
        """Statuses and headers for the hub's other answers, one each, in place of the real ones."""
        self.tags: set[str] = set()
        """More names of the revision that there is."""
        self.gated: set[str] = set()
        self.token = ""
        """The one that opens gated repositories."""
        self.hashes = True
        self.lie_about: dict[str, str] = {}
        """False sha256, by file name."""
        self.redirects = True
        self.pace = 0
        """Bytes a second for files on disk; 0 for as fast as it goes."""
        self.log: list[Request] = []
        self.expired = 0
        """Signatures up to this number are no longer good."""
        self.signed = 0
        self.go_on = threading.Event()
        self._digests: dict[tuple[str, str], str] = {}
        self._hub, self._cdn = (_Server(self, name, tls=tls) for name in ("hub", "cdn"))
        self.endpoint, self.cdn = self._hub.url, self._cdn.url

    def __enter__(self) -> "StandIn":
        self._hub.begin()
        self._cdn.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.go_on.set()
        self._hub.end()
        self._cdn.end()

    def put(self, repo: str, name: str, content: bytes | Path) -> str:
        """Publish a file and return its sha256."""
        self.repos.setdefault(repo, {})[name] = content
        self._digests.pop((repo, name), None)
        return self.digest(repo, name)

    def digest(self, repo: str, name: str) -> str:
        """Return a file's true sha256."""
        key = (repo, name)
        if key not in self._digests:
            content = self.repos[repo][name]
            if isinstance(content, Path):
                with content.open("rb") as stream:
                    self._digests[key] = hashlib.file_digest(stream, "sha256").hexdigest()
            else:
                self._digests[key] = hashlib.sha256(content).hexdigest()
        return self._digests[key]

    def told(self, repo: str, name: str) -> str:
        """Return the sha256 that the hub gives for a file."""
        return self.lie_about.get(name) or self.digest(repo, name)

    def requests(self, origin: str = "", method: str = "") -> list[Request]:
        """Return what was asked so far."""
        return [r for r in self.log if origin in ("", r.origin) and method in ("", r.method)]

    def bytes_sent(self) -> int:
        """Return the bytes of files that went out, as far as this side knows."""
        return sum(request.sent for request in self.log)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, standin: StandIn, name: str, *, tls: bool) -> None:
        self.standin, self.name = standin, name
        super().__init__(("127.0.0.1", 0), _Handler)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(CERTIFICATE)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.server_port}"

    def begin(self) -> None:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def end(self) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that go away are what is tested."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.standin = self.server.standin
        self.request_log = Request(self.server.name, self.command, self.path, dict(self.headers.items()))
        self.standin.log.append(self.request_log)
        raw = urlsplit(self.path).path
        path = unquote(raw)
        if self.server.name == "cdn":
            self._signed_bytes(path)
        elif self.standin.answers:
            status, headers = self.standin.answers.popleft()
            self._plain(status, b"", headers)
        elif found := _SCOPE.fullmatch(path):
            self._scope(found[1], listing=bool(found[2]))
        elif found := _MODEL.fullmatch(raw):
            self._model(unquote(found[1]), unquote(found[2] or "main"))
        elif found := _RESOLVE.fullmatch(raw):
            self._resolve(*map(unquote, found.groups()))
        else:
            self._plain(404, b"")

    def _model(self, repo: str, revision: str) -> None:
        if not self._open(repo, revision, ""):
            return
        siblings = [{"rfilename": name, **self._facts(repo, name)} for name in self.standin.repos[repo]]
        self._json(
            {
                "id": repo,
                "modelId": repo,
                "sha": self.standin.commit,
                "siblings": siblings,
                "tags": [],
                "private": False,
            }
        )

    def _facts(self, repo: str, name: str) -> dict[str, Any]:
        size = _size(self.standin.repos[repo][name])
        if not self.standin.hashes:
            return {"size": size, "blobId": "0" * 40}
        lfs = {"sha256": self.standin.told(repo, name), "size": size, "pointerSize": 134}
        return {"size": size, "blobId": "0" * 40, "lfs": lfs}

    def _open(self, repo: str, revision: str, name: str) -> bool:
        error = ""
        if repo not in self.standin.repos:
            error, status = "RepoNotFound", 404
        elif revision not in ("main", COMMIT, self.standin.commit, *self.standin.tags):
            error, status = "RevisionNotFound", 404
        elif name and name not in self.standin.repos[repo]:
            error, status = "EntryNotFound", 404
        elif repo in self.standin.gated and name:
            sent = self.headers.get("Authorization", "")
            if sent != f"Bearer {self.standin.token}":
                error, status = "GatedRepo", 403 if sent else 401
        if error:
            self._plain(status, b"", {"X-Error-Code": error})
        return not error

    def _resolve(self, repo: str, revision: str, name: str) -> None:
        if not self._open(repo, revision, name):
            return
        content = self.standin.repos[repo][name]
        headers = {"X-Repo-Commit": self.standin.commit}
        if self.standin.hashes:
            headers["X-Linked-Etag"] = f'"{self.standin.told(repo, name)}"'
        if self.standin.redirects:
            headers |= {"X-Linked-Size": str(_size(content)), "Location": self._signed_url(repo, name)}
            self._plain(302, b"", headers)
        elif self.command == "HEAD":
            self._plain(200, b"", headers | {"Content-Length": str(_size(content))})
        else:
            self._bytes(content)

    def _signed_url(self, repo: str, name: str) -> str:
        self.standin.signed += 1
        return f"{self.standin.cdn}/{repo}/{quote(name)}?signature={self.standin.signed}"

    def _scope(self, repo: str, *, listing: bool) -> None:
        query = parse_qs(urlsplit(self.path).query)
        if repo not in self.standin.repos or query["Revision"] != ["master"]:
            self._json({"Code": 10010205001, "Message": "not found", "Success": False}, 404)
        elif listing:
            files = [
                {"Path": n, "Name": n, "Type": "blob", "Size": _size(c), "Sha256": self.standin.told(repo, n)}
                for n, c in self.standin.repos[repo].items()
            ]
            self._json({"Code": 200, "Success": True, "Data": {"Files": files}})
        elif query["FilePath"][0] in self.standin.repos[repo]:
            self._plain(302, b"", {"Location": self._signed_url(repo, query["FilePath"][0])})
        else:
            self._plain(404, b"")

    def _signed_bytes(self, path: str) -> None:
        query = parse_qs(urlsplit(self.path).query)
        owner, repo, name = path.lstrip("/").split("/", 2)
        if int(query.get("signature", ["0"])[0]) <= self.standin.expired and "signature" in query:
            self._plain(403, b"<Error>expired</Error>")
        else:
            self._bytes(self.standin.repos[f"{owner}/{repo}"][name])

    def _bytes(self, content: bytes | Path) -> None:
        if self.command == "HEAD":
            self._plain(200, b"", {"Content-Length": str(_size(content)), "ETag": '"v1"'})
            return
        trouble = self.standin.troubles.popleft() if self.standin.troubles else Trouble()
        if trouble.status:
            self._plain(trouble.status, b"", trouble.headers)
            return
        if trouble.html:
            self._plain(200, b"<!DOCTYPE html><title>Log in</title>", {"Content-Type": "text/html; charset=utf-8"})
            return
        size, etag = _size(content), trouble.etag or '"v1"'
        start = 0 if trouble.ignore_range else self._wanted_start(etag)
        if start >= size > 0:
            self._plain(416, b"", {"Content-Range": f"bytes */{size}"})
            return
        self._begin(trouble, start, size, etag)
        self._send(content, start, trouble)

    def _wanted_start(self, etag: str) -> int:
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range", etag)
        return int(wanted[1]) if wanted and condition == etag else 0

    def _begin(self, trouble: Trouble, start: int, size: int, etag: str) -> None:
        self.send_response(HTTPStatus.PARTIAL_CONTENT if start else HTTPStatus.OK)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{trouble.total or size}")
        if trouble.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif not trouble.extra:
            self.send_header("Content-Length", str(trouble.declared or size - start))
        if trouble.compressed:
            self.send_header("Content-Encoding", "gzip")
        self.send_header("ETag", etag)
        self.send_header("Connection", "close")
        self.close_connection = True
        self.end_headers()

    def _send(self, content: bytes | Path, start: int, trouble: Trouble) -> None:
        end = _size(content) if trouble.cut is None else min(_size(content), start + trouble.cut)
        if isinstance(content, Path):
            self._send_file(content, start, end)
        else:
            data = content[start:end]
            data = data[:-1] + bytes([data[-1] ^ 0xFF]) if trouble.corrupt else data
            data = gzip.compress(data) if trouble.compressed else data
            data = f"{len(data):x}\r\n".encode() + data + b"\r\n0\r\n\r\n" if trouble.chunked else data
            self.wfile.write(data + trouble.extra)
            self.request_log.sent += end - start
        if trouble.stall:
            self.standin.go_on.wait()
        if trouble.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def _send_file(self, file: Path, start: int, end: int) -> None:
        self.wfile.flush()
        began, first, pace = time.monotonic(), start, self.standin.pace
        with file.open("rb") as stream:
            while start < end:
                piece = min(end - start, 1 << 18 if pace else 1 << 22)
                count = os.sendfile(self.connection.fileno(), stream.fileno(), start, piece)
                self.request_log.sent += count
                start += count
                if pace:
                    time.sleep(max(0, (start - first) / pace - (time.monotonic() - began)))

    def _json(self, value: object, status: int = 200) -> None:
        self._plain(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _plain(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        headers = {"Content-Length": str(len(body))} | (headers or {})
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _size(content: bytes | Path) -> int:
    return content.stat().st_size if isinstance(content, Path) else len(content)
