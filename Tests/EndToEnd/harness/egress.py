"""egress-cni as a runtime calls it, its configuration in both directions, and everything that it leaves on a node."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from .ipv6 import init
from .node import Node
from .pod import Pod, PluginFailure
from .waiting import wait_for

PROGRAM = "/opt/cni/bin/egress-cni"


@dataclass(frozen=True)
class Direction:
    """One of the two; the values are the contract's."""

    family: int
    interface: str
    folder: str
    subnet: str
    everything: str
    first: str
    chain: str

    @property
    def iptables(self) -> str:
        return "iptables" if self.family == 4 else "ip6tables"

    @property
    def reservations(self) -> str:
        return f"{self.folder}/aws-cni"

    def node_address(self, node: Node) -> str:
        address = node.instance.address if self.family == 4 else node.instance.address6
        assert address is not None
        return address


IPV4 = Direction(4, "v4if0", "/run/cni/v6pd/egress-v4-ipam", "169.254.172.0/22", "0.0.0.0/0", "169.254.172.2", "CNI-E4-")
IPV6 = Direction(6, "v6if0", "/run/cni/v4pd/egress-v6-ipam", "fd00::ac:00/118", "::/0", "fd00::ac:2", "CNI-E6-")


def entry(node: Node, direction: Direction, **more: Any) -> dict[str, Any]:
    """The plugin's part of the list that the entrypoint of amazon-vpc-cni-k8s writes."""
    return {
        "name": "egress-cni", "type": "egress-cni", "mtu": "9001", "enabled": "true", "randomizeSNAT": "prng",
        "nodeIP": direction.node_address(node), "ipam": {
            "type": "host-local", "ranges": [[{"subnet": direction.subnet}]], "routes": [{"dst": direction.everything}],
            "dataDir": direction.folder},
        "pluginLogFile": f"/var/log/aws-routed-eni/egress-v{direction.family}-plugin.log", "pluginLogLevel": "DEBUG", **more}


def configuration(node: Node, direction: Direction, pod: Pod, has_result: bool = True, **more: Any) -> dict[str, Any]:
    """As the CNI library passes it: the list's name and version, and the result of the plugin before."""
    config = {**entry(node, direction), "cniVersion": pod.version, "name": "aws-cni", **more}
    if has_result:
        config["prevResult"] = before(direction, pod)
    return config


def before(direction: Direction, pod: Pod) -> dict[str, Any]:
    """The result of a plugin that gave the pod an address of the other family."""
    address = "2001:db8:5::7/128" if direction.family == 4 else "192.0.2.7/32"
    ip = {"interface": 1, "address": address}
    if pod.version < "1.0.0":
        ip = {"version": "6" if direction.family == 4 else "4", **ip}
    return {"cniVersion": pod.version, "interfaces": [{"name": "eni0123456789a"}, {"name": "eth0", "sandbox": pod.netns}],
            "ips": [ip], **({"dns": {}} if pod.version < "1.0.0" else {})}


def call(node: Node, pod: Pod, command: str, config: dict[str, Any], netns: str | None = None,
         prefix: list[str] | None = None) -> dict[str, Any]:
    """Runs the plugin; raises PluginFailure."""
    environment = pod.environment(command) | ({} if netns is None else {"CNI_NETNS": netns})
    done = node.instance.run([*(prefix or []), PROGRAM], check=False, env=environment, input=json.dumps(config))
    printed = json.loads(done.stdout) if done.stdout.strip() else {}
    if done.returncode != 0:
        raise PluginFailure(command, done.returncode, printed, done.stderr)
    return printed


def install(node: Node, environment: dict[str, str]) -> None:
    """Runs the init container, which installs the plugin and sets what the kernel needs."""
    init(node, environment)
    # The router advertises itself a moment after the node came up.
    wait_for(lambda: node.ip("-6", "route", "show", "default"), "the node's IPv6 route", 40)


def bare_pod(node: Node, name: str, **options: Any) -> Pod:
    """A pod whose first interface leads nowhere, in place of one that the plugin before has made."""
    pod = node.pod(name, **options)
    pod.exec(["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "far0"])
    for link in ("eth0", "far0"):
        pod.exec(["ip", "link", "set", link, "up"])
    return pod


def rules(node: Node, direction: Direction) -> list[str]:
    """The plugin's lines of iptables-save."""
    saved = node.instance.run([f"{direction.iptables}-save", "-t", "nat"]).stdout.splitlines()
    return [line for line in saved if "CNI-E" in line]


def reserved(node: Node, direction: Direction) -> dict[str, str]:
    """The content of each reservation, by address."""
    program = f"cd {direction.reservations} 2>/dev/null && for name in *; do printf '%s\\0' \"$name\"; cat \"$name\"; printf '\\0'; done"
    # As bytes: text mode would change the CR LF.
    words = node.instance.run(["sh", "-c", program], check=False, text=False).stdout.decode().split("\0")[:-1]
    files = dict(zip(words[::2], words[1::2]))
    return {name: content for name, content in files.items() if name not in ("lock", "last_reserved_ip.0", "*")}


def leftovers(node: Node, direction: Direction) -> dict[str, Any]:
    """What no pod may leave on the node; all empty on a clean one."""
    links = [link["ifname"] for link in node.ip("link", "show", "type", "veth") if link["ifname"].startswith("veth")]
    routes = [route["dst"] for route in node.ip(f"-{direction.family}", "route", "show") if route["dev"].startswith("veth")]
    return {"rules": rules(node, direction), "reserved": reserved(node, direction), "links": links, "routes": routes}


def is_clean(node: Node, direction: Direction) -> bool:
    return not any(leftovers(node, direction).values())
