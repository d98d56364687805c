"""The main job: pods get VPC addresses and every flow of an IPv4 node passes. The VPC's source check is the judge."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.node import Node
from harness.pod import Pod
from harness.waiting import wait_for
from simulator.client import Simulator
from simulator.fabric import INTERNET_ADDRESS as INTERNET


@pytest.fixture
def two_nodes(make_node: Callable[..., Node]) -> tuple[Node, Node]:
    """m5.large: nine pod addresses per ENI, so twelve pods need a second one."""
    nodes = (make_node("flow-a", type="m5.large", subnet="a"), make_node("flow-b", type="m5.large", subnet="b"))
    for node in nodes:
        node.agent.start()
    return nodes


def eni_of(node: Node, pod: Pod) -> int:
    """The device index of the ENI that EC2 says holds the pod's address."""
    return next(eni["index"] for eni in node.enis() if pod.address in eni["addresses"])


def test_every_flow_passes(vpc: Simulator, two_nodes: tuple[Node, Node]) -> None:
    here, there = two_nodes
    for node in two_nodes:
        node.add_pods(12)
    vpc.drops(reset=True)

    by_eni = {eni_of(here, pod): pod for pod in here.pods}
    assert set(by_eni) == {0, 1}, "pods of this node should stand on two ENIs"
    primary, secondary = by_eni[0], by_eni[1]
    neighbour = next(pod for pod in here.pods if pod not in (primary, secondary))

    for pod in (primary, secondary):
        assert pod.ping(neighbour.address), "pod to pod on one node"
        assert pod.ping(INTERNET), "pod to the internet and back"
        assert pod.ping(here.instance.address), "pod to its node"
        assert pod.ping(there.instance.address), "pod to the other node's primary address"
        assert here.instance.run(["ping", "-c1", "-w2", pod.address], check=False).returncode == 0, "node to its pod"
        for other in there.pods:
            assert pod.ping(other.address), f"pod to a pod of the other node, {other.name}"
        assert pod.ping(there.pods[0].address, size=8000), "large packets"
    assert primary.ping(secondary.address) and secondary.ping(primary.address), "across ENIs of one node"
    assert vpc.drops()["total"] == 0, vpc.drops()


def test_internet_sees_the_primary_address(vpc: Simulator, two_nodes: tuple[Node, Node]) -> None:
    here = two_nodes[0]
    here.add_pods(12)
    vpc.internet(reset=True)
    for pod in here.pods:
        assert pod.ping(INTERNET)
    assert set(vpc.internet()["sources"]) == {here.instance.address}


def test_rules_do_not_grow_with_pods(two_nodes: tuple[Node, Node]) -> None:
    here = two_nodes[0]
    here.add_pods(12, prefix="few")
    # The warm third ENI, the last that an m5.large can have, arrives a second later with rules of its own.
    wait_for(lambda: len(here.agent_rules()) == 2, "all three ENIs wired", 20)
    before = here.rules()
    here.add_pods(6, prefix="more")
    assert len(here.pod_routes()) == 18
    assert here.rules() == before
    assert [rule["priority"] for rule in before].count(512) == 1


def test_result_keeps_the_contracts_peculiarities(two_nodes: tuple[Node, Node]) -> None:
    here = two_nodes[0]
    here.add_pods(12)
    secondary = next(pod for pod in here.pods if eni_of(here, pod) == 1)
    host, container, dummy = secondary.result["interfaces"]
    assert host["name"].startswith("eni") and len(host["name"]) == 14 and "mac" not in host
    assert container == {"name": "eth0", "mac": "2", "sandbox": secondary.netns}, "the route table stands in mac"
    assert dummy["name"] == "dummy" + host["name"][3:] and dummy["mac"] == "0" and dummy["sandbox"] == "1"
    ip = secondary.result["ips"][0]
    assert ip == {"version": "4", "address": f"{secondary.address}/32", "interface": 1}
    secondary.check()


def test_all_is_gone_after_delete(two_nodes: tuple[Node, Node]) -> None:
    here = two_nodes[0]
    here.add_pods(12)
    here.delete_pods()
    here.wait_clean()
    assert here.agent.stop() == 0
