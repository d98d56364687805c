"""An agent's time that runs faster (programs/fast_clock.c), or its calendar set wrong (programs/skewed_clock.c).

The libraries are compiled when they are first needed.
"""

from __future__ import annotations

import mmap
import os
import shutil
import struct
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from . import paths

SOURCES = Path(__file__).resolve().parent.parent / "programs"
LIBRARIES = paths.BINARY.parent.parent / "e2e"


def library(name: str) -> str:
    """The path of a program's library. Raises RuntimeError with the compiler's words."""
    source, made = SOURCES / f"{name}.c", LIBRARIES / f"{name}.so"
    if not made.exists() or made.stat().st_mtime <= source.stat().st_mtime:
        compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            raise RuntimeError("no C compiler: install gcc")
        made.parent.mkdir(parents=True, exist_ok=True)
        # Nodes are made on many threads at once: each compiles its own, and the last one stays.
        part = f"{made}.{os.getpid()}.{threading.get_ident()}"
        done = subprocess.run([compiler, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-o", part, str(source)],
                              capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"compile {source.name}: {done.stderr}")
        os.rename(part, made)
    return str(made)


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
