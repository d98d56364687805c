"""Every flow of a node, TCP and UDP, on each firewall: which address the other side sees, and by which ENI each packet
leaves. With IPv4, with and without SNAT by the agent and with pods on three ENIs; with IPv6 on one. The nodes start with strict reverse-path filtering, and the VPC drops
packets from an ENI that does not own their source."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import pytest

from harness import firewall, kube_proxy
from harness.ipv6 import IPV6, init
from harness.kube_proxy import Service
from harness.node import Node
from harness.pod import Pod
from harness.traffic import SERVICE_PORTS, Flow, Leg, Place, Traffic, device_index
from harness.waiting import wait_for
from simulator.client import Instance, Simulator
from simulator.fabric import INTERNET_ADDRESS, INTERNET_ADDRESS6

PODS = 8  # a t3.small has three ENIs for three pods each
# With a NAT gateway, pods' own addresses reach the internet too.
SIMULATOR = {"nat_gateway": True, "family": "dual"}
# Without iptables: the node has none, kube-proxy uses nftables, and the agent must use nftables for everything.
FORMS = (*kube_proxy.FORMS, "without-iptables")
# Form, whether pods keep their own addresses outside, and the address family. IPv6 pods always keep them.
Case = tuple[str, bool, int]
CASES: list[Case] = [*((form, external, 4) for form in FORMS for external in (False, True)), *((form, True, 6) for form in FORMS)]


def rig_name(case: Case) -> str:
    form, external, family = case
    return f"{form}-{'ipv6' if family == 6 else 'external' if external else 'snat'}"


@dataclass
class Rig:
    """Two nodes with pods, with IPv4 on three ENIs each, and an instance without agent and pods."""

    vpc: Simulator
    here: Node
    there: Node
    client: Instance
    form: str
    external: bool
    family: int = 4
    traffic: Traffic = field(init=False)
    flows: list[Flow] = field(default_factory=list)
    services: list[Service] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.traffic = Traffic(self.vpc, self.family)

    @property
    def internet(self) -> str:
        return INTERNET_ADDRESS6 if self.family == 6 else INTERNET_ADDRESS

    def own(self, where: Node | Instance) -> str:
        """A node's own address."""
        instance = where.instance if isinstance(where, Node) else where
        return instance.address6 if self.family == 6 else instance.address

    def three(self, node: Node) -> list[Pod]:
        """A pod on each ENI; with IPv6, three pods."""
        return node.pods[:3] if self.family == 6 else [self.on(node, index)[0] for index in range(3)]

    def on(self, node: Node, index: int) -> list[Pod]:
        """The node's pods on the ENI with this device index."""
        return [pod for pod in node.pods if device_index(node, pod) == index]

    # MARK: the path of a packet

    def leg(self, node: Node, index: int, source: str, destination: str) -> Leg:
        return node.name, index, source, destination

    def pod_leg(self, pod: Pod, destination: str) -> Leg:
        """A packet of a pod that leaves with the pod's own address by the ENI that owns the address."""
        node = self.here if pod in self.here.pods else self.there
        return node.name, device_index(node, pod), pod.address, destination

    # MARK: flows and services

    def add(self, name: str, source: Pod | Node | Instance, target: str, peer: str, legs: list[Leg] | None, **more: object) -> None:
        self.flows.append(Flow(name, Place.of(source), target, peer, None if legs is None else frozenset(legs), **more))

    def service(self, endpoint: Pod, **more: bool) -> Service:
        """A service with the port and node port that the next flow gets."""
        port = SERVICE_PORTS[0] + len(self.flows)
        network = "fdaa:0:20::" if self.family == 6 else "172.20.0."
        service = Service(f"s{len(self.flows)}", f"{network}{len(self.services) + 1}", port, endpoint.address,
                          node_port=port, **more)
        self.services.append(service)
        return service


def start(vpc: Simulator, make_node: Callable[..., Node], case: Case) -> Rig:
    form, external, family = case
    backend = "legacy" if form == "iptables-legacy" else "nft"
    environment = IPV6 if family == 6 else {"AWS_VPC_K8S_CNI_EXTERNALSNAT": str(external).lower()}
    nodes = [make_node(name, type="t3.small", subnet=subnet, environment=environment)
             for name, subnet in (("here", "a"), ("there", "b"))]
    client = make_node("client", type="t3.small", subnet="b").instance
    for node in nodes:
        if form == "without-iptables":
            firewall.hide_iptables(node)
        else:
            kube_proxy.hint(node, backend)
        if family == 6:
            init(node)
        node.agent.start()
    for node in nodes:
        node.add_pods(PODS)
        if family == 4:
            wait_for(lambda node=node: len(node.agent_rules()) == 2, f"three ENIs of {node.name}", 20)
    return Rig(vpc, nodes[0], nodes[1], client, form, external, family)


