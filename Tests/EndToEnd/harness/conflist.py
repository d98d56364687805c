"""The network configuration list that the entrypoint of amazon-vpc-cni-k8s writes, and variants of it."""

from __future__ import annotations

import json
from typing import Any

from . import paths

PATH = "/etc/cni/net.d/10-aws.conflist"
# The folder of Debian's package containernetworking-plugins.
CORE_PLUGINS = "/usr/lib/cni"


def aws_cni(**more: Any) -> dict[str, Any]:
    """The first plugin of the list, with the fields of `more` added."""
    return {
        "name": "aws-cni", "type": "aws-cni", "vethPrefix": "eni", "mtu": "9001", "podSGEnforcingMode": "strict",
        "pluginLogFile": paths.PLUGIN_LOG, "pluginLogLevel": "DEBUG",
        "capabilities": {"io.kubernetes.cri.pod-annotations": True}, **more}


def portmap(**more: Any) -> dict[str, Any]:
    return {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True, **more}


def bandwidth() -> dict[str, Any]:
    return {"type": "bandwidth", "capabilities": {"bandwidth": True}}


def tuning(**sysctls: str) -> dict[str, Any]:
    """Without arguments, the settings that DISABLE_POD_V6 requests."""
    names = sysctls or {f"net.ipv6.conf.{each}.disable_ipv6": "1" for each in ("all", "default", "lo")}
    return {"type": "tuning", "sysctl": dict(names)}


def firewall() -> dict[str, Any]:
    return {"type": "firewall", "backend": "iptables"}


def conflist(*plugins: dict[str, Any], version: str = "0.4.0", name: str = "aws-cni") -> dict[str, Any]:
    """Without plugins, the contract's list except `egress-cni`, which passes an IPv4 cluster's result through."""
    return {"cniVersion": version, "name": name, "disableCheck": True, "plugins": list(plugins) or [aws_cni(), portmap()]}


def text(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2) + "\n"
