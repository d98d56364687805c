"""The agent's EC2 calls, counted at EC2: at its start, when it grows, when it shrinks, and while nothing happens.

An hour of idling takes half a minute: the agent's clock runs faster (programs/fast_clock.c scales its monotonic clocks
and its timers; the calendar and EC2 keep real time).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.node import Node
from harness.state import assert_talk, wait_sound
from harness.waiting import wait_for
from simulator.client import Simulator

GROWTH = {"CreateNetworkInterface", "AttachNetworkInterface", "ModifyNetworkInterfaceAttribute"}
# Called once and then at long intervals, for leaked ENIs and subnets. Their number does not grow with the node's activity.
BACKGROUND = {"DescribeSubnets", "DescribeSecurityGroups"}


@pytest.fixture
def quiet_node(vpc: Simulator, make_node: Callable[..., Node]) -> Callable[..., Node]:
    """A node whose agent runs and is idle; calls are counted from then on."""

    def make(name: str, enis: int = 1, **environment: str) -> Node:
        # A call's limit of 600 s is in the agent's time: five real seconds at 120 times the speed.
        node = make_node(name, type="m5.xlarge", subnet="a", fast_clock=True,
                         environment={"IP_COOLDOWN_PERIOD": "1", "VPC_CNI_ADD_TIMEOUT": "60", "HTTP_TIMEOUT": "600", **environment})
        node.agent.start()
        node.wait_quiet()
        if enis > 1:  # an ENI holds 14 addresses, and as many are kept warm
            node.add_pods((enis - 2) * 14 + 1, prefix="fill")
            wait_for(lambda: len(node.enis()) == enis, f"{enis} ENIs")
            node.wait_quiet()
        vpc.counts(reset=True)
        return node

    return make


def acts(node: Node) -> dict[str, int]:
    return {action: count for action, count in node.calls().items() if action not in BACKGROUND}


@pytest.mark.parametrize("enis", [1, 3])
def test_start(vpc: Simulator, quiet_node: Callable[..., Node], enis: int) -> None:
    """One listing, however many ENIs there are; one call asks for everything that a new node lacks."""
    node = quiet_node(f"boot{enis}", enis)
    node.agent.stop()
    vpc.counts(reset=True)
    node.agent.start()
    node.wait_quiet()
    assert len(node.enis()) == enis
    assert acts(node) == {"DescribeNetworkInterfaces": 1}, node.calls()
    assert sum(node.calls().values()) <= 3, node.calls()


def test_first_start(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    node = make_node("new", type="m5.xlarge", subnet="a")
    vpc.counts(reset=True)
    node.agent.start()
    node.wait_quiet()
    # Others create the primary ENI, without the node's tags.
    assert acts(node) == {"DescribeNetworkInterfaces": 1, "AssignPrivateIpAddresses": 1, "CreateTags": 1}, node.calls()
    assert sum(node.calls().values()) <= 4, node.calls()


def test_one_more_eni(quiet_node: Callable[..., Node]) -> None:
    """Three calls, and no Describe call among them."""
    node = quiet_node("more")
    node.add_pods(1)
    wait_for(lambda: len(node.enis()) == 2, "a warm ENI", 20)
    node.wait_quiet()
    assert acts(node) == dict.fromkeys(GROWTH, 1), node.calls()
    assert sum(node.calls().values()) <= 4, node.calls()


def test_thirty_pods_at_once(vpc: Simulator, quiet_node: Callable[..., Node]) -> None:
    """An m5.xlarge's ENI holds 14 pods: 30 and one warm ENI fill its four ENIs. Three are new and take three calls each."""
    node = quiet_node("burst")
    pods = node.add_pods(30, at_once=30)
    wait_for(lambda: len(node.enis()) == 4, "a warm ENI")
    node.wait_quiet()
    assert acts(node) == dict.fromkeys(GROWTH, 3), node.calls()
    wait_sound(node, pods)
    assert_talk(vpc, pods[::6])


def test_thirty_pods_at_once_on_an_empty_pool(vpc: Simulator, quiet_node: Callable[..., Node]) -> None:
    """The pool has one warm address, and EC2 takes a second for each call: requests that wait meanwhile go out together.

    31 addresses need the filled primary ENI and two more ENIs: at least seven calls.
    """
    node = quiet_node("thirty", WARM_IP_TARGET="1", MINIMUM_IP_TARGET="1")
    assert node.shape() == [(1, 0)]
    for action in ("AssignPrivateIpAddresses", "CreateNetworkInterface"):
        vpc.latency(action, 1.0)
    try:
        pods = node.add_pods(30, at_once=30)
        node.wait_quiet(still_for=3)
    finally:
        for action in ("AssignPrivateIpAddresses", "CreateNetworkInterface"):
            vpc.latency(action, 0)
    calls = acts(node)
    print(calls, node.shape())
    assert len(node.enis()) == 3 and sum(count for count, _ in node.shape()) == 31, node.shape()
    assert set(calls) == GROWTH | {"AssignPrivateIpAddresses"} and sum(calls.values()) <= 12, calls
    wait_sound(node, pods)


def test_shrink(vpc: Simulator, quiet_node: Callable[..., Node]) -> None:
    """Addresses are unassigned in one call per ENI and round, and two rounds are enough for all that became idle
    together; an ENI takes two calls."""
    node = quiet_node("less", WARM_IP_TARGET="2", MINIMUM_IP_TARGET="2")
    pods = node.add_pods(20)
    node.wait_quiet()
    assert [count for count, _ in node.shape()] == [14, 8]
    second = {address for eni in node.enis() if eni["index"] for address in eni["addresses"]}
    keep = [pod for pod in pods if pod.address in second][:1]
    vpc.counts(reset=True)
    node.delete_pods([pod for pod in pods if pod not in keep])
    with node.hurry():
        wait_for(lambda: sum(count for count, _ in node.shape()) == 3, "1 used and 2 warm addresses", 60)
        node.wait_quiet()
    assert set(acts(node)) == {"UnassignPrivateIpAddresses"} and sum(acts(node).values()) <= 4, node.calls()
    wait_sound(node, keep)

    vpc.counts(reset=True)
    node.delete_pods()
    with node.hurry():
        wait_for(lambda: node.shape() in ([(2, 0)], [(2, 0), (0, 0)]), "2 warm addresses", 60)
        wait_for(lambda: len(node.enis()) == 1, "the second ENI goes", 60)
        node.wait_quiet()
    calls = acts(node)
    assert calls.pop("DetachNetworkInterface") == 1 and calls.pop("DeleteNetworkInterface") == 1
    assert sum(calls.values()) <= 3, f"addresses moved by {calls}"
    wait_sound(node, [])


def test_an_hour_of_idling(vpc: Simulator, quiet_node: Callable[..., Node]) -> None:
    """At most two calls in an hour of the agent's time, with one ENI and with three."""
    nodes = [quiet_node(f"idle{enis}", enis) for enis in (1, 3)]
    for node in nodes:
        wait_sound(node, node.pods)
    vpc.counts(reset=True)
    clocks = [node.agent.clock for node in nodes if node.agent.clock]
    began = [clock.elapsed() for clock in clocks]
    with nodes[0].hurry(120), nodes[1].hurry(120):
        wait_for(lambda: all(clock.elapsed() - since >= 3600 for clock, since in zip(clocks, began)), "an hour", 120, pause=0.25)
    for node in nodes:
        assert sum(node.calls().values()) <= 2, node.calls()
        wait_sound(node, node.pods)
