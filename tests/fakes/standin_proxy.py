"""Proxies on loopback, HTTP and SOCKS5: what goes through them is noted, or refused."""

import http.server
import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit


class _Proxy(http.server.BaseHTTPRequestHandler):
    """Forwards what it is asked for, tunnels included, or refuses."""

    server: "ProxyServer"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_CONNECT(self) -> None:
        self._pass(self.path, b"")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        lines = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items() if "roxy" not in name)
        target = parts._replace(scheme="", netloc="").geturl()
        self._pass(parts.netloc, f"{self.command} {target} HTTP/1.1\r\n{lines}Connection: close\r\n\r\n".encode())

    def _pass(self, where: str, request: bytes) -> None:
        self.server.seen.append((self.command, where, self.headers.get("Proxy-Authorization", "")))
        if self.server.refuses:
            self.send_error(407)
            return
        host, _colon, port = where.partition(":")
        with socket.create_connection((self.server.names.get(host, host), int(port))) as far:
            if request:
                far.sendall(request)
            else:
                self.send_response(200)
                self.end_headers()
            back = threading.Thread(target=_pump, args=(far, self.connection), daemon=True)
            back.start()
            _pump(self.connection, far)
            back.join()
        self.close_connection = True


class ProxyServer(http.server.ThreadingHTTPServer):
    """A proxy on loopback that notes (method, host, login) of each request."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, *, refuses: bool) -> None:
        self.refuses = refuses
        self.names: dict[str, str] = {}
        """Addresses of names that only this proxy can resolve."""
        self.seen: list[tuple[str, str, str]] = []
        super().__init__(("127.0.0.1", 0), _Proxy)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing."""


@contextmanager
def proxy(*, refuses: bool = False) -> Iterator[ProxyServer]:
    """Run a proxy."""
    server = ProxyServer(refuses=refuses)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class _Socks(socketserver.StreamRequestHandler):
    """Speaks SOCKS5 (RFC 1928), with a user name and a password (RFC 1929) where the server wants them."""

    server: "SocksServer"

    def handle(self) -> None:
        if self.server.garbage:
            self.wfile.write(self.server.garbage)
            return
        version, count = self.rfile.read(2)
        methods = self.rfile.read(count)
        login = self._login(methods) if version == 5 else None
        if login is None:
            return
        _version, _command, _reserved, kind = self.rfile.read(4)
        host = {
            1: lambda: socket.inet_ntop(socket.AF_INET, self.rfile.read(4)),
            3: lambda: self.rfile.read(self.rfile.read(1)[0]).decode(),
            4: lambda: socket.inet_ntop(socket.AF_INET6, self.rfile.read(16)),
        }[kind]()
        (port,) = struct.unpack(">H", self.rfile.read(2))
        self.server.seen.append((host, port, login))
        try:
            far = socket.create_connection((self.server.names.get(host, host), port))
        except OSError:
            self.wfile.write(b"\x05\x04\x00\x01" + bytes(6))  # the host can't be reached
            return
        with far:
            self.wfile.write(b"\x05\x00\x00\x01" + bytes(6))
            back = threading.Thread(target=_pump, args=(far, self.connection), daemon=True)
            back.start()
            _pump(self.connection, far)
            back.join()

    def _login(self, methods: bytes) -> str | None:
        """Return `user:password`, empty where none is wanted, None for a wrong one."""
        method = 2 if self.server.login else 0
        self.wfile.write(bytes([5, method if method in methods else 255]))
        if method not in methods:
            return None
        if not method:
            return ""
        self.rfile.read(1)
        user, password = (self.rfile.read(self.rfile.read(1)[0]).decode() for _part in range(2))
        right = f"{user}:{password}" == self.server.login
        self.wfile.write(bytes([1, not right]))
        return f"{user}:{password}" if right else None


class SocksServer(socketserver.ThreadingTCPServer):
    """A SOCKS5 proxy on loopback that notes (host, port, login) of each connection, hosts as they were asked for."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, login: str) -> None:
        self.login = login
        self.garbage = b""
        """What it says in place of SOCKS."""
        self.names: dict[str, str] = {}
        """Addresses of names that only this proxy can resolve."""
        self.seen: list[tuple[str, int, str]] = []
        super().__init__(("127.0.0.1", 0), _Socks)
        self.port: int = self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing."""


@contextmanager
def socks_proxy(login: str = "") -> Iterator[SocksServer]:
    """Run a SOCKS5 proxy; `login` is `user:password`, empty to let everyone through."""
    server = SocksServer(login)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return