@contextmanager
def serving(rig: Rig) -> Iterator[None]:
    """Servers everywhere, kube-proxy's rules, and the recording of packets in the fabric."""
    with ExitStack() as stack:
        pods = [Place.of(pod) for node in (rig.here, rig.there) for pod in node.pods]
        stack.enter_context(rig.traffic.servers(
            pods, [Place.of(rig.here), Place.of(rig.there), Place.internet(rig.vpc)]))
        stack.enter_context(rig.traffic.observer())
        for node in (rig.here, rig.there):
            kube_proxy.write(node, "nftables" if rig.form == "without-iptables" else rig.form, rig.services)
        rig.vpc.drops(reset=True)
        yield


def assert_right(rig: Rig, drops: int = 0) -> None:
    wrong = rig.traffic.run(rig.flows)
    assert not wrong, "\n".join(wrong)
    assert rig.vpc.drops()["total"] == drops, rig.vpc.drops()


def add_pod_flows(rig: Rig) -> None:
    here, there = rig.here, rig.there
    mine, theirs = rig.three(here), rig.three(there)[:2]
    for pod in mine:
        index = device_index(here, pod)
        if len(rig.on(here, index)) > 1:
            neighbour = rig.on(here, index)[-1]
            rig.add("pod to pod on one ENI", pod, neighbour.address, pod.address, [])
        for other in mine:
            if other is not pod:
                rig.add("pod to pod across ENIs", pod, other.address, pod.address, [])
        for other in theirs:
            rig.add("pod to pod across nodes", pod, other.address, pod.address,
                    [rig.pod_leg(pod, other.address), rig.pod_leg(other, pod.address)])
        rig.add("pod to node", pod, rig.own(here), pod.address, [])
        rig.add("node to pod", here, pod.address, rig.own(here), [])
        other_node = rig.own(there)
        rig.add("pod to the other node", pod, other_node, pod.address,
                [rig.pod_leg(pod, other_node), rig.leg(there, 0, other_node, pod.address)])
        rig.add("the other node to pod", there, pod.address, other_node,
                [rig.leg(there, 0, other_node, pod.address), rig.pod_leg(pod, other_node)])
        if rig.external:
            rig.add("pod to outside", pod, rig.internet, pod.address, [rig.pod_leg(pod, rig.internet)])
        else:
            rig.add("pod to outside", pod, rig.internet, rig.own(here), [rig.leg(here, 0, rig.own(here), rig.internet)])
    own, loopback = rig.own(here), "::1" if rig.family == 6 else "127.0.0.1"
    rig.add("node-local traffic", here, own, own, [])
    rig.add("node-local traffic by the loopback", here, loopback, loopback, [])
    rig.add("node to outside", here, rig.internet, own, [rig.leg(here, 0, own, rig.internet)])


def add_service_flows(rig: Rig) -> None:
    here, there, client = rig.here, rig.there, rig.own(rig.client)
    mine = rig.three(here)
    remote = rig.three(there)[1]
    own = rig.own(here)
    asked: Leg = (rig.client.name, 0, client, own)
    answered = rig.leg(here, 0, own, client)
    for pod in mine:
        rig.service(pod)
        rig.add("NodePort to a local pod", rig.client, own, own, [asked, answered], is_service=True)
        rig.service(pod, is_local=True)
        rig.add("NodePort to a local pod, policy Local", rig.client, own, client, [asked, answered], is_service=True)
        rig.add("hairpin", pod, rig.service(pod).cluster_ip, own, [], is_service=True)
        rig.add("service from the node", here, rig.service(pod).cluster_ip, own, [], is_service=True)
        other = mine[(mine.index(pod) + 1) % 3]
        rig.add("service to a pod on the node", pod, rig.service(other).cluster_ip, pod.address, [], is_service=True)
        rig.add("service to a remote pod", pod, rig.service(remote).cluster_ip, pod.address,
                [rig.pod_leg(pod, remote.address), rig.pod_leg(remote, pod.address)], is_service=True)
        rig.service(rig.three(there)[2])
        their = rig.own(there)
        rig.add("pod to the other node's NodePort", pod, their, their,
                [rig.pod_leg(pod, their), rig.leg(there, 0, their, pod.address)], is_service=True)
    if rig.family == 4 and rig.form.startswith("iptables"):  # kube-proxy with nftables serves only the node's primary address
        add_node_ports_of_a_secondary_eni(rig)
    rig.service(remote)
    rig.add("NodePort to a remote pod", rig.client, own, own,
            [asked, rig.leg(here, 0, own, remote.address), rig.pod_leg(remote, own), answered], is_service=True)
    rig.add("service from the node to a remote pod", here, rig.service(remote).cluster_ip, own,
            [rig.leg(here, 0, own, remote.address), rig.pod_leg(remote, own)], is_service=True)


