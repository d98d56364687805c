"""The features that depend most on the kernel, fast enough for an emulated processor: `make vm-test` runs this test on
other kernels and without some of their modules, and every run of the tests runs it on this kernel."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness import firewall
from harness.node import Node
from harness.pod import Pod
from harness.traffic import device_index
from simulator.client import Simulator
from simulator.fabric import INTERNET_ADDRESS as INTERNET


# The firewalls that must hold the agent's rules if the kernel refuses to load a module.
WITHOUT = {"nf_tables": {"legacy"}, "nft_compat": {"aws-cni", "vpc-cni-host"}, "ip_tables": {"nft", "aws-cni"}, "": {"nft", "aws-cni"}}
# In a VM: the modules that its kernel refuses to load, one after the other. nf_tables is possible only if it was refused
# before the simulator started, which uses it.
REFUSED = os.environ.get("VPC_CNI_REFUSE", "").split(",")
REFUSE = str(Path(__file__).parent.parent / "VM" / "refuse")


@pytest.fixture(params=REFUSED)
def refused(request: pytest.FixtureRequest) -> Iterator[str]:
    """The module that the kernel refuses to load; on a machine that is no VM the empty text, for none."""
    if request.param:
        subprocess.run([REFUSE, request.param], check=True)
    yield request.param
    if request.param:
        subprocess.run([REFUSE], check=True)


def holders(node: Node, refused: str) -> set[str]:
    """Like firewall.holders, also on a kernel that lacks one of the firewalls."""
    if refused != "nf_tables":
        return {backend for backend in ("legacy", "nft") if has_rules(node, backend)} | set(firewall.tables(node))
    return {"legacy"} if has_rules(node, "legacy") else set()


def has_rules(node: Node, backend: str) -> bool:
    return "AWS" in node.instance.run([f"iptables-{backend}-save"], check=False).stdout


@pytest.fixture
def nodes(refused: str, make_node: Callable[..., Node]) -> tuple[Node, Node]:
    """t3.small: three ENIs for three pods each."""
    made = make_node("here", type="t3.small", subnet="a"), make_node("there", type="t3.small", subnet="b")
    for node, pods in zip(made, (5, 4)):
        node.agent.start()
        node.add_pods(pods)
    return made


def on(node: Node, index: int) -> Pod:
    return next(pod for pod in node.pods if device_index(node, pod) == index)


def test_a_node_on_this_kernel(vpc: Simulator, refused: str, nodes: tuple[Node, Node]) -> None:
    """Checks the flows of pods on the primary and a secondary ENI, the place of the rules, and that DEL leaves nothing."""
    here, there = nodes
    vpc.drops(reset=True)
    vpc.internet(reset=True)
    primary, secondary = on(here, 0), on(here, 1)
    for pod in (primary, secondary):
        assert pod.ping(on(there, 0).address) and pod.ping(on(there, 1).address), "pod to a pod of the other node"
        assert pod.ping(there.instance.address), "pod to the other node"
        assert pod.ping(here.instance.address), "pod to its node"
        assert here.instance.run(["ping", "-c1", "-w2", pod.address], check=False).returncode == 0, "node to its pod"
        assert pod.ping(on(there, 1).address, size=8000), "large packets"
        assert pod.ping(INTERNET), "pod to the internet"
    assert primary.ping(secondary.address) and secondary.ping(primary.address), "across the node's ENIs"
    assert set(vpc.internet()["sources"]) == {here.instance.address}, "SNAT to the primary address"
    assert vpc.drops()["total"] == 0, vpc.drops()

    assert holders(here, refused) == WITHOUT[refused]
    in_table = [rule for rule in here.rules() if rule["priority"] == 1536 and rule["src"] == secondary.address]
    assert bool(in_table) == (refused == "nf_tables"), "a rule for each pod only where there is no nf_tables"

    here.delete_pods()
    here.wait_clean()
    assert here.agent.stop() == 0
