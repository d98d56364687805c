"""Growth on demand: pods that wait for it, a pod's event when growth is impossible, and a changed mode."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness.node import Node
from harness.pod import PluginFailure
from harness.state import assert_talk, wait_sound
from harness.waiting import wait_for
from simulator.client import Simulator
from simulator.patience import patient

# Small subnets in zone a that a test can fill; the last one is tagged for pods.
SIMULATOR = {"subnet": ["a=192.168.64.0/19@a", "b=192.168.96.0/19@b", "tiny=192.168.128.0/27@a", "broken=192.168.129.0/25@a"]}
SENTENCE = "add cmd: failed to assign an IP address to container"
# An ADD that cannot succeed is refused long before an ADD that can succeed times out, also on a machine ten times slower.
AT_ONCE = patient(10.0)
WAIT = {"VPC_CNI_ADD_TIMEOUT": "30"}
PREFIXES = {"ENABLE_PREFIX_DELEGATION": "true", "WARM_PREFIX_TARGET": "1"}


@pytest.fixture
def full(vpc: Simulator) -> Iterator[Callable[..., None]]:
    """Someone else takes all addresses of a subnet, or one in every free /28; they are given back at the end."""
    touched: list[str] = []

    def fill(subnet: str, leave: int = 0, fragment: bool = False) -> None:
        touched.append(subnet)
        if fragment:
            vpc.ask("subnet.fragment", subnet=subnet)
        else:
            vpc.ask("subnet.take", subnet=subnet, leave=leave)

    yield fill
    for subnet in touched:
        vpc.ask("subnet.free", subnet=subnet)


@pytest.fixture
def deny(vpc: Simulator) -> Iterator[Callable[[str], None]]:
    yield vpc.deny
    for action in vpc.ask("iam"):
        vpc.allow(action)


def refusal(node: Node, name: str) -> str:
    """The text in the event of a pod that gets no address; the refusal must come at once."""
    pod = node.pod(name)
    began = time.monotonic()
    with pytest.raises(PluginFailure) as failure:
        pod.add()
    assert time.monotonic() - began < AT_ONCE, failure.value.error
    assert failure.value.error["code"] == 106 or failure.value.error["msg"].startswith(SENTENCE), failure.value.error
    node.delete_pods([pod])
    return str(failure.value.error["msg"] + " " + failure.value.error.get("details", ""))


def fill_up(node: Node, most: int = 64) -> str:
    """Adds pods one after the other until one is refused; returns the text in its event."""
    for number in range(most):
        pod = node.pod(f"{node.name}-fill-{number}")
        began = time.monotonic()
        try:
            pod.add()
        except PluginFailure as failure:
            assert time.monotonic() - began < AT_ONCE, failure.error
            assert failure.error["msg"].startswith(SENTENCE), failure.error
            node.delete_pods([pod])
            return str(failure.error["msg"])
    raise AssertionError(f"{most} pods have got addresses")


# MARK: on demand


@pytest.mark.parametrize("slow", [0.0, 2.0])
def test_eight_pods_at_once(vpc: Simulator, make_node: Callable[..., Node], slow: float) -> None:
    """WARM_IP_TARGET=3 on an m5.large: three pods find an address, five wait for growth, none fails."""
    node = make_node("eight", type="m5.large", subnet="a", environment={"WARM_IP_TARGET": "3"})
    node.agent.start()
    node.wait_quiet()
    assert node.shape() == [(3, 0)]
    for action in ("AssignPrivateIpAddresses", "CreateNetworkInterface", "AttachNetworkInterface"):
        vpc.latency(action, slow)
    try:
        pods = node.add_pods(8, at_once=8)
        wait_for(lambda: sum(count for count, _ in node.shape()) == 11, "three warm addresses again", 30)
        node.wait_quiet()
    finally:
        for action in ("AssignPrivateIpAddresses", "CreateNetworkInterface", "AttachNetworkInterface"):
            vpc.latency(action, 0)
    wait_sound(node, pods)
    assert_talk(vpc, pods)


def test_minimum_alone_starves_nobody(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    """MINIMUM_IP_TARGET without WARM_IP_TARGET: amazon-vpc-cni-k8s stops at the minimum even if pods wait."""
    node = make_node("minimum", type="m5.large", subnet="a", environment={"MINIMUM_IP_TARGET": "5", "WARM_IP_TARGET": "0"})
    node.agent.start()
    pods = node.add_pods(16, at_once=16)
    node.wait_quiet()
    wait_sound(node, pods)
    assert_talk(vpc, pods[::4])


# MARK: growth that is impossible


def test_the_limit_of_enis_is_named(make_node: Callable[..., Node]) -> None:
    node = make_node("limit", type="m5.large", subnet="a", environment={**WAIT, "MAX_ENI": "1"})
    node.agent.start()
    message = fill_up(node)
    assert len(node.pods) == 9
    assert "ENI limit reached" in message, message


def test_a_full_subnet_is_named(
    vpc: Simulator, make_node: Callable[..., Node], full: Callable[..., None]
) -> None:
    """Pods first use every address that the subnet had left; when the subnet has room again, pods get addresses."""
    node = make_node("fullsub", type="m5.large", subnet="tiny", fast_clock=True, environment={**WAIT, "WARM_IP_TARGET": "1"})
    full("tiny", leave=4)
    node.agent.start()
    message = fill_up(node)
    assert vpc.ready["subnets"]["tiny"] in message and "full" in message, message
    assert len(node.pods) == 4, "an address that was free is not used"
    again = refusal(node, "again")
    assert "full" in again, again
    vpc.ask("subnet.free", subnet="tiny")
    with node.hurry():  # the agent does not use the full subnet for two minutes
        wait_for(lambda: sum(count for count, _ in node.shape()) > 4, "growth once the subnet has room", 60)
    node.wait_quiet()
    node.add_pods(1, prefix="later")
    wait_sound(node, node.pods)
    assert_talk(vpc, node.pods)


@pytest.mark.parametrize("action, named", [
    ("AssignPrivateIpAddresses", "ec2:AssignPrivateIpAddresses"), ("CreateNetworkInterface", "ec2:CreateNetworkInterface"),
    ("AttachNetworkInterface", "ec2:AttachNetworkInterface"),
])
def test_a_missing_permission_is_named(
    vpc: Simulator, make_node: Callable[..., Node], deny: Callable[[str], None], action: str, named: str
) -> None:
    # In the cases of CreateNetworkInterface and AttachNetworkInterface, the primary ENI cannot grow.
    targets = {"WARM_IP_TARGET": "1", "MAX_ENI": "1"} if action.startswith("Assign") else {}
    node = make_node("denied", type="t3.small", subnet="a", environment={**WAIT, **targets})
    node.agent.start()
    node.wait_quiet()
    deny(action)
    message = fill_up(node)
    assert named in message, message
    assert [eni for eni in vpc.enis() if eni["status"] == "available"] == [], "an ENI that could not be attached is left"
    calls = node.calls().get(action, 0)
    refusal(node, "once-more")
    assert node.calls().get(action, 0) - calls <= 1, "a refused permission is asked for again and again"


def test_no_free_prefix_falls_back_and_returns(
    vpc: Simulator, make_node: Callable[..., Node], full: Callable[..., None]
) -> None:
    """Without a free /28 in the subnet, pods get single addresses and none fails. Ten minutes later prefixes are retried."""
    node = make_node("fragment", type="m5.large", subnet="broken", fast_clock=True, environment={**WAIT, **PREFIXES})
    full("broken", fragment=True)
    node.agent.start()
    pods = node.add_pods(12)
    node.wait_quiet()
    assert sum(prefixes for _, prefixes in node.shape()) == 0
    assert sum(count for count, _ in node.shape()) >= 12
    assert "prefix" in node.agent.log(), "the fallback is told"
    wait_sound(node, pods)
    assert_talk(vpc, pods)
    vpc.ask("subnet.free", subnet="broken")
    with node.hurry(120):
        wait_for(lambda: sum(prefixes for _, prefixes in node.shape()) > 0, "prefixes again", 60)
    node.wait_quiet()
    late = node.add_pods(2, prefix="late")
    wait_sound(node, pods + late)
    assert_talk(vpc, pods[:4] + late)


def test_subnets_cannot_be_described(
    vpc: Simulator, make_node: Callable[..., Node], deny: Callable[[str], None]
) -> None:
    """Growth goes on in the primary ENI's subnet."""
    deny("DescribeSubnets")
    node = make_node("nosubnets", type="m5.large", subnet="a", environment=WAIT)
    node.agent.start()
    pods = node.add_pods(14)
    node.wait_quiet()
    assert len(node.enis()) >= 2 and {eni["subnet"] for eni in node.enis()} == {"a"}
    wait_sound(node, pods)
    assert_talk(vpc, pods[::4])


