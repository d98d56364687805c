"""A changed setting costs no running pod its network and breaks no open connection."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness import firewall, kube_proxy
from harness.held_connection import HeldConnection
from harness.node import Node
from harness.pod import Pod
from harness.traffic import device_index
from harness.waiting import wait_for
from simulator.client import Simulator
from simulator.fabric import INTERNET_ADDRESS as INTERNET

SIMULATOR = {"nat_gateway": True}


def restart(node: Node, **changes: str) -> None:
    """Restarts the agent with these settings in addition to those it was made with."""
    node.agent.stop()
    node.agent.environment = {**node.agent.environment, **changes}
    node.agent.start()


def on_each_eni(node: Node) -> list[Pod]:
    return [next(pod for pod in node.pods if device_index(node, pod) == index) for index in (0, 1)]


def marks(node: Node) -> list[str]:
    return [rule["fwmark"] for rule in node.rules() if rule["priority"] == 1024]


def seen_as(pod: Pod) -> str:
    """The address that the outside sees for a new connection of the pod."""
    return pod.exec(["curl", "-sS", "-m", "5", f"http://{INTERNET}/ip"], check=False).stdout.strip()


@pytest.mark.parametrize("form", ["nft", "legacy", "without-iptables"])
def test_open_connections_outlive_changed_settings(vpc: Simulator, make_node: Callable[..., Node], form: str) -> None:
    """Translated connections survive when SNAT is turned off and NodePorts are no longer served, and when the mark
    changes; the rules that they need disappear when the last of them has ended."""
    node = make_node(type="t3.small", fast_clock=True)
    firewall.hide_iptables(node) if form == "without-iptables" else kube_proxy.hint(node, form)
    node.agent.start()
    node.add_pods(5)  # a t3.small's primary ENI holds three pods
    pods = on_each_eni(node)
    firewall.forget_quickly(node)
    vpc.drops(reset=True)
    held = [HeldConnection(pod, INTERNET) for pod in pods]
    try:
        assert [each.seen_as for each in held] == [node.instance.address] * 2
        restart(node, AWS_VPC_K8S_CNI_EXTERNALSNAT="true", AWS_VPC_CNI_NODE_PORT_SUPPORT="false")
        assert all(each.answers() for each in held), "no SNAT, no NodePorts"
        assert [seen_as(pod) for pod in pods] == [pod.address for pod in pods], "new connections go by the new settings"
        restart(node, AWS_VPC_K8S_CNI_EXTERNALSNAT="false", AWS_VPC_CNI_NODE_PORT_SUPPORT="true", AWS_VPC_K8S_CNI_CONNMARK="0x300")
        assert all(each.answers() for each in held), "another mark"
        held += [HeldConnection(pod, INTERNET) for pod in pods]
        restart(node, AWS_VPC_K8S_CNI_CONNMARK="0x80")
        assert all(each.answers() for each in held), "the first mark again"
        assert marks(node) == ["0x80", "0x300"], "each has its rule"
        assert vpc.drops()["total"] == 0, vpc.drops()
        said = firewall.lines(node, "connections with a connmark of earlier settings may be open")
        assert [line["marks"] for line in said] == ["[0x80/0x80]", "[0x80/0x80]", "[0x300/0x300]"], said
    finally:
        for each in held:
            each.close()
    with node.hurry():
        wait_for(lambda: marks(node) == ["0x80"], "nothing of the other mark is kept", 90)
        wait_for(lambda: not any("0x300" in line or "0x00000300" in line for line in shown(node)), "no rule of the firewall either", 20)
    assert "another program" not in node.agent.log(), "what the agent lets go of is no repair"
    assert [seen_as(pod) for pod in pods] == [node.instance.address] * 2


@pytest.mark.parametrize("scheme", ["constant", "per-pod"])
@pytest.mark.parametrize("form", ["nft", "legacy", "without-iptables"])
def test_pods_keep_their_network_under_another_veth_prefix(vpc: Simulator, make_node: Callable[..., Node], form: str,
                                                          scheme: str) -> None:
    """AWS_VPC_K8S_CNI_VETHPREFIX changes while pods run: pods with the old prefix are routed, translated and repaired
    like those with the new prefix, and so is a pod that a plugin with a third prefix connects; what is kept for a prefix
    goes with its last pod."""
    node = make_node(type="t3.small", fast_clock=True, environment={"VPC_CNI_POD_RULES": scheme})
    firewall.hide_iptables(node) if form == "without-iptables" else kube_proxy.hint(node, form)
    node.agent.start()
    node.add_pods(5)
    old = on_each_eni(node)
    vpc.drops(reset=True)
    held = [HeldConnection(pod, INTERNET) for pod in old]
    try:
        restart(node, AWS_VPC_K8S_CNI_VETHPREFIX="pod")
        assert all(each.answers() for each in held)
    finally:
        for each in held:
            each.close()
    assert [seen_as(pod) for pod in old] == [node.instance.address] * 2
    assert firewall.lines(node, "pods with a different veth prefix")[-1]["others"] == '["eni"]'
    assert vpc.drops()["total"] == 0, vpc.drops()
    third = node.pod("third", options={"vethPrefix": "abc"}).add()
    new = node.pod("new", options={"vethPrefix": "pod"}).add()
    assert (third.host_veth[:3], new.host_veth[:3]) == ("abc", "pod")
    assert device_index(node, third) > 0 and device_index(node, new) > 0, "where a packet without a mark is lost"
    wait_for(lambda: seen_as(third) == node.instance.address, "a pod with a third prefix is taken in", 10)
    # Packets sent before the agent knew the pod's prefix may have left by the wrong ENI.
    vpc.drops(reset=True)
    assert seen_as(new) == node.instance.address
    assert third.ping(old[1].address) and new.ping(third.address) and old[0].ping(new.address)
    # The repair covers a pod of the old prefix too.
    table = ["table", "20512"] if scheme == "constant" else []
    node.instance.run(["ip", "route", "del", old[1].address, *table])
    wait_for(lambda: seen_as(old[1]) == node.instance.address, "its route is put back", 10)
    node.delete_pods([pod for pod in node.pods if pod not in (third, new)])
    with node.hurry():
        wait_for(lambda: not [line for line in shown(node) if "eni+" in line or '"eni*"' in line], "nothing for the old prefix", 30)
    assert any("abc" in line for line in shown(node)) and seen_as(third) == seen_as(new) == node.instance.address
    assert vpc.drops()["total"] == 0, vpc.drops()


def shown(node: Node) -> list[str]:
    """All rules of all firewalls."""
    saved = "".join(node.instance.run([f"iptables-{backend}-save"], check=False).stdout for backend in ("nft", "legacy"))
    return saved.splitlines() + node.instance.run(["nft", "list", "ruleset"]).stdout.splitlines()
