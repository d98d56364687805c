"""The manifests as `kubectl apply -k` would send them: runs kustomize and returns the objects of one overlay as a list."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "manifests"
OVERLAYS = sorted(path.parent.name for path in (MANIFESTS / "overlays").glob("*/kustomization.yaml"))

Object = dict[str, Any]


@cache
def kubectl() -> str:
    """The kubectl of the virtual environment, whose version is pinned."""
    return str(Path(sys.executable).with_name("kubectl"))


@cache
def render(folder: str) -> list[Object]:
    """The output of the kustomization in a folder below manifests/."""
    done = subprocess.run([kubectl(), "kustomize", str(MANIFESTS / folder)], check=False, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise RuntimeError(f"kustomize {folder}: {done.stderr}")
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def find(objects: list[Object], kind: str, name: str | None = None) -> Object:
    """The only object of this kind, and of this name if one is given."""
    found = [each for each in objects if each["kind"] == kind and name in (None, each["metadata"]["name"])]
    assert len(found) == 1, f"{len(found)} objects {kind} {name or ''}"
    return found[0]


def containers(pod: Object) -> list[Object]:
    """All containers of a pod's specification, init containers first."""
    return [*pod.get("initContainers", []), *pod["containers"]]
