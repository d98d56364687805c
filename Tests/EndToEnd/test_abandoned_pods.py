"""Pods that end without a DEL: their addresses become free again, and no running pod loses its address."""

from __future__ import annotations

from collections.abc import Callable

from harness import firewall
from harness.node import Node
from harness.pod import Pod
from harness.waiting import wait_for
from simulator.client import Simulator
from simulator.fabric import INTERNET_ADDRESS as INTERNET

FREED = "pod is gone without a DEL"


def holders(node: Node) -> set[str]:
    """Containers that hold an address."""
    return {entry["containerID"] for entry in node.checkpoint()}


def test_pods_without_a_del_give_their_addresses_back(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    """The plugin after ours in the list fails its DEL, which runs first, and the runtime gives up. The
    namespaces go, the kernel deletes the interfaces with them, and pods that no longer exist hold all addresses."""
    node = make_node(type="t3.small", fast_clock=True)
    node.agent.start()
    gone = node.add_pods(7)  # together with the two other pods, as many as a t3.small can have
    alive, hidden = node.add_pods(2, prefix="alive")
    # Somebody renamed a running pod's interface: its route still shows that the pod is alive.
    node.instance.run(["ip", "link", "set", hidden.host_veth, "name", "mine0"])
    for pod in gone:
        pod.remove_namespace()
    wait_for(lambda: len(node.pod_veths()) == 1, "the interfaces gone with their pods")
    began = node.agent.clock.elapsed()
    with node.hurry(20):
        wait_for(lambda: holders(node) == {alive.container, hidden.container}, "their addresses free", 60)
        assert node.agent.clock.elapsed() - began > 40, "one look is not enough"
    lines = firewall.lines(node, FREED)
    assert {line["container"] for line in lines} == {pod.container for pod in gone} and {line["level"] for line in lines} == {"warn"}
    assert firewall.series(node, "awscni_reclaimed_ip_addresses_count") == {"": 7}
    with node.hurry(20):
        rested = node.agent.clock.elapsed() + 35
        wait_for(lambda: node.agent.clock.elapsed() > rested, "the addresses' rest", 20)
        again = [Pod(node.instance, pod.name).create_namespace().add() for pod in gone]  # the same pods in new sandboxes
    assert len({pod.address for pod in [*again, alive, hidden]}) == 9, "no address twice"
    for pod in again:
        assert pod.ping(alive.address)
    assert alive.ping(INTERNET) and hidden.ping(alive.address)
    gone[0].delete()  # the late DEL, for an entry that is long gone
    assert again[0].ping(alive.address), "the late DEL is the old sandbox's"
    node.delete_pods([alive, hidden])
    for pod in again:
        pod.delete()
        pod.remove_namespace()
    node.instance.run(["ip", "link", "del", "mine0"], check=False)
    node.pods = []
    node.wait_clean()
    assert len(firewall.lines(node, FREED)) == 7


def test_an_earlier_sandbox_without_a_del_gives_its_address_back(make_node: Callable[..., Node]) -> None:
    """Both sandboxes use the same interface name, so no route leads to the address of the first."""
    node = make_node(type="t3.small", fast_clock=True)
    node.agent.start()
    first = node.pod("web").add()
    first.remove_namespace()
    second = node.pod("web").add()
    other = node.pod("other").add()
    with node.hurry(20):
        wait_for(lambda: holders(node) == {second.container, other.container}, "the first one's address free", 60)
    assert second.ping(other.address), "the second one's interface is not touched"
