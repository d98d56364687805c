"""A node of an IPv6 cluster: its settings, and what the init container does to it."""

from __future__ import annotations

import subprocess

from . import paths
from .node import Node

IPV6 = {"ENABLE_IPv4": "false", "ENABLE_IPv6": "true", "ENABLE_PREFIX_DELEGATION": "true"}


def init(node: Node, environment: dict[str, str] | None = None) -> None:
    """Runs the init container's program, for an IPv6 cluster or as `environment` says; raises with its output if it fails."""
    node.instance.run(["mkdir", "-p", "/run/image"])
    variables = {"HOST_CNI_BIN_PATH": "/opt/cni/bin", "VPC_CNI_CORE_PLUGINS_PATH": "/run/image",
                 **({"ENABLE_IPv6": "true"} if environment is None else environment)}
    done: subprocess.CompletedProcess[str] = node.instance.run([str(paths.BINARY), "init"], env=variables, check=False, timeout=90)
    if done.returncode != 0:
        raise RuntimeError(f"init failed on {node.name}: {done.stdout}{done.stderr}")
