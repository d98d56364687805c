"""Interoperation with amazon-vpc-cni-k8s: its plugin with our agent, our plugin with its agent, and its checkpoint.

Every upgrade and every rollback goes through each of these. Pods of amazon-vpc-cni-k8s have their host route in table
main and two policy rules of their own (512 to the pod, 1536 from it); our pods only have a route in one table.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from harness import paths
from harness.node import Node
from harness.pod import PluginFailure, Pod
from harness.reference import ReferenceAgent, ReferencePod
from harness.waiting import wait_for
from simulator.client import Simulator
from simulator.fabric import INTERNET_ADDRESS as INTERNET


def reference_pod(node: Node, name: str) -> ReferencePod:
    pod = ReferencePod(node.instance, name).create_namespace()
    node.pods.append(pod)
    return pod


def own_rules(node: Node, address: str) -> list[dict[str, Any]]:
    """The policy rules of one pod."""
    return [rule for rule in node.rules() if address in (rule.get("src"), rule.get("dst"))]


def routes(node: Node, address: str) -> list[dict[str, Any]]:
    return [route for route in node.ip("route", "show", "table", "all") if route["dst"] == address]


def nothing_left(node: Node, address: str, veth: str) -> bool:
    return not own_rules(node, address) and not routes(node, address) and veth not in node.pod_veths()


@pytest.fixture
def node(make_node: Callable[..., Node]) -> Node:
    node = make_node("mixed", type="m5.large", subnet="a", environment={"IP_COOLDOWN_PERIOD": "0"})
    node.agent.start()
    return node


@pytest.fixture
def peer(make_node: Callable[..., Node]) -> Node:
    node = make_node("far", type="m5.large", subnet="b")
    node.agent.start()
    return node


# MARK: the plugin of amazon-vpc-cni-k8s and our agent


def test_reference_plugin_with_our_agent(vpc: Simulator, node: Node, peer: Node) -> None:
    """Pods wired by that plugin talk, on both ENIs, beside pods that our plugin wires."""
    far = peer.pod("far").add()
    mine = [reference_pod(node, f"theirs-{number}").add_as_reference() for number in range(11)]
    ours = node.pod("ours").add()
    tables = {pod.result["interfaces"][1]["mac"] for pod in mine if pod.result}
    assert tables == {"254", "2"}, "pods should stand on two ENIs"
    vpc.drops(reset=True)
    for pod in (mine[0], mine[-1]):
        for address in (far.address, ours.address, INTERNET, node.instance.address, mine[4].address):
            assert pod.ping(address), f"{pod.name} to {address}"
        assert far.ping(pod.address) and ours.ping(pod.address)
    assert vpc.drops()["total"] == 0, vpc.drops()

    # Our plugin does the DEL, with the result that the other plugin has left with the runtime.
    for pod in mine[:6]:
        address, veth = pod.address, pod.host_veth
        pod.delete()
        wait_for(lambda: nothing_left(node, address, veth), f"nothing of {pod.name}")
    for pod in mine[6:]:
        address, veth = pod.address, pod.host_veth
        reply = pod.delete_as_reference()
        assert reply["Success"] is True and reply["IPAllocationMetadata"][0]["IPv4Addr"] == address
        wait_for(lambda: nothing_left(node, address, veth), f"nothing of {pod.name}")
        assert pod.delete_as_reference() == {"code": "UNKNOWN", "details": "datastore: unknown pod"}
    assert {entry["ipv4"] for entry in node.checkpoint()} == {ours.address}
    ours.check()


def test_version_of_the_client(node: Node) -> None:
    pod = reference_pod(node, "versioned")
    for method in ("AddNetwork", "DelNetwork"):
        answer = pod.rpc(method, ClientVersion="v1.23.1")
        assert answer == {"code": "FAILED_PRECONDITION", "details": 'wrong client version "v1.23.1" (!= "")'}
    assert pod.rpc("AddNetwork", ContainerID="")["Success"] is False


def test_empty_pool_is_no_error(make_node: Callable[..., Node]) -> None:
    node = make_node("small", type="t3.nano", subnet="b")
    node.agent.start()
    for number in range(2):
        reference_pod(node, f"fits-{number}").add_as_reference()
    reply = reference_pod(node, "too-many").rpc("AddNetwork")
    assert reply["Success"] is False and reply["IPAllocationMetadata"] == [], reply


def test_our_add_and_their_del(node: Node) -> None:
    pods = [ReferencePod(node.instance, f"back-{number}").create_namespace() for number in range(11)]
    node.pods += pods
    for pod in pods:
        pod.add()
        address, veth = pod.address, pod.host_veth
        if pod is pods[0] or pod is pods[-1]:
            assert pod.ping(INTERNET)
    for pod in pods:
        address, veth = pod.address, pod.host_veth
        assert pod.delete_as_reference()["Success"] is True
        pod.remove_namespace()
        wait_for(lambda: nothing_left(node, address, veth), f"nothing of {pod.name}")
    node.pods = []
    node.wait_clean()


# MARK: our plugin and the agent of amazon-vpc-cni-k8s


@pytest.fixture
def theirs(make_node: Callable[..., Node]) -> Any:
    """A node set up by the agent of amazon-vpc-cni-k8s: two addresses of a second ENI and one of the primary."""
    node = make_node("theirs", type="m5.large", subnet="a")
    node.agent.start()
    fill = node.add_pods(10)
    wait_for(lambda: len(node.enis()) >= 2, "a second ENI")
    node.delete_pods(fill)
    node.wait_clean()
    node.agent.stop()
    # Such a node does not have the rules that route our own pods' packets.
    node.instance.run(["nft", "flush", "ruleset"])
    node.instance.run(["ip", "rule", "del", "priority", "512"], check=False)
    while node.instance.run(["ip", "rule", "del", "priority", "1536"], check=False).returncode == 0:
        pass
    by_index = {eni["index"]: [a for a in eni["addresses"] if a != eni["primary"]] for eni in node.enis()}
    addresses = [{"ip": ip, "device": 1, "table": 2} for ip in by_index[1][:2]]
    addresses.append({"ip": by_index[0][0], "device": 0, "table": 254})
    agent = ReferenceAgent(node.instance, addresses)
    yield node, agent
    agent.stop()


def test_our_plugin_with_the_reference_agent(vpc: Simulator, theirs: Any, peer: Node) -> None:
    node, _ = theirs
    far = peer.pod("far").add()
    second, third, first = (node.pod(name).add() for name in ("second", "third", "first"))
    with pytest.raises(PluginFailure) as failure:
        node.pod("none-left").add()
    assert failure.value.error["msg"] == "add cmd: failed to assign an IP address to container"
    for pod, table in ((second, "2"), (third, "2"), (first, "254")):
        assert [route.get("table", "main") for route in routes(node, pod.address)] == ["main"]
        rules = {(rule["priority"], rule["table"]) for rule in own_rules(node, pod.address)}
        assert rules == ({(512, "main"), (1536, "2")} if table == "2" else {(512, "main")})
        assert pod.result["interfaces"][1]["mac"] == table
        assert pod.result["interfaces"][2]["sandbox"] == ("1" if table == "2" else "0")
        pod.check()
    vpc.drops(reset=True)
    assert second.ping(far.address) and far.ping(second.address)
    assert second.ping(third.address) and first.ping(second.address) and first.ping(far.address)
    assert vpc.drops()["total"] == 0, vpc.drops()
    for pod in (second, first):
        address, veth = pod.address, pod.host_veth
        pod.delete()
        assert not own_rules(node, address) and not routes(node, address)
        pod.remove_namespace()
        wait_for(lambda: nothing_left(node, address, veth), "the veth goes with the namespace")
        pod.delete()
    third.check()


def test_our_plugin_after_the_reference_agent_went(theirs: Any) -> None:
    node, agent = theirs
    pods = [node.pod(f"orphan-{number}").add() for number in range(3)]
    agent.stop()
    for pod in pods:
        pod.delete()
        assert nothing_left(node, pod.address, pod.host_veth)
        pod.delete()


# MARK: the checkpoint of amazon-vpc-cni-k8s


def test_checkpoint_of_the_reference(vpc: Simulator, node: Node) -> None:
    """Live pods are kept and reachable; a pod that ended while no agent ran is cleaned up, with its rules."""
    pods = [reference_pod(node, f"old-{number}").add_as_reference() for number in range(11)]
    migrated, ended = pods[0], pods[-1]
    assert ended.result and ended.result["interfaces"][1]["mac"] == "2"
    node.agent.kill()
    entries = []
    for pod in pods:
        entry: dict[str, Any] = {
            "networkName": "aws-cni", "containerID": pod.container, "ifName": "eth0", "ipv4": pod.address,
            "allocationTimestamp": 1700000000000000000,
            "metadata": {"k8sPodNamespace": pod.namespace, "k8sPodName": pod.name}}
        if pod is migrated:  # taken over from the container runtime by a very old release
            entry |= {"networkName": "_migrated-from-cri", "ifName": "unknown", "metadata": {"interfacesCount": 0}}
        entries.append(entry)
    stale = {**entries[1], "containerID": "stale", "ipv4": "10.255.255.1", "metadata": {}}
    document = {"version": "vpc-cni-ipam/1", "allocations": [*entries, stale]}
    node.instance.run(["sh", "-c", f"cat > {paths.CHECKPOINT}"], input=json.dumps(document))
    address, veth = ended.address, ended.host_veth
    ended.remove_namespace()
    wait_for(lambda: veth not in node.pod_veths(), "its veth went with the namespace")
    node.agent.start()

    living = pods[:-1]
    assert {pod.address for pod in living} <= {entry["ipv4"] for entry in node.checkpoint()}
    wait_for(lambda: address not in {entry["ipv4"] for entry in node.checkpoint()}, "its address is taken back")
    wait_for(lambda: nothing_left(node, address, veth), "nothing of the pod that ended")
    vpc.drops(reset=True)
    for pod in living:
        assert pod.ping(INTERNET) and pod.ping(node.instance.address)
    fresh = node.pod("fresh").add()
    assert fresh.address not in {pod.address for pod in living}
    assert fresh.ping(living[1].address) and living[-1].ping(fresh.address)
    assert vpc.drops()["total"] == 0, vpc.drops()
    for pod in living:
        address, veth = pod.address, pod.host_veth
        pod.delete()
        wait_for(lambda: nothing_left(node, address, veth), f"nothing of {pod.name}")
    held = {entry["ipv4"] for entry in node.checkpoint()}
    assert held - {"10.255.255.1"} == {fresh.address}
