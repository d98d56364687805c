"""Stops and removes everything of a simulated VPC, whether or not its daemon runs. Standard library only."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from . import registry

_DEADLINE_SECONDS = 10.0


def remove(name: str) -> bool:
    """Stops the daemon of `name`; removes its processes, namespaces, mounts and files. Returns whether any existed."""
    home = registry.home(name)
    if not home.exists() and not home.is_symlink():
        return False
    state = home.resolve()
    made_here = not home.is_symlink()
    _end_daemon(state)
    namespaces = state / "ns"
    if namespaces.is_dir():
        for file in sorted(namespaces.glob("*.net")):
            remove_instance_namespaces(namespaces, file.name.removesuffix(".net"))
        _unmount(namespaces)
    for each in ("ready", "ready.part", "environment", "pid", "control.sock", "log", "seed"):
        (state / each).unlink(missing_ok=True)
    if namespaces.is_dir():
        namespaces.rmdir()
    if made_here:
        shutil.rmtree(state, ignore_errors=True)
    else:
        home.unlink(missing_ok=True)
    try:
        registry.ROOT.rmdir()
    except OSError:
        pass  # other simulated VPCs exist
    return True


def remove_instance_namespaces(namespaces: Path, instance: str) -> None:
    """Kills every process in the instance and in its pods' namespaces, then releases the namespaces."""
    network, mounts = namespaces / f"{instance}.net", namespaces / f"{instance}.mnt"
    _end_processes(network, mounts)
    for file in (mounts, network):
        _unmount(file)
        file.unlink(missing_ok=True)


def process_started(pid: int) -> str | None:
    """The kernel's start time of a process, which distinguishes it from a later one with the same PID."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _end_daemon(state: Path) -> None:
    try:
        recorded = json.loads((state / "pid").read_text())
    except (OSError, json.JSONDecodeError):
        return
    pid = recorded["pid"]
    if pid == os.getpid() or process_started(pid) != recorded["started"]:
        return
    for number, seconds in ((signal.SIGTERM, _DEADLINE_SECONDS), (signal.SIGKILL, 5.0)):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if process_started(pid) != recorded["started"] or _is_zombie(pid):
                return
            time.sleep(0.01)  # pause between looks


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return True


def _end_processes(network: Path, mounts: Path) -> None:
    """Kills processes until none is left: a process may fork during the search."""
    own = {_identity(Path("/proc/self/ns/net")), _identity(Path("/proc/self/ns/mnt"))}
    inside = {_identity(network), _identity(mounts), *_pod_namespaces(mounts)} - own - {None}
    until = time.monotonic() + _DEADLINE_SECONDS
    while time.monotonic() < until:
        found = _processes_in(inside)
        if not found:
            return
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.01)  # pause between looks


def _pod_namespaces(mounts: Path) -> set[int]:
    """The network namespaces that the instance keeps under its /run/netns."""
    if _identity(mounts) is None or not os.path.ismount(mounts):
        return set()
    done = subprocess.run(["nsenter", f"--mount={mounts}", "sh", "-c", "stat -c %i /run/netns/* 2>/dev/null || true"],
                          capture_output=True, text=True, check=False)
    # a file there that is not a namespace has an inode of the tmpfs, which matches no process's namespace
    return {int(each) for each in done.stdout.split()}


def _processes_in(namespaces: set[int | None]) -> list[int]:
    """Processes with their network or mount namespace there, and all their descendants; never this process."""
    parents: dict[int, int] = {}
    found: set[int] = set()
    daemon_threads = {os.getpid()}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        pid = int(entry)
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] == "Z":
            continue
        parents[pid] = int(fields[1])
        if _identity(Path(f"/proc/{pid}/ns/net")) in namespaces or _identity(Path(f"/proc/{pid}/ns/mnt")) in namespaces:
            found.add(pid)
    grown = True
    while grown:
        children = {pid for pid, parent in parents.items() if parent in found} - found
        found |= children
        grown = bool(children)
    return sorted(found - daemon_threads)


def _identity(path: Path) -> int | None:
    try:
        return os.stat(path).st_ino
    except OSError:
        return None


def _unmount(path: Path) -> None:
    if os.path.ismount(path):
        subprocess.run(["umount", "-l", str(path)], check=False, capture_output=True)
