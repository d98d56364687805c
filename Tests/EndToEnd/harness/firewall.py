"""A node's firewalls: what they hold of the agent's rules, and ways to put trouble into them."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

from .node import Node

# The programs behind all names of iptables on Debian.
_PROGRAMS = ("/usr/sbin/xtables-nft-multi", "/usr/sbin/xtables-legacy-multi")
TABLES = ("aws-cni", "vpc-cni-host")


def hide_iptables(node: Node) -> None:
    """As if the node (or the agent's image) had no iptables at all."""
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
    """The agent's tables of nftables that hold what iptables would, or part of it."""
    listed = node.instance.run(["nft", "list", "tables", "ip"]).stdout
    return [name for name in TABLES if f"table ip {name}\n" in listed]


def holders(node: Node) -> set[str]:
    """Which firewalls hold any of the agent's rules."""
    return {backend for backend in ("legacy", "nft") if rules(node, backend)} | set(tables(node))


def series(node: Node, name: str) -> dict[str, float]:
    """The values of a series of one label, by the label's value; without a label by the empty text."""
    text = node.instance.run(["curl", "-sf", "http://127.0.0.1:61678/metrics"], check=False).stdout
    found = re.findall(rf'^{name}(?:{{\w+="([^"]*)"}})? (\S+)$', text, re.MULTILINE)
    return {label: float(value) for label, value in found}


def lines(node: Node, beginning: str) -> list[dict[str, Any]]:
    """Lines of the agent's log whose message begins so."""
    # Behind the last line's end stands one that is just being written.
    read = [json.loads(line) for line in node.agent.log().rpartition("\n")[0].splitlines()]
    return [line for line in read if line["msg"].startswith(beginning)]


def forget_quickly(node: Node) -> None:
    """What is left of an ended connection is forgotten in a second, not in minutes."""
    for name in ("icmp_timeout", *(f"tcp_timeout_{state}" for state in ("time_wait", "close", "close_wait", "fin_wait", "last_ack"))):
        node.instance.run(["sysctl", "-qw", f"net.netfilter.nf_conntrack_{name}=1"])


class LockHolder:
    """Holds the node's xtables lock, as another iptables does."""

    def __init__(self, node: Node) -> None:
        self._process = node.instance.popen(["flock", "/run/xtables.lock", "sh", "-c", "echo held; cat"],
                                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None and self._process.stdout.readline() == b"held\n"

    def release(self) -> None:
        self._process.communicate()
