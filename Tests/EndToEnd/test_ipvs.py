"""kube-proxy in IPVS mode: services with pods on the primary and on a secondary ENI. The test needs ip_vs in the kernel,
so `make vm-test` runs it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.node import Node
from harness.pod import Pod
from harness.traffic import SERVICE_PORTS, Flow, Place, Traffic, device_index
from simulator.client import Simulator

CLUSTER_IP = "172.20.0.10"
SETTINGS = ("net.ipv4.vs.conntrack=1", "net.ipv4.vs.conn_reuse_mode=0", "net.ipv4.vs.expire_nodest_conn=1",
            "net.ipv4.vs.expire_quiescent_template=1", "net.ipv4.conf.all.arp_ignore=1", "net.ipv4.conf.all.arp_announce=2")


def unavailable() -> str:
    """The reason why IPVS cannot be tested here; empty if it can."""
    try:
        shown = subprocess.run(["ipvsadm", "-Ln"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "needs ipvsadm and ip_vs in the kernel: `make vm-test` has both"
    return "" if shown.returncode == 0 and Path("/proc/net/ip_vs").exists() else "needs ip_vs in the kernel: `make vm-test` has it"


pytestmark = pytest.mark.skipif(bool(unavailable()), reason=unavailable())


class Proxy:
    """The setup of kube-proxy in IPVS mode, for the flows of this test (kubernetes v1.33, pkg/proxy/ipvs/proxier.go).
    Each service has a rule of its own instead of kube-proxy's ipsets."""

    def __init__(self, node: Node) -> None:
        self._node = node
        run = node.instance.run
        run(["ipvsadm", "-Ln"])  # the sysctls appear with the module
        run(["sysctl", "-qw", *SETTINGS])
        run(["ip", "link", "add", "kube-ipvs0", "type", "dummy"])
        run(["ip", "address", "add", f"{CLUSTER_IP}/32", "dev", "kube-ipvs0"])
        run(["iptables", "-w", "-t", "nat", "-I", "POSTROUTING", "-m", "mark", "--mark", "0x4000/0x4000", "-j", "MASQUERADE",
             "--random-fully"])
        # A packet of the node itself has the service's address as its source, because that address is local.
        run(["iptables", "-w", "-t", "nat", "-I", "OUTPUT", "-s", CLUSTER_IP, "-d", CLUSTER_IP, "-j", "MARK", "--or-mark", "0x4000"])

    def lead(self, address: str, port: int, pod: Pod) -> None:
        """Forwards TCP and UDP of an address and port to a pod, in the mode that IPVS calls masquerading."""
        for option in ("-t", "-u"):
            self._node.instance.run(["ipvsadm", "-A", option, f"{address}:{port}", "-s", "rr"])
            self._node.instance.run(["ipvsadm", "-a", option, f"{address}:{port}", "-r", f"{pod.address}:{port}", "-m"])


@pytest.fixture
def nodes(make_node: Callable[..., Node]) -> Iterator[tuple[Node, Node]]:
    """t3.small: three ENIs for three pods each."""
    here, there = make_node("here", type="t3.small", subnet="a"), make_node("there", type="t3.small", subnet="b")
    here.agent.start()
    here.add_pods(5)
    yield here, there


def test_services_by_ipvs(vpc: Simulator, nodes: tuple[Node, Node]) -> None:
    """From a pod, from the node and, by a NodePort, from another instance: checks the address that the pod sees, and that
    every packet leaves by the ENI that owns its source."""
    here, there = nodes
    own, client = here.instance.address, there.instance.address
    on = {index: [pod for pod in here.pods if device_index(here, pod) == index] for index in (0, 1)}
    second = next(eni["addresses"][0] for eni in here.enis() if eni["index"] == 1)
    proxy = Proxy(here)
    flows: list[Flow] = []

    def add(name: str, source: Pod | Node, address: str, target: Pod, peer: str, legs: list[tuple[str, int, str, str]]) -> None:
        port = SERVICE_PORTS[0] + len(flows)
        proxy.lead(address, port, target)
        flows.append(Flow(name, Place.of(source), address, peer, frozenset(legs), is_service=True, port=port))

    for index, pods in on.items():
        pod, kind = pods[0], "the primary ENI" if index == 0 else "a secondary ENI"
        for source in (on[0][-1], on[1][-1]):
            add(f"pod to a service with a pod on {kind}", source, CLUSTER_IP, pod, source.address, [])
        add(f"node to a service with a pod on {kind}", here, CLUSTER_IP, pod, own, [])
        add(f"NodePort with a pod on {kind}", there, own, pod, client, [("there", 0, client, own), ("here", 0, own, client)])
        add(f"NodePort of a secondary ENI with a pod on {kind}", there, second, pod, client,
            [("there", 0, client, second), ("here", 1, second, client)])

    traffic = Traffic(vpc)
    with traffic.servers([Place.of(on[0][0]), Place.of(on[1][0])]), traffic.observer():
        vpc.drops(reset=True)
        wrong = traffic.run(flows)
    assert not wrong, "\n".join(wrong)
    assert vpc.drops()["total"] == 0, vpc.drops()
