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
from ipaddress import IPv6Network
from pathlib import Path
from typing import Any

from . import drops, namespaces
from .ip_batch import IPBatch, IPBatchError
from .router6 import ROUTER_ADDRESS6, Router6, router_mac

IMDS_ADDRESS = "169.254.169.254"
IMDS_ADDRESS6 = "fd00:ec2::254"
EC2_ADDRESS = "198.18.0.1"
INTERNET_ADDRESS = "198.51.100.10"
INTERNET_ADDRESS6 = "2001:db8:ffff::10"
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

# What a VPC with IPv6 has in addition. No element but an internet gateway is between the VPC and the internet.
_RULES6 = """
add set inet vpc flows6 { type ifname . ipv6_addr . ipv6_addr; size 4096; flags dynamic,timeout; timeout 1h; counter; }
add set inet vpc unrouted6 { type ifname . ipv6_addr . ipv6_addr; size 4096; flags dynamic,timeout; timeout 1h; counter; }
add set inet vpc private6 { type ifname . ipv6_addr . ipv6_addr; size 4096; flags dynamic,timeout; timeout 1h; counter; }
insert rule inet vpc unowned meta nfproto ipv6 update @flows6 { iifname . ip6 saddr . ip6 daddr }
insert rule inet vpc unassigned meta nfproto ipv6 update @unrouted6 { iifname . ip6 saddr . ip6 daddr }
add chain inet vpc no_public6
add rule inet vpc no_public6 update @private6 { iifname . ip6 saddr . ip6 daddr }
add rule inet vpc no_public6 counter name no_public_address drop
insert rule inet vpc source_check iifname @imds_off ip6 daddr fd00:ec2::254 drop
add rule inet vpc source_check meta nfproto ipv6 fib daddr oif 0 goto unassigned
add chain inet vpc gateway6 { type filter hook forward priority filter; policy accept; }
add rule inet vpc gateway6 oifname "internet" meta nfproto ipv6 ip6 saddr != CIDR6 goto no_public6
add chain inet vpc quiet { type filter hook output priority filter; policy accept; }
add rule inet vpc quiet icmpv6 type nd-redirect drop
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
    def __init__(self, path: Path, internet: Path, nat_gateway: bool, cidr6: str | None = None,
                 router_lifetime: float = 1800.0) -> None:
        """Creates the namespaces `path` and `internet` and connects them.

        With `cidr6`, the VPC's, in both families. Raises RuntimeError if the kernel cannot do the source check of IPv6.
        """
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
        self.router6: Router6 | None = None
        if cidr6:
            self._set_up_ipv6(cidr6, router_lifetime)
        beyond = namespaces.NamespaceThread(internet)
        beyond.run(lambda: self._set_up_internet(bool(cidr6)))
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
               source_check: bool, inside_mtu: int = 1500, subnet6: IPv6Network | None = None) -> None:
        """Attaches the ENI: it appears in the instance's namespace `network` as `inside`, down and without addresses.

        `subnet6` is the IPv6 CIDR of its subnet.
        """
        device = f"e-{interface_id[-13:]}"
        own = f"address {router_mac(mac)} " if self.router6 else ""
        self._ip.run([
            f"link add name {device} {own}mtu {_MTU} type veth peer name {inside} address {mac} mtu {inside_mtu} netns {network}",
            f"link set dev {device} up",
            f"neigh replace {_NEXT_HOP} lladdr {mac} dev {device} nud permanent",
            f"neigh replace {_NEXT_HOP6} lladdr {mac} dev {device} nud permanent",
            *([f"addr add {ROUTER_ADDRESS6}/128 dev {device} nodad"] if self.router6 else []),
        ])
        if self.router6:
            self.router6.add_port(device, router_mac(mac), subnet6)
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
        if self.router6:
            self.router6.remove_port(port.device)
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
        if self.router6:
            self.router6.set_routes(port.device, routes)

    def advertise(self, interface_id: str) -> None:
        """The router advertises itself on this ENI, if the VPC has IPv6."""
        port = self._ports.get(interface_id)
        if port and self.router6:
            self.router6.advertise(port.device)

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
        names = {port.device: {"instance": port.owner, "eni": port.interface_id, "device": port.inside}
                 for port in self._ports.values()}
        report = drops.report(json.loads(text), lambda device: names.get(device, {"device": device}))
        if reset:
            self._nft("reset counters table inet vpc")
            for name in drops.sets("sources", ipv6=self.router6 is not None):
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
        if self.router6:
            self.router6.close()
        self._ip.close()
        self._thread.close()

    def _set_up_ipv6(self, cidr6: str, router_lifetime: float) -> None:
        if not self._has_nftables:
            raise RuntimeError("a VPC with IPv6 needs a kernel with nf_tables")
        # nodad: or they cannot be bound for a moment.
        self._ip.run([f"addr add {IMDS_ADDRESS6}/128 dev lo nodad", "addr add 2001:db8:ffff::1/64 dev internet nodad"])
        self._nft(_RULES6.replace("CIDR6", cidr6))
        self.router6 = self._thread.run(lambda: Router6(router_lifetime))

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
    def _set_up_internet(ipv6: bool) -> None:
        commands = (f"link set dev lo up\naddr add {INTERNET_ADDRESS}/24 dev eth0\naddr add {PEER_ADDRESS}/32 dev lo\n"
                    "link set dev eth0 up\nroute add default via 198.51.100.1\n")
        if ipv6:
            commands += f"addr add {INTERNET_ADDRESS6}/64 dev eth0 nodad\nroute add ::/0 via 2001:db8:ffff::1\n"
        subprocess.run(["ip", "-batch", "-"], input=commands.encode(), check=True)


def _kernel_has_nftables() -> bool:
    """Whether nfnetlink answers for nf_tables; the query loads the module."""
    asked = subprocess.run(["nft", "list", "tables"], capture_output=True, check=False)
    return asked.returncode == 0


def _route(verb: str, destination: str, device: str) -> str:
    via = _NEXT_HOP6 if ":" in destination else _NEXT_HOP
    return f"route {verb} {destination} via {via} dev {device} onlink"
