"""A secondary ENI's primary address, which no pod has: packets that the node sends from it and the answers to it use that
ENI. While an ENI's link is down, its packets use no other ENI."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness import firewall, kube_proxy
from harness.node import Node
from harness.traffic import device_index
from harness.waiting import wait_for
from simulator.client import Simulator
from simulator.fabric import INTERNET_ADDRESS as INTERNET

SIMULATOR = {"nat_gateway": True}


def own_address(node: Node, index: int) -> str:
    """The primary address of the ENI with this device index."""
    return next(eni["addresses"][0] for eni in node.enis() if eni["index"] == index)


@pytest.mark.parametrize("form", ["nft", "legacy", "without-iptables"])
def test_the_node_sends_from_an_enis_own_address(vpc: Simulator, make_node: Callable[..., Node], form: str) -> None:
    """The outside sees the address to which a program binds. If SNAT changed it to the primary ENI's address, the packets
    would leave by an ENI that does not own their source."""
    node = make_node(type="t3.small")
    firewall.hide_iptables(node) if form == "without-iptables" else kube_proxy.hint(node, form)
    node.agent.start()
    node.add_pods(5)
    vpc.drops(reset=True)
    ask = ["curl", "-sS", "-m", "5", f"http://{INTERNET}/ip"]
    for address in (own_address(node, 1), node.instance.address):
        assert node.instance.run([*ask, "--interface", address], check=False).stdout.strip() == address
    for pod in node.pods:
        assert pod.exec(ask, check=False).stdout.strip() == node.instance.address, "pods are translated as before"
    assert vpc.drops()["total"] == 0, vpc.drops()


@pytest.mark.parametrize("scheme", ["constant", "per-pod"])
def test_nothing_goes_by_another_eni_while_a_link_is_down(vpc: Simulator, make_node: Callable[..., Node], scheme: str) -> None:
    """Without a route of its own, the ENI's table would be skipped, and the packets would leave by the primary ENI: the
    VPC would drop them, and the pod would wait. Instead the pod gets "unreachable" until the link is up again."""
    node = make_node(type="t3.small", environment={"VPC_CNI_POD_RULES": scheme})
    other = make_node("n2", type="t3.small")
    node.agent.start()
    node.add_pods(5)
    pod = next(pod for pod in node.pods if device_index(node, pod) == 1)
    assert pod.ping(other.instance.address)
    node.agent.kill()  # or it would set the link up at once
    node.instance.run(["ip", "link", "set", "ens6", "down"])
    vpc.drops(reset=True)
    told = pod.exec(["ping", "-n", "-c", "1", "-W", "2", other.instance.address], check=False).stdout
    assert "Unreachable" in told, told
    assert vpc.drops()["total"] == 0, vpc.drops()
    node.agent.start()
    wait_for(lambda: pod.ping(other.instance.address), "the way is back", 10)


def test_an_address_finds_its_new_eni(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    """An ENI goes while no agent runs, and another ENI gets its address: leftovers of the first do not get in the way."""
    node = make_node(type="t3.small")
    node.agent.start()
    node.add_pods(5)
    node.delete_pods()
    node.agent.stop()
    ec2 = vpc.ec2()
    gone = next(eni for eni in node.enis() if eni["index"] == 1)
    attachment = ec2.describe_network_interfaces(NetworkInterfaceIds=[gone["eni"]])["NetworkInterfaces"][0]["Attachment"]["AttachmentId"]
    ec2.detach_network_interface(AttachmentId=attachment)
    wait_for(lambda: not node.ip("link", "show", "ens6"), "the link gone")
    assert [rule for rule in node.rules() if rule["priority"] == 32765], "what the ENI left"
    node.agent.start()
    left = [rule for rule in node.rules() if rule["priority"] == 32765 and rule["src"] == gone["addresses"][0]]
    assert not left, left