def add_node_ports_of_a_secondary_eni(rig: Rig) -> None:
    """Replies leave by the ENI whose address the client used, whichever ENI the pod is on."""
    here, there, client, own = rig.here, rig.there, rig.client.address, rig.here.instance.address
    asked_at = next(eni["addresses"][0] for eni in here.enis() if eni["index"] == 1)
    ways = [(rig.client.name, 0, client, asked_at), rig.leg(here, 1, asked_at, client)]
    for index in range(3):
        pod = rig.on(here, index)[0]
        rig.service(pod)
        rig.add("NodePort of a secondary ENI to a local pod", rig.client, asked_at, own, ways, is_service=True)
        rig.service(pod, is_local=True)
        rig.add("NodePort of a secondary ENI to a local pod, policy Local", rig.client, asked_at, client, ways, is_service=True)
    remote = rig.on(there, 1)[0]
    rig.service(remote)
    rig.add("NodePort of a secondary ENI to a remote pod", rig.client, asked_at, own,
            [*ways, rig.leg(here, 0, own, remote.address), rig.pod_leg(remote, own)], is_service=True)


@pytest.fixture(params=CASES, ids=rig_name)
def rig(request: pytest.FixtureRequest, vpc: Simulator, make_node: Callable[..., Node]) -> Rig:
    vpc.drops(reset=True)
    return start(vpc, make_node, request.param)


def test_flows(rig: Rig) -> None:
    """All common flows, then the rarer ones on the same nodes."""
    add_service_flows(rig)
    add_pod_flows(rig)
    with serving(rig):
        assert_right(rig)
        with_a_foreign_mark(rig)
        with_a_narrow_path(rig)
        with_a_refusal(rig)


def with_a_foreign_mark(rig: Rig) -> None:
    """A rule that runs before the agent's marks every incoming packet, with bits that the agent does not use."""
    rig.traffic.forget()
    for node in (rig.here, rig.there):
        node.instance.run(["nft", "table inet others { chain before { type filter hook prerouting priority -300; "
                                  "meta mark set 0x0a0b0100; }; }"])
    assert_right(rig)
    for node in (rig.here, rig.there):
        node.instance.run(["nft", "delete table inet others"])


def with_a_narrow_path(rig: Rig) -> None:
    """Jumbo frames within the VPC, 1,500 bytes beyond a router: the sender of a packet that is too large is told."""
    rig.traffic.forget()
    pods = rig.here.pods[-3:] if rig.family == 6 else [rig.on(rig.here, index)[-1] for index in range(3)]
    flows = rig.flows
    rig.flows = []
    other = rig.three(rig.there)[1] if rig.family == 6 else rig.on(rig.there, 1)[-1]
    for pod in pods:
        peer = pod.address if rig.external else rig.own(rig.here)
        rig.add("large to outside and back", pod, rig.internet, peer, None, size=60_000, protocols=("tcp",))
        rig.add("large datagrams to outside and back", pod, rig.internet, peer, None, size=4_000, protocols=("udp",))
        rig.add("large to a pod and back", pod, other.address, pod.address, None, size=60_000, protocols=("tcp",))
        rig.add("large datagrams to a pod and back", pod, other.address, pod.address, None, size=4_000, protocols=("udp",))
    narrow(rig, pods + [other])
    before = refused_for_size(rig)
    assert_right(rig)
    assert refused_for_size(rig) > before, "nothing was too large"
    rig.flows = flows


