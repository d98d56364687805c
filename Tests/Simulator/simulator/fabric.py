"""The data plane between instances: one namespace that routes packets and drops those that a VPC would drop.

An ENI is a veth pair from here to the instance. Each address or prefix is one route here, so the reverse lookup of nftables'
`fib saddr . iif` is the source check. On a kernel without nf_tables, the strict reverse-path filter of each ENI's device is
the source check. See README.md, «Data plane».
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import namespaces
from .ip_batch import IPBatch, IPBatchError

IMDS_ADDRESS = "169.254.169.254"
EC2_ADDRESS = "198.18.0.1"
INTERNET_ADDRESS = "198.51.100.10"
PEER_ADDRESS = "172.29.0.10"  # a private network beyond the VPC, reached without a public address
PEER_CIDR = "172.29.0.0/16"
_NEXT_HOP = "169.254.0.2"  # the instance at the far end of any ENI; a static neighbour, which nobody owns
_NEXT_HOP6 = "fe80::2"
_MTU = 9001

_RULES = """
table inet vpc {
  set unchecked { type ifname; }
  set imds_off { type ifname; }
  set public4 { type ipv4_addr; }
  set sources { type ifname; size 65535; flags dynamic; counter; }
  set flows4 { type ifname . ipv4_addr . ipv4_addr; size 4096; flags dynamic,timeout; timeout 1h; counter; }
  set unrouted4 { type ifname . ipv4_addr . ipv4_addr; size 4096; flags dynamic,timeout; timeout 1h; counter; }
  set private4 { type ifname . ipv4_addr . ipv4_addr; size 4096; flags dynamic,timeout; timeout 1h; counter; }
  counter unowned_source { }
  counter no_public_address { }
  counter unassigned_destination { }
  chain unowned {
    update @sources { iifname }
    meta nfproto ipv4 update @flows4 { iifname . ip saddr . ip daddr }
    counter name unowned_source drop
  }
  chain unassigned {
    meta nfproto ipv4 update @unrouted4 { iifname . ip saddr . ip daddr }
    counter name unassigned_destination drop
  }
  chain no_public {
    update @private4 { iifname . ip saddr . ip daddr }
    counter name no_public_address drop
  }
  chain source_check {
    type filter hook prerouting priority raw; policy accept;
    iifname { "lo", "internet" } accept
    ip saddr 0.0.0.0 accept
    ip6 saddr { ::, fe80::/10 } accept
    iifname @imds_off ip daddr 169.254.169.254 drop
    iifname != @unchecked fib saddr . iif oif 0 goto unowned
    fib daddr type { local, broadcast, multicast } accept
    meta nfproto ipv4 fib daddr oif 0 goto unassigned
  }
  chain gateway {
    type filter hook forward priority filter; policy accept;
    oifname "internet" ip daddr 172.29.0.0/16 accept
    oifname "internet" meta nfproto ipv4 ip saddr != @public4 goto no_public
  }
}
"""


@dataclass
class Port:
    """The fabric's end of an attached ENI."""

    interface_id: str
    device: str
    owner: str  # the instance's name
    inside: str  # the device's name in the instance
    routes: set[str] = field(default_factory=set)


