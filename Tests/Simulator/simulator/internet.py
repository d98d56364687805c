"""The internet stand-in: echo services that report and log the source address they see."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any

from . import namespaces
from .fabric import INTERNET_ADDRESS, INTERNET_ADDRESS6, PEER_ADDRESS
from .http_listener import HTTPListener, Reply, Request

ECHO_PORT = 7
HTTP_PORT = 80
_SOL_RAW = 255
_ICMP_FILTER = 1
_ECHO_REQUEST = 8
_ICMP6_FILTER = 1
_ECHO_REQUEST6 = 128


class Internet:
    """Everything beyond the internet gateway: ICMP (the kernel answers), TCP and UDP echo on port 7, HTTP on port 80.

    TCP echo sends a line `ADDRESS PORT` with the source it sees and then echoes; UDP echo answers with that line followed by
    the datagram; HTTP answers every path with the address alone.
    """

    def __init__(self, path: Path, ipv6: bool = False) -> None:
        thread = namespaces.NamespaceThread(path)
        self._log: deque[dict[str, Any]] = deque(maxlen=1000)
        self._seen: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        everywhere = ["0.0.0.0", *(["::"] if ipv6 else [])]
        self._tcp: list[socket.socket] = [thread.run(lambda at=at: namespaces.listen_tcp(at, ECHO_PORT)) for at in everywhere]
        self._udp: list[socket.socket] = [thread.run(lambda at=at: _udp(at)) for at in (
            INTERNET_ADDRESS, PEER_ADDRESS, *([INTERNET_ADDRESS6] if ipv6 else []))]
        self._icmp: list[socket.socket] = [thread.run(_icmp), *([thread.run(_icmp6)] if ipv6 else [])]
        self._http = [HTTPListener(thread.run(lambda at=at: namespaces.listen_tcp(at, HTTP_PORT)), self._respond, "internet")
                      for at in everywhere]
        thread.close()
        for work, servers in ((self._serve_tcp, self._tcp), (self._serve_icmp, self._icmp), (self._serve_udp, self._udp)):
            for server in servers:
                threading.Thread(target=work, args=(server,), daemon=True, name=work.__name__).start()

    def report(self, reset: bool = False) -> dict[str, Any]:
        """`sources`: packets or connections by protocol and source; `log`: the last 1,000 of them."""
        with self._lock:
            sources: dict[str, dict[str, int]] = {}
            for (protocol, source), count in sorted(self._seen.items()):
                sources.setdefault(source, {})[protocol] = count
            report = {"sources": sources, "log": list(self._log)}
            if reset:
                self._log.clear()
                self._seen.clear()
        return report

    def _note(self, protocol: str, source: str, port: int | None) -> None:
        with self._lock:
            self._seen[(protocol, source)] += 1
            self._log.append({"at": round(time.time(), 3), "protocol": protocol, "source": source, "port": port})

    def _respond(self, request: Request) -> Reply:
        self._note("http", request.peer, None)
        return Reply(200, {"Content-Type": "text/plain"}, f"{request.peer}\n".encode())

    def _serve_tcp(self, server: socket.socket) -> None:
        while True:
            try:
                connection, (source, port, *_) = server.accept()
            except OSError:
                return
            self._note("tcp", source, port)
            threading.Thread(target=_echo, args=(connection, source, port), daemon=True).start()

    def _serve_udp(self, server: socket.socket) -> None:
        while server.fileno() >= 0:
            try:
                data, peer = server.recvfrom(65535)
                self._note("udp", *peer[:2])
                server.sendto(f"{peer[0]} {peer[1]}\n".encode() + data, peer)
            except OSError:
                continue  # an ICMP error for an earlier answer

    def _serve_icmp(self, server: socket.socket) -> None:
        while True:
            try:
                self._note("icmp", server.recvfrom(65535)[1][0], None)
            except OSError:
                return


def _echo(connection: socket.socket, source: str, port: int) -> None:
    with connection:
        connection.settimeout(60)
        try:
            connection.sendall(f"{source} {port}\n".encode())
            while data := connection.recv(65536):
                connection.sendall(data)
        except OSError:
            pass


def _udp(address: str) -> socket.socket:
    server = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, ECHO_PORT))
    return server


def _icmp() -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    listener.setsockopt(_SOL_RAW, _ICMP_FILTER,
                        (~(1 << _ECHO_REQUEST) & 0xFFFFFFFF).to_bytes(4, "little"))
    return listener


def _icmp6() -> socket.socket:
    listener = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    blocked = bytearray(b"\xff" * 32)  # a bit for each type; a set bit blocks it
    blocked[_ECHO_REQUEST6 // 8] &= ~(1 << _ECHO_REQUEST6 % 8)
    listener.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, bytes(blocked))
    return listener
