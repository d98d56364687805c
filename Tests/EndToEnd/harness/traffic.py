"""Flows between places of the VPC: source, target, the address that the server sees, and the ENIs that the packets pass."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from . import paths
from .node import Node
from .pod import Pod

from simulator import registry
from simulator.client import Instance, Simulator

PROGRAMS = paths.ROOT / "Tests" / "EndToEnd" / "programs"
# Each flow has a port of its own, so that all flows can run at once and stay distinguishable in the fabric's records. The
# ports are below 1024: SNAT and masquerading choose any source port from 1024 up, which could otherwise be a flow's port.
SERVICE_PORTS = (800, 899)
PLAIN_PORTS = (700, 799)

# One set for each protocol: a key in nft 1.0.6 has at most five parts.
_SET = "set seen-{0} {{{{ type ifname . {{type}} . {{type}} . inet_service . inet_service; size 65535; flags dynamic; }}}}"
_RULE = ('iifname "e-*" meta l4proto {0} update @seen-{0} '
         "{{{{ iifname . {{ip}} saddr . {{ip}} daddr . {0} sport . {0} dport }}}}")
_OBSERVER = f"""
table {{ip}} flows {{{{
  {_SET.format("tcp")}
  {_SET.format("udp")}
  chain observe {{{{
    type filter hook prerouting priority -400;
    {_RULE.format("tcp")}
    {_RULE.format("udp")}
  }}}}
}}}}
"""
_ELEMENT = re.compile(r'"(e-[^"]+)" \. ([0-9a-f.:]+) \. ([0-9a-f.:]+) \. (\d+) \. (\d+)')

# (instance, device index of the ENI by which the packet leaves the instance, source, destination)
Leg = tuple[str, int, str, str]


@dataclass(frozen=True)
class Place:
    """Where a program can run."""

    name: str
    words: tuple[str, ...]  # a command that enters it
    instance: Instance | None = None

    @classmethod
    def of(cls, where: Pod | Node | Instance) -> Place:
        if isinstance(where, Pod):
            return cls(where.name, tuple(where.instance.command(["nsenter", f"--net={where.netns}"])), where.instance)
        instance = where.instance if isinstance(where, Node) else where
        return cls(instance.name, tuple(instance.command([])), instance)

    @classmethod
    def internet(cls, vpc: Simulator) -> Place:
        return cls("internet", tuple(registry.enter_command(*registry.namespace_files(vpc.name, "@internet"))))


@dataclass(frozen=True)
class Flow:
    """`peer` is the address that the server must see, or the text with which the client's failure must begin. `legs` are
    all the legs that the fabric must see, for each protocol; None if they are not checked."""

    name: str
    source: Place
    target: str
    peer: str
    legs: frozenset[Leg] | None = frozenset()
    is_service: bool = False  # uses a port of SERVICE_PORTS
    port: int = 0  # 0 means a port of its own
    size: int = 0  # the number of bytes in each direction
    protocols: tuple[str, ...] = ("tcp", "udp")


@dataclass
class Traffic:
    """Runs flows of one address family, 4 or 6, in a VPC and compares the results."""

    vpc: Simulator
    family: int = 4
    observed: set[tuple[str, str, str, str, int, int]] = field(default_factory=set)

    @contextmanager
    def servers(self, places: list[Place], plain_only: list[Place] | None = None) -> Iterator[None]:
        """An echo server in each place; those in `plain_only` do not listen on the services' ports, which the node forwards."""
        program = ["python3", str(PROGRAMS / "echo_server.py"), *(["-6"] if self.family == 6 else [])]
        service, plain = (f"{first}-{last}" for first, last in (SERVICE_PORTS, PLAIN_PORTS))
        commands = [[*place.words, *program, plain, service] for place in places]
        commands += [[*place.words, *program, plain] for place in plain_only or []]
        running = [subprocess.Popen(words, stdout=subprocess.PIPE) for words in commands]
        try:
            for process in running:
                assert process.stdout is not None and process.stdout.readline() == b"listening\n", process.args
            yield
        finally:
            for process in running:
                process.kill()
                process.communicate()

    @contextmanager
    def observer(self) -> Iterator[None]:
        """While this context is open, the fabric records the packets that come out of every ENI."""
        self._nft(_OBSERVER.format(ip=self._table, type=f"ipv{self.family}_addr"))
        try:
            yield
        finally:
            self._nft(f"delete table {self._table} flows")

    @property
    def _table(self) -> str:
        return "ip6" if self.family == 6 else "ip"

    def run(self, flows: list[Flow]) -> list[str]:
        """Runs all flows, those of the same source one after the other. Returns the deviations in words."""
        ports = {flow: flow.port or (SERVICE_PORTS if flow.is_service else PLAIN_PORTS)[0] + number
                 for number, flow in enumerate(flows)}
        assert len(flows) <= PLAIN_PORTS[1] - PLAIN_PORTS[0] + 1, "more flows than ports"
        by_source: dict[Place, list[tuple[Flow, str]]] = {}
        for flow in flows:
            by_source.setdefault(flow.source, []).extend((flow, protocol) for protocol in flow.protocols)
        with ThreadPoolExecutor(8) as workers:
            answers = list(workers.map(
                lambda item: self._ask(item[0], [[protocol, flow.target, ports[flow], flow.size]
                                                 for flow, protocol in item[1]]), by_source.items()))
        wrong = []
        for (_, asked), said in zip(by_source.items(), answers):
            wrong += [f"{flow.name} ({protocol} {flow.source.name} to {flow.target}:{ports[flow]}): {answer}, not {flow.peer}"
                      for (flow, protocol), answer in zip(asked, said)
                      if not (answer == flow.peer or flow.peer.startswith("failed") and answer.startswith(flow.peer))]
        self._look()
        for flow in flows:
            for protocol in flow.protocols if flow.legs is not None else ():
                seen = self.legs(protocol, ports[flow])
                if seen != flow.legs:
                    wrong.append(f"{flow.name} ({protocol} port {ports[flow]}): the fabric saw {sorted(seen)}, "
                                 f"not {sorted(flow.legs or ())}")
        return wrong

    def legs(self, protocol: str, port: int) -> frozenset[Leg]:
        """The packets that the fabric saw for a port, in both directions."""
        devices = {f"e-{eni['eni'][-13:]}": (eni["instance"], eni["index"]) for eni in self.vpc.enis() if eni.get("instance")}
        return frozenset((*devices[device], source, destination)
                         for device, kind, source, destination, *between in self.observed
                         if kind == protocol and port in between)

    def _ask(self, source: Place, asked: list[list[object]]) -> list[str]:
        done = subprocess.run([*source.words, "python3", str(PROGRAMS / "echo_client.py")], input=json.dumps(asked),
                              capture_output=True, text=True, timeout=180, check=False)
        assert done.returncode == 0, f"client in {source.name}: {done.stderr}"
        return json.loads(done.stdout)

    def forget(self) -> None:
        """Clears the records so far."""
        self.observed.clear()
        self._nft("".join(f"flush set {self._table} flows seen-{kind}; " for kind in ("tcp", "udp")))

    def _look(self) -> None:
        for kind in ("tcp", "udp"):
            listed = self.vpc.run_in("@fabric", ["nft", "list", "set", self._table, "flows", f"seen-{kind}"], capture_output=True, text=True,
                                     check=True).stdout
            for device, source, destination, *ports in _ELEMENT.findall(listed):
                self.observed.add((device, kind, source, destination, *(int(port) for port in ports)))

    def _nft(self, script: str) -> None:
        self.vpc.run_in("@fabric", ["nft", script], check=True)


def device_index(node: Node, pod: Pod) -> int:
    """The device index of the ENI that holds the pod's address, according to EC2."""
    address = ip_address(pod.address)
    return next(eni["index"] for eni in node.enis()
                if pod.address in eni["addresses"] or any(address in ip_network(prefix) for prefix in eni["prefixes6"]))
