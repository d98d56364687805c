"""An agent's time that runs faster (programs/fast_clock.c), or its calendar set wrong (programs/skewed_clock.c)."""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
import time
from pathlib import Path

from .programs import library


class SkewedClock:
    """Programs behind `words` live so many seconds in the future; a negative number: in the past."""

    def __init__(self, seconds: int) -> None:
        self.words = ["env", f"LD_PRELOAD={library('skewed_clock')}", f"CLOCK_SKEW={seconds}"]

    def close(self) -> None:
        pass


class FastClock:
    """The clock of programs behind `words`: `rate` of its seconds pass in a real one. Begins at 1."""

    def __init__(self) -> None:
        descriptor, self._path = tempfile.mkstemp(prefix="fast-clock-")
        # The rate, and what the library keeps from one agent to the next.
        os.ftruncate(descriptor, 24)
        self._map = mmap.mmap(descriptor, 24)
        os.close(descriptor)
        self._ran, self._since = 0.0, time.monotonic()
        self.rate = 1
        # Not by the environment of what starts it: nsenter must have one thread only.
        self.words = ["env", f"LD_PRELOAD={library('fast_clock')}", f"FAST_CLOCK_RATE_FILE={self._path}"]

    @property
    def rate(self) -> int:
        return struct.unpack("=Q", self._map[:8])[0]

    @rate.setter
    def rate(self, rate: int) -> None:
        self._ran, self._since = self.elapsed(), time.monotonic()
        self._map[:8] = struct.pack("=Q", rate)

    def elapsed(self) -> float:
        """Seconds that have passed on it since it was made."""
        return self._ran + (time.monotonic() - self._since) * self.rate

    def close(self) -> None:
        self._map.close()
        Path(self._path).unlink(missing_ok=True)
