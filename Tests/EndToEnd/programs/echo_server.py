"""Answers on every TCP and UDP port of the given ranges (`FIRST-LAST …`) with the address it sees, and discards other
input. A line `BYTES` makes it send that many bytes back over TCP, or in one UDP datagram. Prints `listening`."""

from __future__ import annotations

import selectors
import socket
import sys


def serve_tcp(listener: socket.socket, selector: selectors.BaseSelector) -> None:
    connection, peer = listener.accept()
    connection.setblocking(True)
    connection.settimeout(10)
    try:
        connection.sendall(f"{peer[0]}\n".encode())
        stream = connection.makefile("rwb")
        order = stream.readline()
        if order.strip():
            stream.read(int(order))
            stream.write(b"x" * int(order))
            stream.flush()
    except (OSError, ValueError):
        pass
    finally:
        connection.close()


def serve_udp(server: socket.socket, selector: selectors.BaseSelector) -> None:
    datagram, peer = server.recvfrom(65536)
    answer = f"{peer[0]}\n".encode()
    try:
        server.sendto(answer.ljust(len(datagram), b"x"), peer)
    except OSError:
        pass  # larger than the path MTU known by now: the client asks again


def main() -> None:
    selector = selectors.DefaultSelector()
    for text in sys.argv[1:]:
        first, last = (int(word) for word in text.split("-"))
        for port in range(first, last + 1):
            listener = socket.create_server(("0.0.0.0", port), backlog=16)
            selector.register(listener, selectors.EVENT_READ, serve_tcp)
            server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            server.bind(("0.0.0.0", port))
            selector.register(server, selectors.EVENT_READ, serve_udp)
    print("listening", flush=True)
    while True:
        for key, _ in selector.select():
            key.data(key.fileobj, selector)


main()
