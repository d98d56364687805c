"""Queries an agent's health service from outside its namespaces, with a third-party gRPC client."""

from __future__ import annotations

import socket
from collections.abc import Callable

import grpc

from harness.waiting import wait_for

_SERVING = b"\x08\x01"  # HealthCheckResponse{status: SERVING}


def wait_serving(pid: int, alive: Callable[[], bool], deadline: float = 20.0) -> None:
    """Returns as soon as the agent with this process id reports SERVING; checks every millisecond.

    Raises RuntimeError when `alive` turns false, TimeoutError at the deadline.
    """
    path = f"/proc/{pid}/root/run/aws-node/ipamd.sock"

    def listening() -> bool:
        if not alive():
            raise RuntimeError("the agent ended")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            return probe.connect_ex(path) == 0

    wait_for(listening, "agent listening", deadline, pause=0.001)
    with grpc.insecure_channel(f"unix:{path}") as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check", request_serializer=lambda message: message,
                                    response_deserializer=lambda message: message)

        def serving() -> bool:
            if not alive():
                raise RuntimeError("the agent ended")
            try:
                return check(b"", timeout=1.0) == _SERVING
            except grpc.RpcError:
                return False  # not yet; the deadline limits the wait

        wait_for(serving, "agent SERVING", deadline, pause=0.001)
