"""A small HTTP/1.1 server with keep-alive connections and bounded requests, on an existing socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingMixIn, BaseServer
from typing import Any

_BODY_LIMIT = 1 << 20
_DRAIN_LIMIT = 64 << 20
_IDLE_SECONDS = 60
_HOPS = 64
_HOP_OPTIONS = {socket.AF_INET: (socket.IPPROTO_IP, socket.IP_TTL),
                socket.AF_INET6: (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)}


@dataclass
class Request:
    method: str
    target: str  # path and query
    headers: Any
    body: bytes
    peer: str


@dataclass
class Reply:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    hop_limit: int = 0  # IP TTL of the answer's packets; 0: the machine's default
    truncate: int = -1
    drop: bool = False
    sent: Callable[[], None] | None = None  # called once the reply is sent


class HTTPListener(ThreadingMixIn, BaseServer):
    """Answers each request with `respond`, each connection on a thread of its own."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, listener: socket.socket, respond: Callable[[Request], Reply], server_name: str) -> None:
        handler = type("Handler", (_Handler,), {"respond": staticmethod(respond), "server_name": server_name})
        super().__init__(listener.getsockname(), handler)
        self._listener = listener
        self._connections: set[socket.socket] = set()
        self._guard = threading.Lock()
        self._closed = False
        threading.Thread(target=self._accept, name=f"http {self.server_address}", daemon=True).start()

    def close(self) -> None:
        self._closed = True
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()
        with self._guard:
            for connection in self._connections:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def _accept(self) -> None:
        while not self._closed:
            try:
                connection, peer = self._listener.accept()
            except OSError:
                return
            with self._guard:
                self._connections.add(connection)
            self.process_request(connection, peer)

    def shutdown_request(self, request: Any) -> None:
        with self._guard:
            self._connections.discard(request)
        request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores peers that disconnect early."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    server_name = ""
    respond: Callable[[Request], Reply]

    def version_string(self) -> str:
        return self.server_name

    def log_message(self, *_: Any) -> None:
        pass

    def _serve(self) -> None:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            self.close_connection = True
            self._send(Reply(411))
            return
        try:
            length = int(self.headers.get("Content-Length") or 0)
        except ValueError:
            length = -1
        if not 0 <= length <= _BODY_LIMIT:
            self.close_connection = True
            left = min(length, _DRAIN_LIMIT)
            while left > 0 and (part := self.rfile.read(min(left, 1 << 16))):  # or a reset discards the answer
                left -= len(part)
            self._send(Reply(400 if length < 0 else 413))
            return
        body = self.rfile.read(length) if length else b""
        self._send(self.respond(Request(self.command, self.path, self.headers, body, self.client_address[0])))

    def _send(self, reply: Reply) -> None:
        if reply.drop:
            self.close_connection = True
            return
        # stays set until the next answer, so that it applies to retransmissions too
        option = _HOP_OPTIONS[self.connection.family]
        self.connection.setsockopt(*option, reply.hop_limit or _HOPS)
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body if reply.truncate < 0 else reply.body[:reply.truncate])
        self.wfile.flush()
        if reply.sent is not None:
            reply.sent()
        if reply.truncate >= 0:
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = do_OPTIONS = do_PATCH = _serve