def narrow(rig: Rig, pods: list[Pod]) -> None:
    """Sets the MTU of all routes in the fabric to these pods, to the node and to the internet to 1,500 bytes."""
    addresses = [pod.address for pod in pods] + [rig.own(rig.here), rig.internet]
    for address in addresses:
        shown = rig.vpc.run_in("@fabric", ["ip", "route", "get", address], capture_output=True, text=True, check=True).stdout.split()
        device = shown[shown.index("dev") + 1]
        via = ["via", shown[shown.index("via") + 1], "onlink"] if "via" in shown else []
        rig.vpc.run_in("@fabric", ["ip", "route", "replace", address, *via, "dev", device, "mtu", "lock", "1500"], check=True)


def refused_for_size(rig: Rig) -> int:
    """Packets that the fabric could not forward without fragmenting them: Ip FragFails, Ip6InTooBigErrors."""
    if rig.family == 6:
        text = rig.vpc.run_in("@fabric", ["cat", "/proc/net/snmp6"], capture_output=True, text=True, check=True).stdout
        return int(re.search(r"^Ip6InTooBigErrors\s+(\d+)$", text, re.MULTILINE)[1])
    lines = [line.split() for line in rig.vpc.run_in("@fabric", ["cat", "/proc/net/snmp"], capture_output=True, text=True,
                                                     check=True).stdout.splitlines() if line.startswith("Ip:")]
    return int(lines[1][lines[0].index("FragFails")])


def with_a_refusal(rig: Rig) -> None:
    """The node answers in a pod's name with a reset, by the pod's ENI, and in its own name with a destination unreachable."""
    rig.traffic.forget()
    flows = rig.flows
    rig.flows = []
    for number, pod in enumerate(rig.three(rig.here)):
        neighbour = rig.here.pods[-1] if rig.family == 6 else rig.on(rig.here, 1)[-1]
        for source, name in ((rig.there, "node"), (rig.three(rig.there)[1], "pod"), (neighbour, "neighbour")):
            port = PORT_OF_REFUSAL + number * 3 + ("node", "pod", "neighbour").index(name)
            refuse(rig, pod.address, port)
            address = rig.own(source) if isinstance(source, Node) else source.address
            legs = [] if name == "neighbour" else [
                rig.leg(rig.there, 0, address, pod.address) if isinstance(source, Node) else rig.pod_leg(source, pod.address)]
            rig.add(f"reset towards a {name}", source, pod.address, "failed: Connection refused",
                    legs + ([rig.pod_leg(pod, address)] if legs else []), port=port, protocols=("tcp",))
            rig.add(f"port unreachable towards a {name}", source, pod.address, "failed: Connection refused", legs, port=port,
                    protocols=("udp",))
    assert_right(rig)
    rig.flows = flows


PORT_OF_REFUSAL = 900


def refuse(rig: Rig, address: str, port: int) -> None:
    """The node rejects forwarded packets to this port, as a network policy does."""
    ip, icmp, program = ("ip6", "icmp6", "ip6tables-legacy") if rig.family == 6 else ("ip", "icmp", "iptables-legacy")
    if rig.form == "iptables-legacy":
        for protocol, answer in (("tcp", "tcp-reset"), ("udp", f"{icmp}-port-unreachable")):
            rig.here.instance.run([program, "-w", "-I", "FORWARD", "-p", protocol, "-d", address, "--dport", str(port),
                                   "-j", "REJECT", "--reject-with", answer])
    else:
        rig.here.instance.run(["nft", f"table {ip} refusing {{ chain f {{ type filter hook forward priority 0; "
                                      f"{ip} daddr {address} tcp dport {port} reject with tcp reset; "
                                      f"{ip} daddr {address} udp dport {port} reject; }}; }}"])


def test_without_rule_1024_the_vpc_drops_a_node_ports_replies(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    """The rule makes the replies leave by the primary ENI: without it, they leave by the pod's ENI."""
    rig = start(vpc, make_node, ("iptables-nft", False, 4))
    pod = rig.on(rig.here, 1)[0]
    own, client = rig.here.instance.address, rig.client.address
    rig.service(pod, is_local=True)
    rig.add("NodePort, policy Local", rig.client, own, client, None, is_service=True)
    with serving(rig):
        assert_right(rig)
        rig.here.agent.kill()  # or it would put the rule back
        rig.here.instance.run(["ip", "rule", "del", "priority", "1024"])
        rig.traffic.forget()
        wrong = rig.traffic.run(rig.flows)
        assert len(wrong) == 2 and all("failed" in each for each in wrong), wrong
        dropped = rig.vpc.drops()["flows"]["unowned_source"]
        assert {(each["instance"], each["device"], each["source"]) for each in dropped} == {("here", "ens6", own)}, dropped
