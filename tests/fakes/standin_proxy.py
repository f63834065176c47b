"""A proxy on loopback: what goes through it is counted, or refused."""

import http.server
import socket
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
        with socket.create_connection((host, int(port))) as far:
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


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return
