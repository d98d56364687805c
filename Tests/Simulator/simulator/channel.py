"""One request to a daemon: a line of JSON each way over its unix socket. Standard library only."""

from __future__ import annotations

import json
import socket
from typing import Any

from . import registry

_ANSWER_LIMIT = 64 << 20
_DEADLINE_SECONDS = 60.0


class CommandError(Exception):
    """The daemon refused a command; the message says why."""


def ask(name: str, command: str, /, **arguments: Any) -> Any:
    """Returns the command's result. Raises NotRunning or CommandError."""
    path = registry.home(name) / "control.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_DEADLINE_SECONDS)
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            raise registry.NotRunning(
                f"no simulated VPC {name!r} is up; start one with `vpcsim up --name {name}`") from None
        connection.sendall(json.dumps({"command": command, "arguments": arguments}).encode() + b"\n")
        data = bytearray()
        while not data.endswith(b"\n"):
            part = connection.recv(1 << 20)
            if not part:
                raise CommandError(f"{command}: the simulator ended the connection")
            data += part
            if len(data) > _ANSWER_LIMIT:
                raise CommandError(f"{command}: the answer is above {_ANSWER_LIMIT} bytes")
    answer = json.loads(data)
    if not answer["ok"]:
        raise CommandError(answer["error"])
    return answer["result"]
