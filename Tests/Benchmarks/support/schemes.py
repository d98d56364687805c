"""The state that a node holds for its pods, in the agent's scheme and with rules for each pod, for `ip` and `nft`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

POD_TABLE = 20512
MASK = 0x7F
ADDRESSES_PER_ENI = 49  # as on the largest m5: 15 ENIs make 737 pods with the two on the host's network


@dataclass
class State:
    """Commands for `ip -batch` and rulesets. Devices are named `ens6` and `veth`, whatever they stand for."""

    commands: list[str] = field(default_factory=list)
    nft: str = ""
    iptables: str = ""


@dataclass(frozen=True)
class Pods:
    """`count` pods, 49 on an ENI, the first 49 on the primary one. The pod in the middle is measured."""

    count: int

    @property
    def addresses(self) -> list[str]:
        first = IPv4Address("10.0.64.10")
        return [str(first + number) for number in range(max(1, self.count))]

    @property
    def measured(self) -> str:
        return self.addresses[len(self.addresses) // 2]

    @property
    def enis(self) -> int:
        """Secondary ENIs, at least one: the measured pod is always on one, otherwise there is nothing to measure."""
        return max(1, -(-self.count // ADDRESSES_PER_ENI) - 1)

    def eni(self, number: int) -> int:
        """The ENI of a pod, 0 for the primary one."""
        return min(number // ADDRESSES_PER_ENI, self.enis) if self.count else 1


def empty(pods: Pods, veth: str) -> State:
    """A machine that forwards and has no state for pods except the route to the measured one."""
    return State([f"route add {pods.measured}/32 dev {veth} scope link"])


def _enis(pods: Pods) -> list[str]:
    """Tables and rules of both schemes."""
    commands = ["rule add pref 1024 fwmark 0x80/0x80 lookup main"]
    for eni in range(1, pods.enis + 1):
        commands += [f"route add 10.0.0.1 dev ens6 scope link table {eni + 1}",
                     f"route add default via 10.0.0.1 dev ens6 onlink table {eni + 1}",
                     f"rule add pref 32765 from 10.0.1.{eni} lookup {eni + 1}"]
    return commands


def per_pod(pods: Pods, veth: str) -> State:
    """Host routes in main, and for every pod `to POD lookup main` and `from POD lookup ENI-TABLE`."""
    commands = _enis(pods)
    for number, address in enumerate(pods.addresses):
        commands += [f"route add {address}/32 dev {veth} scope link",
                     f"rule add pref 512 to {address}/32 lookup main"]
        if eni := pods.eni(number):
            commands += [f"rule add pref 1536 from {address}/32 lookup {eni + 1}"]
    return State(commands)


def constant(pods: Pods, veth: str) -> State:
    """Host routes in a table of their own, a source map that sets marks, a rule for each ENI."""
    commands = [*_enis(pods), f"rule add pref 512 lookup {POD_TABLE}"]
    commands += [f"rule add pref 1536 fwmark {eni:#x}/{MASK:#x} lookup {eni + 1}" for eni in range(1, pods.enis + 1)]
    commands += ["rule add pref 32764 not iif lo goto 32766"]
    commands += [f"route add {address}/32 dev {veth} scope link table {POD_TABLE}" for address in pods.addresses]
    elements = ", ".join(f"{address} : goto eni-{eni}" for number, address in enumerate(pods.addresses)
                         if (eni := pods.eni(number)))
    clear = f"meta mark set meta mark & {0xFFFFFFFF & ~MASK:#x}"
    chains = "\n".join(f"chain eni-{eni} {{ {clear} | {eni:#x}; }}" for eni in range(1, pods.enis + 1))
    nft = f"""table ip vpc-cni {{
        map addresses {{ type ipv4_addr : verdict; elements = {{ {elements} }} }}
        map prefixes {{ type ipv4_addr : verdict; flags interval; }}
        {chains}
        chain from-pods {{
            {clear}
            ip saddr vmap @addresses
            ip saddr vmap @prefixes
        }}
        chain prerouting {{
            type filter hook prerouting priority -50; policy accept;
            iifname "eni*" jump from-pods
        }}
        chain output {{
            type route hook output priority mangle; policy accept;
            ip saddr vmap @addresses
            ip saddr vmap @prefixes
        }}
    }}"""
    return State(commands, nft)


# MARK: the state of a real agent

@dataclass
class Recorded:
    """The state of a real node, read with `ip -json`, `nft` and `iptables-save`."""

    rules: list[dict[str, Any]]
    routes: list[dict[str, Any]]
    nft: str
    nft_objects: list[dict[str, Any]]
    connmark: str  # the contract's own nftables table, if it exists
    iptables: str

    @classmethod
    def read(cls, node: Any) -> Recorded:
        """`node` is a harness Node whose agent runs."""
        def out(*words: str) -> str:
            done = node.instance.run(list(words), check=False)
            if done.returncode != 0:
                raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
            return done.stdout

        connmark = "table ip aws-cni" in out("nft", "list", "tables")
        return cls(rules=node.ip("rule", "show"), routes=node.ip("route", "show", "table", "all"),
                   nft=out("nft", "list", "table", "ip", "vpc-cni"),
                   nft_objects=json.loads(out("nft", "-j", "list", "table", "ip", "vpc-cni"))["nftables"],
                   connmark=out("nft", "list", "table", "ip", "aws-cni") if connmark else "",
                   iptables=out("iptables-save"))

    def summary(self) -> dict[str, Any]:
        """Numbers to compare with the made-up state. They must not grow with pods."""
        priorities = [rule["priority"] for rule in self.rules]
        maps = [each["map"] for each in self.nft_objects if "map" in each]
        chains = [each["chain"] for each in self.nft_objects if "chain" in each]
        return {"policy_rules": len(self.rules),
                "policy_rules_at": {str(each): priorities.count(each) for each in sorted(set(priorities))},
                "pod_routes": sum(str(route.get("table")) == str(POD_TABLE) for route in self.routes),
                "map_elements": sum(len(each.get("elem", [])) for each in maps),
                "hooks": {each["name"]: f"{each['hook']} {each['prio']}" for each in chains if "hook" in each}}

    def secondary_pods(self) -> list[str]:
        """Addresses of pods that the source map routes to a secondary ENI. Raises RuntimeError if there are none."""
        pods = {route["dst"] for route in self.routes if str(route.get("table")) == str(POD_TABLE)}
        mapped = {str(each[0]) for found in self.nft_objects if "map" in found
                  for each in found["map"].get("elem", []) if isinstance(each[0], str)}
        if not pods & mapped:
            raise RuntimeError(f"of {len(pods)} pods none is in the source map of {len(mapped)} addresses")
        return sorted(pods & mapped)

    def state(self, veth: str, with_iptables: bool) -> State:
        """The same state in the benchmark's router: every pod is behind `veth`, every ENI table uses ens6."""
        commands = [f"rule add {_rule(rule)}" for rule in self.rules if rule["priority"] not in (0, 32766, 32767)]
        tables = {rule["table"] for rule in self.rules if rule["priority"] == 1536}
        for table in sorted(tables):
            commands += [f"route add default via 10.0.0.1 dev ens6 onlink table {table}"]
        commands += [f"route add {route['dst']} dev {veth} scope link table {POD_TABLE}" for route in self.routes
                     if str(route.get("table")) == str(POD_TABLE)]
        if not with_iptables:
            return State(commands, self.nft)
        return State(commands, self.connmark + self.nft, self.iptables)


def _rule(rule: dict[str, Any]) -> str:
    """One rule as `ip rule add` takes it."""
    words = (["not"] if "not" in rule else []) + ["pref", str(rule["priority"])]
    for key, word in (("src", "from"), ("dst", "to")):
        if rule.get(key, "all") != "all":
            words += [word, f"{rule[key]}/{rule.get(f'{key}len', 32)}"]
    if "fwmark" in rule:
        words += ["fwmark", f"{rule['fwmark']}/{rule.get('fwmask', '0xffffffff')}"]
    if "iif" in rule:
        words += ["iif", rule["iif"]]
    if "goto" in rule:
        return " ".join([*words, "goto", str(rule["goto"])])
    return " ".join([*words, "lookup", str(rule["table"])])
