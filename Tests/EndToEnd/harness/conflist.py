"""The network configuration list that the existing system's entrypoint writes, and variants of it."""

from __future__ import annotations

import json
from typing import Any

from . import paths

PATH = "/etc/cni/net.d/10-aws.conflist"
# Where Debian's package containernetworking-plugins puts them.
CORE_PLUGINS = "/usr/lib/cni"


def aws_cni(**more: Any) -> dict[str, Any]:
    """The first plugin of the list, `more` on top."""
    return {
        "name": "aws-cni", "type": "aws-cni", "vethPrefix": "eni", "mtu": "9001", "podSGEnforcingMode": "strict",
        "pluginLogFile": paths.PLUGIN_LOG, "pluginLogLevel": "DEBUG",
        "capabilities": {"io.kubernetes.cri.pod-annotations": True}, **more}


def portmap(**more: Any) -> dict[str, Any]:
    return {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True, **more}


def bandwidth() -> dict[str, Any]:
    return {"type": "bandwidth", "capabilities": {"bandwidth": True}}


def tuning(**sysctls: str) -> dict[str, Any]:
    """Without arguments what DISABLE_POD_V6 asks for."""
    names = sysctls or {f"net.ipv6.conf.{each}.disable_ipv6": "1" for each in ("all", "default", "lo")}
    return {"type": "tuning", "sysctl": dict(names)}


def firewall() -> dict[str, Any]:
    return {"type": "firewall", "backend": "iptables"}


def conflist(*plugins: dict[str, Any], version: str = "0.4.0", name: str = "aws-cni") -> dict[str, Any]:
    """Without plugins the contract's list, less `egress-cni`, which passes an IPv4 cluster's result through."""
    return {"cniVersion": version, "name": name, "disableCheck": True, "plugins": list(plugins) or [aws_cni(), portmap()]}


def text(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2) + "\n"