# MARK: another mode


@pytest.mark.parametrize("to_prefixes", [True, False], ids=["to prefixes", "to addresses"])
def test_mode_switch_with_pods(vpc: Simulator, make_node: Callable[..., Node], to_prefixes: bool) -> None:
    """Pods keep their addresses, new pods get the other kind; what is left of the old kind is released once idle."""
    before, after = ({}, PREFIXES) if to_prefixes else (PREFIXES, {"ENABLE_PREFIX_DELEGATION": "false"})
    environment: dict[str, Any] = {"IP_COOLDOWN_PERIOD": "1", "VPC_CNI_ADD_TIMEOUT": "60"}
    node = make_node("switch", type="m5.large", subnet="a", fast_clock=True, environment={**environment, **before})
    node.agent.start()
    old = node.add_pods(11, prefix="old")
    node.wait_quiet()
    node.agent.stop()
    node.agent.environment |= after
    node.agent.start()
    new = node.add_pods(6, prefix="new")
    node.wait_quiet()
    for pod in old:
        pod.check()
    in_prefixes = {pod.address for pod in new if is_in_prefix(node, pod.address)}
    assert in_prefixes == ({pod.address for pod in new} if to_prefixes else set())
    wait_sound(node, old + new)
    assert_talk(vpc, old[::3] + new)

    node.delete_pods(old)
    unwanted = 0 if to_prefixes else 1
    with node.hurry():
        wait_for(lambda: sum(eni[unwanted] for eni in node.shape()) == 0, "nothing of the old kind", 60)
        node.wait_quiet()
    wait_sound(node, new)
    assert_talk(vpc, new)


def is_in_prefix(node: Node, address: str) -> bool:
    head, _, last = address.rpartition(".")
    return any(f"{head}.{int(last) & 0xf0}/28" in eni["prefixes"] for eni in node.enis())
