"""System calls of processes with the kernel's timestamps, from its tracing buffer, which costs a call well under 1 µs.

strace stops the process twice for each call, so its times are distorted. This module needs root, and tracefs, which it mounts
for itself. It uses its own buffer instance, so that other tracing on the machine goes on.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# The calls that separate one part of a run from the next.
_NUMBERS = {
    "x86_64": {0: "read", 1: "write", 3: "close", 7: "poll", 42: "connect", 44: "sendto", 45: "recvfrom", 46: "sendmsg",
               47: "recvmsg", 73: "flock", 231: "exit_group", 257: "openat", 302: "prlimit64", 308: "setns"},
    "aarch64": {63: "read", 64: "write", 57: "close", 73: "ppoll", 203: "connect", 206: "sendto", 207: "recvfrom",
                211: "sendmsg", 212: "recvmsg", 32: "flock", 94: "exit_group", 56: "openat", 261: "prlimit64", 268: "setns"},
}
_LINE = re.compile(r"-(?P<pid>\d+) .* (?P<at>\d+\.\d+): (?P<event>\w+): (?P<rest>.*)$")


@dataclass(frozen=True)
class Call:
    """`began` and `ended` are µs of the kernel's monotonic clock. Calls without a name here have their number."""

    name: str
    first: int
    began: float
    ended: float


@dataclass
class Process:
    """One process from its exec to its end, in µs."""

    pid: int
    began: float
    calls: list[Call]
    ended: float = 0.0
    faults: int = 0


class Trace:
    """What happened within `recording`: every process that the traced process or its children executed."""

    def __init__(self) -> None:
        self._names = _NUMBERS.get(platform.machine())
        if self._names is None:
            raise RuntimeError(f"the calls of {platform.machine()} are not known here")
        self.processes: list[Process] = []

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Records this process's children and their children."""
        mount = tempfile.mkdtemp(prefix="vpc-cni-trace-")
        subprocess.run(["mount", "-t", "tracefs", "none", mount], check=True, capture_output=True)
        instance = Path(mount, "instances", f"vpc-cni-{uuid.uuid4().hex[:8]}")
        try:
            instance.mkdir()
            for name, value in (("buffer_size_kb", "16384"), ("trace_clock", "mono"), ("options/event-fork", "1"),
                                ("set_event_pid", str(os.getpid())), ("events/raw_syscalls/enable", "1"),
                                ("events/sched/sched_process_exec/enable", "1"),
                                ("events/sched/sched_process_exit/enable", "1"),
                                ("events/exceptions/page_fault_user/enable", "1")):
                (instance / name).write_text(value, encoding="ascii")
            yield
            (instance / "tracing_on").write_text("0", encoding="ascii")
            self._read((instance / "trace").read_text(encoding="ascii", errors="replace"))
        finally:
            if instance.exists():
                (instance / "set_event_pid").write_text(" ", encoding="ascii")
                instance.rmdir()
            subprocess.run(["umount", mount], check=True)
            os.rmdir(mount)

    def _read(self, text: str) -> None:
        running: dict[int, Process] = {}
        entered: dict[int, tuple[int, int, float]] = {}
        for line in text.splitlines():
            found = _LINE.search(line)
            if not found:
                continue
            pid, at, event, rest = int(found["pid"]), float(found["at"]) * 1e6, found["event"], found["rest"]
            if event == "sched_process_exec":
                running[pid] = Process(pid, at, [])
            elif (process := running.get(pid)) is None:
                continue
            elif event == "sched_process_exit":
                process.ended = at
                self.processes.append(running.pop(pid))
            elif event == "page_fault_user":
                process.faults += 1
            elif event == "sys_enter":
                number, _, arguments = rest.removeprefix("NR ").partition(" ")
                entered[pid] = int(number), int(arguments.strip("()").split(",")[0], 16), at
            elif event == "sys_exit" and pid in entered:
                number, first, began = entered.pop(pid)
                process.calls.append(Call(self._names.get(number, str(number)), first, began, at))
