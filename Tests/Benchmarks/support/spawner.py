"""Measures whole processes from inside an instance: job lists for programs/spawn.c."""

from __future__ import annotations

import subprocess
from collections import defaultdict
from dataclasses import dataclass

from simulator.client import Instance


@dataclass(frozen=True)
class Sample:
    """One process: wall time, user and system time, minor page faults, context switches."""

    wall_ns: int
    cpu_us: int
    faults: int
    switches: int


class Jobs:
    """Commands that run one after the other; see programs/spawn.c for what each option means."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, label: str, words: list[str], env: dict[str, str] | None = None, stdin: list[str] | None = None,
            stdout: str | None = None, gone: str | None = None, later: bool = False) -> None:
        """`stdin` holds pieces that are joined: text, or `@PATH` for the content of a file at that time. With `later` the
        job waits for the next `burst`."""
        lines = [f"job {label}"]
        lines += [f"arg {word}" for word in words]
        lines += [f"env {name}={value}" for name, value in (env or {}).items()]
        lines += [f"stdin {piece[1:]}" if piece.startswith("@") else f"text {piece}" for piece in stdin or []]
        lines += [f"stdout {stdout}"] if stdout else []
        lines += [f"gone {gone}"] if gone else []
        if any("\n" in line for line in lines):
            raise ValueError(f"{label}: a newline in a job")
        self._lines += [*lines, "later" if later else "run"]

    def burst(self, label: str) -> None:
        """Runs all waiting jobs at once."""
        self._lines.append(f"burst {label}")

    def run(self, spawn: str, instance: Instance, timeout: float = 120) -> dict[str, list[Sample]]:
        """Samples by label, in order. Raises RuntimeError with the failing command's output."""
        done = instance.run([spawn], input="".join(f"{line}\n" for line in self._lines), check=False, timeout=timeout)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip()[-3000:])
        samples: dict[str, list[Sample]] = defaultdict(list)
        for line in done.stdout.splitlines():
            label, *numbers = line.split()
            samples[label].append(Sample(*map(int, numbers)))
        return samples


def batch(instance: Instance, commands: list[str]) -> None:
    """Runs `ip -batch` in the instance. Raises RuntimeError with its output."""
    done: subprocess.CompletedProcess[str] = instance.run(
        ["ip", "-batch", "-"], input="".join(f"{command}\n" for command in commands), check=False, timeout=120)
    if done.returncode != 0:
        raise RuntimeError(f"ip -batch: {done.stderr.strip()[-1000:]}")
