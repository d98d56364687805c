"""Speeds up an agent's time (programs/fast_clock.c), or sets its calendar wrong (programs/skewed_clock.c)."""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
import time
from pathlib import Path

from .programs import library


class SkewedClock:
    """Shifts the calendar of programs started with `words` ahead by some seconds, or back by a negative number."""

    def __init__(self, seconds: int) -> None:
        self.words = ["env", f"LD_PRELOAD={library('skewed_clock')}", f"CLOCK_SKEW={seconds}"]

    def close(self) -> None:
        pass


class FastClock:
    """The clock of programs started with `words`: `rate` of its seconds pass in a real one. It starts at 1."""

    def __init__(self) -> None:
        descriptor, self._path = tempfile.mkstemp(prefix="fast-clock-")
        # The rate, and the state that the library keeps from one agent to the next.
        os.ftruncate(descriptor, 24)
        self._map = mmap.mmap(descriptor, 24)
        os.close(descriptor)
        self._ran, self._since = 0.0, time.monotonic()
        self.rate = 1
        # `env` sets the variables, not the environment of the starting program: nsenter must have only one thread.
        self.words = ["env", f"LD_PRELOAD={library('fast_clock')}", f"FAST_CLOCK_RATE_FILE={self._path}"]

    @property
    def rate(self) -> int:
        return struct.unpack("=Q", self._map[:8])[0]

    @rate.setter
    def rate(self, rate: int) -> None:
        self._ran, self._since = self.elapsed(), time.monotonic()
        self._map[:8] = struct.pack("=Q", rate)

    def elapsed(self) -> float:
        """Seconds that have passed on this clock since it was made."""
        return self._ran + (time.monotonic() - self._since) * self.rate

    def close(self) -> None:
        self._map.close()
        Path(self._path).unlink(missing_ok=True)