class Fabric:
    def __init__(self, path: Path, internet: Path, nat_gateway: bool) -> None:
        """Creates the namespaces `path` and `internet` and connects them."""
        self.path = path
        self._ports: dict[str, Port] = {}
        self._vpc_cidrs: set[str] = set()
        self._has_nftables = _kernel_has_nftables()
        self._filtered_before = 0
        namespaces.create_network(path)
        namespaces.create_network(internet)
        self._thread = namespaces.NamespaceThread(path)
        self._ip: IPBatch = self._thread.run(IPBatch)
        self._thread.run(lambda: namespaces.write_sysctls({
            "net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1",
            "net/ipv4/conf/all/rp_filter": "0", "net/ipv4/conf/default/rp_filter": "0",
            "net/ipv4/conf/all/send_redirects": "0", "net/ipv4/conf/default/send_redirects": "0",
            "net/ipv4/conf/default/proxy_arp": "1", "net/ipv4/conf/all/arp_announce": "2",
            "net/ipv6/conf/default/accept_dad": "0", "net/ipv6/conf/all/accept_ra": "0",
        }))
        self._ip.run([
            "link set dev lo up",
            f"addr add {IMDS_ADDRESS}/32 dev lo",
            f"addr add {EC2_ADDRESS}/32 dev lo",
            f"link add name internet mtu {_MTU} type veth peer name eth0 mtu {_MTU} netns {internet}",
            "addr add 198.51.100.1/24 dev internet",
            "link set dev internet up",
        ])
        self._nft(_RULES)
        if nat_gateway:
            self._nft("flush chain inet vpc gateway")
        beyond = namespaces.NamespaceThread(internet)
        beyond.run(lambda: self._set_up_internet())
        beyond.close()
        self._ip.run([f"route add {PEER_CIDR} via {INTERNET_ADDRESS} dev internet"])

    def set_vpc_cidrs(self, cidrs: set[str]) -> None:
        """Sets the VPC's CIDRs to exactly these. Their addresses that no ENI owns are blackholed."""
        self._ip.run([f"route del blackhole {each}" for each in sorted(self._vpc_cidrs - cidrs)]
                     + [f"route add blackhole {each}" for each in sorted(cidrs - self._vpc_cidrs)])
        self._vpc_cidrs = set(cidrs)

    def add_gateway(self, address: str) -> None:
        """Adds the address of a subnet's router; the fabric answers for it."""
        self._ip.run([f"addr add {address}/{128 if ':' in address else 32} dev lo"])

    def attach(self, interface_id: str, mac: str, owner: str, inside: str, network: Path, routes: set[str],
               source_check: bool, inside_mtu: int = 1500) -> None:
        """Attaches the ENI: it appears in the instance's namespace `network` as `inside`, down and without addresses."""
        device = f"e-{interface_id[-13:]}"
        self._ip.run([
            f"link add name {device} mtu {_MTU} type veth peer name {inside} address {mac} mtu {inside_mtu} netns {network}",
            f"link set dev {device} up",
            f"neigh replace {_NEXT_HOP} lladdr {mac} dev {device} nud permanent",
            f"neigh replace {_NEXT_HOP6} lladdr {mac} dev {device} nud permanent",
        ])
        self._thread.run(lambda: namespaces.write_sysctls({
            f"net/ipv4/neigh/{device}/proxy_delay": "0",
            f"net/ipv4/conf/{device}/rp_filter": "0" if self._has_nftables else "1"}))
        self._ports[interface_id] = Port(interface_id, device, owner, inside)
        self.set_routes(interface_id, routes)
        if not source_check:
            self.set_source_check(interface_id, False)

    def detach(self, interface_id: str) -> None:
        port = self._ports.pop(interface_id, None)
        if port is None:
            return
        try:
            self._ip.run([f"link del dev {port.device}"])
        except IPBatchError as error:
            if "Cannot find device" not in str(error):  # it disappeared with the instance's namespace
                raise
        self._nft("\n".join(f"{verb} element inet vpc {name} {{ \"{port.device}\" }}"
                            for name in ("unchecked", "imds_off") for verb in ("add", "delete")))

    def set_routes(self, interface_id: str, routes: set[str]) -> None:
        """Sets the ENI's addresses and prefixes to exactly `routes`. Does nothing for an ENI that is not attached."""
        port = self._ports.get(interface_id)
        if port is None:
            return
        self._ip.run([_route("del", each, port.device) for each in sorted(port.routes - routes)]
                     + [_route("replace", each, port.device) for each in sorted(routes - port.routes)])
        port.routes = set(routes)

    def set_source_check(self, interface_id: str, on: bool) -> None:
        self._set_member("unchecked", interface_id, not on)

    def set_imds(self, interface_id: str, on: bool) -> None:
        """Off: the fabric drops this ENI's packets to the metadata service."""
        self._set_member("imds_off", interface_id, not on)

    def set_public(self, address: str, public: bool) -> None:
        """Sets whether an internet gateway maps a public address to this private one."""
        self._nft(f"{'add' if public else 'delete'} element inet vpc public4 {{ {address} }}")

    def drops(self, reset: bool = False) -> dict[str, Any]:
        """What the fabric dropped since the start or the last reset; without nf_tables, only the total."""
        if not self._has_nftables:
            return self._filtered(reset)
        text = self._thread.run(lambda: subprocess.run(
            ["nft", "-j", "list", "table", "inet", "vpc"], check=True, capture_output=True).stdout)
        report = self._report(json.loads(text))
        if reset:
            self._nft("reset counters table inet vpc")
            for name in ("sources", "flows4", "unrouted4", "private4"):
                self._nft(f"flush set inet vpc {name}")
        return report

    def _filtered(self, reset: bool) -> dict[str, Any]:
        """The same from the counters of the reverse-path filter."""
        lines = self._thread.run(lambda: Path("/proc/thread-self/net/netstat").read_text(encoding="ascii")).splitlines()
        names, values = (line.split() for line in lines if line.startswith("TcpExt:"))
        filtered = int(values[names.index("IPReversePathFilter")])
        dropped = filtered - self._filtered_before
        if reset:
            self._filtered_before = filtered
        return {"total": dropped, "unowned_source": dropped, "no_public_address": 0, "unassigned_destination": 0, "enis": [],
                "flows": {"unowned_source": [], "no_public_address": [], "unassigned_destination": []}}

    def run(self, action: Callable[[], Any]) -> Any:
        """Runs an action in the fabric's namespace."""
        return self._thread.run(action)

    def close(self) -> None:
        self._ip.close()
        self._thread.close()

    def _report(self, listing: dict[str, Any]) -> dict[str, Any]:
        ports = {port.device: port for port in self._ports.values()}
        counters: dict[str, int] = {}
        members: dict[str, list[tuple[Any, int]]] = {}
        for item in listing["nftables"]:
            if counter := item.get("counter"):
                counters[counter["name"]] = counter["packets"]
            if found := item.get("set"):
                members[found["name"]] = [
                    (each["elem"]["val"], each["elem"].get("counter", {}).get("packets", 0))
                    for each in found.get("elem", []) if isinstance(each, dict) and "elem" in each
                ]

        def name(device: str) -> dict[str, str]:
            port = ports.get(device)
            if port is None:
                return {"device": device}
            return {"instance": port.owner, "eni": port.interface_id, "device": port.inside}

        def flows(key: str) -> list[dict[str, Any]]:
            return [{**name(value["concat"][0]), "source": value["concat"][1], "destination": value["concat"][2],
                     "packets": packets} for value, packets in members.get(key, [])]

        return {
            "total": counters["unowned_source"] + counters["no_public_address"],
            "unowned_source": counters["unowned_source"],
            "no_public_address": counters["no_public_address"],
            "unassigned_destination": counters["unassigned_destination"],
            "enis": [{**name(device), "packets": packets} for device, packets in members.get("sources", [])],
            "flows": {"unowned_source": flows("flows4"), "no_public_address": flows("private4"),
                      "unassigned_destination": flows("unrouted4")},
        }

    def _set_member(self, name: str, interface_id: str, member: bool) -> None:
        port = self._ports.get(interface_id)
        if port is None:
            return
        element = f"element inet vpc {name} {{ \"{port.device}\" }}"
        self._nft(f"add {element}" + ("" if member else f"\ndelete {element}"))

    def _nft(self, script: str) -> None:
        if not self._has_nftables:
            return
        done = self._thread.run(lambda: subprocess.run(
            ["nft", "-f", "-"], input=script.encode(), capture_output=True, check=False))
        if done.returncode != 0:
            raise RuntimeError(f"nft in the fabric: {done.stderr.decode(errors='replace').strip()}")

    @staticmethod
    def _set_up_internet() -> None:
        commands = (f"link set dev lo up\naddr add {INTERNET_ADDRESS}/24 dev eth0\naddr add {PEER_ADDRESS}/32 dev lo\n"
                    "link set dev eth0 up\nroute add default via 198.51.100.1\n")
        subprocess.run(["ip", "-batch", "-"], input=commands.encode(), check=True)


def _kernel_has_nftables() -> bool:
    """Whether nfnetlink answers for nf_tables; the query loads the module."""
    asked = subprocess.run(["nft", "list", "tables"], capture_output=True, check=False)
    return asked.returncode == 0


def _route(verb: str, destination: str, device: str) -> str:
    via = _NEXT_HOP6 if ":" in destination else _NEXT_HOP
    return f"route {verb} {destination} via {via} dev {device} onlink"
