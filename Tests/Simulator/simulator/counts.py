"""Counts the calls of each action by caller and result, and the calls in progress."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class CallCounts:
    """`successful`, `refused` (throttled) and `failed` (any other error) add up to `calls`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: Counter[str] = Counter()
        self._clear()

    @contextmanager
    def running(self, caller: str) -> Iterator[None]:
        """Marks a call as in progress. The call is counted when it ends."""
        with self._lock:
            self._running[caller] += 1
        try:
            yield
        finally:
            with self._lock:
                self._running[caller] -= 1

    def add(self, action: str, caller: str, outcome: str, code: str | None = None) -> None:
        with self._lock:
            row = self._actions[action]
            row["calls"] += 1
            row[outcome] += 1
            if code:
                self._errors[action][code] += 1
            self._callers[caller][action] += 1

    def report(self, reset: bool = False) -> dict[str, Any]:
        with self._lock:
            report = {
                "total": sum(row["calls"] for row in self._actions.values()),
                "actions": {
                    action: {"calls": row["calls"], "successful": row["successful"], "refused": row["refused"],
                             "failed": row["failed"], "errors": dict(self._errors[action])}
                    for action, row in sorted(self._actions.items())
                },
                "callers": {caller: dict(sorted(row.items())) for caller, row in sorted(self._callers.items())},
                "running": dict(sorted((+self._running).items())),
            }
            if reset:
                self._clear()
            return report

    def _clear(self) -> None:
        self._actions: dict[str, Counter[str]] = defaultdict(Counter)
        self._errors: dict[str, Counter[str]] = defaultdict(Counter)
        self._callers: dict[str, Counter[str]] = defaultdict(Counter)
