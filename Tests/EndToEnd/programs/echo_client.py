"""Client for echo_server.py: reads a JSON list of [protocol, address, port, bytes] and prints each answer in order:
the address that the server saw, or `failed: REASON`."""

from __future__ import annotations

import json
import socket
import sys

TRIES = 3
SECONDS = 2.0


def tcp(address: str, port: int, size: int) -> str:
    with socket.create_connection((address, port), SECONDS * 2) as connection:
        connection.settimeout(10)
        stream = connection.makefile("rwb")
        seen = stream.readline().decode().strip()
        stream.write(f"{size or ''}\n".encode() + b"x" * size)
        stream.flush()
        back = len(stream.read(size)) if size else 0
        return seen if back == size else f"failed: {back} of {size} bytes came back"


def udp(address: str, port: int, size: int) -> str:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(SECONDS)
        client.connect((address, port))
        for attempt in range(TRIES * 2 if size else TRIES):
            try:
                client.send(b"x" * max(size, 32))
                answer = client.recv(65536)
            except TimeoutError:
                continue
            except OSError as error:
                if not size:  # with a size: larger than the path MTU that was just learnt
                    return f"failed: {error.strerror}"
                continue
            return answer.split(b"\n")[0].decode() if len(answer) >= size else f"failed: {len(answer)} bytes"
        return "failed: no answer"


def ask(protocol: str, address: str, port: int, size: int) -> str:
    try:
        return (tcp if protocol == "tcp" else udp)(address, port, size)
    except OSError as error:
        return f"failed: {error.strerror or error}"


print(json.dumps([ask(*each) for each in json.load(sys.stdin)]))
