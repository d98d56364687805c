"""Network and mount namespaces that files keep alive, and work done inside them."""

from __future__ import annotations

import ctypes
import os
import queue
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def enter_network(path: Path) -> None:
    """Moves only the calling thread into the network namespace kept by `path`."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(fd, CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"enter network namespace {path}: {os.strerror(number)}")
    finally:
        os.close(fd)


def create_network(path: Path) -> None:
    """Creates a network namespace and binds it to the new file `path`; it lives until the file is unmounted."""
    path.touch(exist_ok=False)
    subprocess.run(["unshare", f"--net={path}", "true"], check=True)


class NamespaceThread:
    """A thread that lives in one network namespace and runs the actions given to it there, one at a time.

    Sockets and child processes created there stay in that namespace wherever they are used.
    """

    def __init__(self, path: Path) -> None:
        self._work: queue.SimpleQueue[tuple[Callable[[], Any], queue.SimpleQueue[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, args=(path,), name=f"in {path.name}", daemon=True)
        started: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._started = started
        self._thread.start()
        error = started.get()
        if error is not None:
            raise error

    def run(self, action: Callable[[], Any]) -> Any:
        """Runs `action` in the namespace; returns its result or raises its exception."""
        answer: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._work.put((action, answer))
        value, error = answer.get()
        if error is not None:
            raise error
        return value

    def close(self) -> None:
        self._work.put(None)
        self._thread.join(timeout=5)

    def _serve(self, path: Path) -> None:
        try:
            enter_network(path)
        except OSError as error:
            self._started.put(error)
            return
        self._started.put(None)
        while (item := self._work.get()) is not None:
            action, answer = item
            try:
                answer.put((action(), None))
            except BaseException as error:  # handed to the caller, who raises it
                answer.put((None, error))


def write_sysctls(values: dict[str, str]) -> None:
    """Writes sysctls of the calling thread's network namespace; names use slashes."""
    for name, value in values.items():
        with open(f"/proc/sys/{name}", "w", encoding="ascii") as file:
            file.write(value)


def listen_tcp(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    listener.bind((address, port))
    listener.listen(1024)
    return listener
