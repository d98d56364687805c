"""Fault injection into requests: before the action, after it (the answer is lost), or once the answer is sent (a kill)."""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class Fault:
    """One fault. `action` and `caller` are globs.

    EC2's actions have their plain names, those of other services `sts:…`, paths of IMDS `imds:/latest/…`.
    """

    action: str
    when: str = "before"
    http: int = 500
    code: str = "InternalError"
    message: str = "An internal error has occurred"
    times: int = 1  # -1: until cleared
    delay: float = 0.0
    caller: str = "*"
    body: str | None = None  # sent instead of an error document
    size: int = 0  # pads the body to this many bytes
    truncate: int = -1  # sends this many bytes of the announced body, then closes the connection
    drop: bool = False  # closes the connection without an answer
    only_delay: bool = False  # delays the request and changes nothing else
    kill: int = 0  # the process to kill then (SIGKILL); the connection closes without an answer, unless one was sent


class FaultTable:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._met: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Raises ValueError with the reason for an invalid fault."""
        if fault.when not in ("before", "after", "answered"):
            raise ValueError(f"when {fault.when!r} is none of before, after and answered")
        if fault.kill < 0 or fault.kill == 1:
            raise ValueError(f"kill {fault.kill} is not the id of a process that may be killed")
        if fault.when == "answered" and not fault.kill:
            raise ValueError("after the answer nothing but a kill can happen")
        if fault.times == 0 or fault.times < -1:
            raise ValueError(f"times {fault.times} is neither positive nor -1")
        if not 100 <= fault.http <= 599:
            raise ValueError(f"http {fault.http} is not an HTTP status")
        if fault.delay < 0 or fault.delay > 600:
            raise ValueError(f"delay {fault.delay} is not between 0 and 600 seconds")
        if fault.size > 256 << 20:
            raise ValueError(f"size {fault.size} is above 256 MiB")
        with self._lock:
            self._faults.append(fault)

    def clear(self, caller: str | None = None) -> int:
        """Removes all faults, or those for one caller; returns how many."""
        with self._lock:
            kept = [fault for fault in self._faults if caller is not None and fault.caller != caller]
            count = len(self._faults) - len(kept)
            self._faults[:] = kept
            return count

    @contextmanager
    def met(self, action: str, caller: str) -> Iterator[Fault | None]:
        """The first matching fault. One use of it is spent; it is in progress as long as the request."""
        with self._lock:
            fault = self._take(action, caller)
            if fault is not None:
                self._met.append(fault)
        try:
            yield fault
        finally:
            if fault is not None:
                with self._lock:
                    self._met.remove(fault)

    def _take(self, action: str, caller: str) -> Fault | None:
        for fault in self._faults:
            if fnmatch.fnmatchcase(action, fault.action) and fnmatch.fnmatchcase(caller, fault.caller):
                if fault.times > 0:
                    fault.times -= 1
                    if fault.times == 0:
                        self._faults.remove(fault)
                return fault
        return None

    def listed(self) -> list[dict[str, Any]]:
        """Faults that wait for a request."""
        with self._lock:
            return [asdict(fault) for fault in self._faults]

    def under_way(self) -> list[dict[str, Any]]:
        """Faults that matched a request that has not ended yet."""
        with self._lock:
            return [asdict(fault) for fault in self._met]
