"""Answers on every TCP and UDP port of the given ranges (`FIRST-LAST …`) with the address it sees, and discards other
input. A line `BYTES` makes it send that many bytes back over TCP, or in one UDP datagram. With `-6` first, over IPv6. Prints
`listening`."""

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
    arguments = sys.argv[1:]
    family, every = (socket.AF_INET6, "::") if arguments[:1] == ["-6"] else (socket.AF_INET, "0.0.0.0")
    for text in arguments[1:] if family == socket.AF_INET6 else arguments:
        first, last = (int(word) for word in text.split("-"))
        for port in range(first, last + 1):
            listener = socket.create_server((every, port), family=family, backlog=16)
            selector.register(listener, selectors.EVENT_READ, serve_tcp)
            server = socket.socket(family, socket.SOCK_DGRAM)
            server.bind((every, port))
            selector.register(server, selectors.EVENT_READ, serve_udp)
    print("listening", flush=True)
    while True:
        for key, _ in selector.select():
            key.data(key.fileobj, selector)


main()
