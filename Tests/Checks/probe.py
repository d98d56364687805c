"""Counts how often a program enters one of its functions, with the kernel's uprobes (tracefs)."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path


def _offset(unstripped: Path, function: re.Pattern[str]) -> int:
    """The offset of the function's code in the file; stripping does not change it."""
    for line in subprocess.run(["nm", unstripped], check=True, capture_output=True, text=True).stdout.splitlines():
        address, _, name = line.partition(" ")
        if address and function.search(name):
            break
    else:
        raise LookupError(f"{unstripped} has no function {function.pattern}")
    headers = subprocess.run(["readelf", "-lW", unstripped], check=True, capture_output=True, text=True).stdout
    for start, virtual, size in re.findall(r"^ *LOAD +(0x\w+) (0x\w+) 0x\w+ (0x\w+)", headers, re.MULTILINE):
        if int(virtual, 16) <= int(address, 16) < int(virtual, 16) + int(size, 16):
            return int(address, 16) - int(virtual, 16) + int(start, 16)
    raise LookupError(f"{unstripped}: {address} is in no segment")


def _append(file: Path, line: str) -> None:
    """Appends a line without seeking: Python's append mode seeks to the end, which tracefs refuses."""
    opened = os.open(file, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(opened, line.encode())
    finally:
        os.close(opened)


def hits(binary: Path, unstripped: Path, function: re.Pattern[str], act: Callable[[], None]) -> int:
    """How often any process that runs `binary` entered the function while `act` ran.

    Raises OSError if the kernel has no uprobes, LookupError if the program has no such function.
    """
    mount, name = Path(tempfile.mkdtemp(prefix="vpc-cni-probe-")), f"vpc_cni_{uuid.uuid4().hex[:8]}"
    if subprocess.run(["mount", "-t", "tracefs", "none", mount], capture_output=True).returncode != 0:
        os.rmdir(mount)
        raise OSError("tracefs cannot be mounted")
    events = mount / "uprobe_events"
    try:
        _append(events, f"p:{name}/hit {binary}:{_offset(unstripped, function):#x}\n")
        enable = mount / "events" / name / "hit" / "enable"
        try:
            enable.write_text("1", encoding="ascii")
            act()
            # Each line holds the program, the probe, its hits, and its missed hits.
            profile = [line.split() for line in (mount / "uprobe_profile").read_text(encoding="ascii").splitlines()]
            enable.write_text("0", encoding="ascii")
        finally:
            _append(events, f"-:{name}/hit\n")
        return sum(int(words[-1]) for words in profile if words[0] == str(binary))
    finally:
        subprocess.run(["umount", mount], check=True)
        os.rmdir(mount)
