"""A node's firewalls: the agent's rules in them, and ways to cause trouble in them."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

from .node import Node

# The programs behind all the names of iptables on Debian.
_PROGRAMS = ("/usr/sbin/xtables-nft-multi", "/usr/sbin/xtables-legacy-multi")
TABLES = ("aws-cni", "vpc-cni-host")


def hide_iptables(node: Node) -> None:
    """Makes the node (or the agent's image) look as if it had no iptables at all."""
    for program in _PROGRAMS:
        node.instance.run(["mount", "--bind", "/dev/null", program])


def show_iptables(node: Node) -> None:
    for program in _PROGRAMS:
        node.instance.run(["umount", program])


def rules(node: Node, backend: str) -> list[str]:
    """The agent's rules in `legacy` or `nft`."""
    text = node.instance.run([f"iptables-{backend}-save"]).stdout
    return [line for line in text.splitlines() if line.startswith("-A") and "AWS" in line]


def tables(node: Node) -> list[str]:
    """The agent's nftables tables that hold all or part of what iptables would hold."""
    listed = node.instance.run(["nft", "list", "tables", "ip"]).stdout
    return [name for name in TABLES if f"table ip {name}\n" in listed]


def holders(node: Node) -> set[str]:
    """The firewalls that hold any of the agent's rules."""
    return {backend for backend in ("legacy", "nft") if rules(node, backend)} | set(tables(node))


def series(node: Node, name: str) -> dict[str, float]:
    """The values of a series by the value of its only label; a series without a label has the key ""."""
    text = node.instance.run(["curl", "-sf", "http://127.0.0.1:61678/metrics"], check=False).stdout
    found = re.findall(rf'^{name}(?:{{\w+="([^"]*)"}})? (\S+)$', text, re.MULTILINE)
    return {label: float(value) for label, value in found}


def lines(node: Node, beginning: str) -> list[dict[str, Any]]:
    """Lines of the agent's log whose message begins with this text."""
    # A line that is still being written may follow the last newline.
    read = [json.loads(line) for line in node.agent.log().rpartition("\n")[0].splitlines()]
    return [line for line in read if line["msg"].startswith(beginning)]


def forget_quickly(node: Node) -> None:
    """Makes conntrack forget an ended connection after a second instead of minutes."""
    for name in ("icmp_timeout", *(f"tcp_timeout_{state}" for state in ("time_wait", "close", "close_wait", "fin_wait", "last_ack"))):
        node.instance.run(["sysctl", "-qw", f"net.netfilter.nf_conntrack_{name}=1"])


class LockHolder:
    """Holds the node's xtables lock, like another iptables process."""

    def __init__(self, node: Node) -> None:
        self._process = node.instance.popen(["flock", "/run/xtables.lock", "sh", "-c", "echo held; cat"],
                                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None and self._process.stdout.readline() == b"held\n"

    def release(self) -> None:
        self._process.communicate()
