"""Where a simulated VPC keeps its files, found by its name. Standard library only: the thin client imports this."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

ROOT = Path(os.environ.get("VPCSIM_ROOT", "/tmp/vpcsim"))
DEFAULT_NAME = os.environ.get("VPCSIM_NAME", "vpc")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")


class NotRunning(Exception):
    """No simulated VPC has that name."""


def check_name(name: str, what: str) -> str:
    """Raises ValueError for an invalid name: names are part of file names."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{what} {name!r} is not a name: small letters, digits and dashes, at most 31")
    return name


def home(name: str) -> Path:
    """The directory of the simulated VPC (a link to its state directory, if that was chosen)."""
    return ROOT / check_name(name, "name")


def names() -> list[str]:
    """Every simulated VPC that has files on this machine."""
    return sorted(each.name for each in ROOT.iterdir() if _NAME.fullmatch(each.name)) if ROOT.is_dir() else []


def ready(name: str) -> dict[str, Any]:
    """The ready file's content. Raises NotRunning."""
    try:
        return json.loads((home(name) / "ready").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        raise NotRunning(f"no simulated VPC {name!r} is up; start one with `vpcsim up --name {name}`") from None


def namespace_files(name: str, instance: str) -> tuple[Path, Path | None]:
    """The network and the mount namespace of an instance, or of @fabric and @internet (which have no mounts of their own).

    Raises NotRunning or ValueError.
    """
    directory = home(name) / "ns"
    if instance.startswith("@"):
        network, mounts = directory / f"{instance}.net", None
    else:
        check_name(instance, "instance")
        network, mounts = directory / f"{instance}.net", directory / f"{instance}.mnt"
    if not network.exists():
        if not directory.is_dir():
            raise NotRunning(f"no simulated VPC {name!r} is up; start one with `vpcsim up --name {name}`")
        known = sorted(each.name.removesuffix(".net") for each in directory.glob("*.net"))
        raise ValueError(f"instance {instance!r} is unknown; there are {', '.join(known)}")
    return network, mounts


def enter_command(network: Path, mounts: Path | None, directory: str | None = None) -> list[str]:
    """The command prefix that runs a command in an instance."""
    words = ["nsenter", f"--net={network}"]
    if mounts is not None:
        words += [f"--mount={mounts}", f"--wdns={directory or os.getcwd()}"]
    return [*words, "--"]
