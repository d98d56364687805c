"""EC2 and IMDS that misbehave, and checks of request signatures."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.node import Node
from harness.pod import PluginFailure
from harness.state import unattached
from harness.waiting import wait_for
from simulator.client import Simulator

SIMULATOR = {"verify_signatures": True}


def test_signatures_hold(make_node: Callable[..., Node]) -> None:
    """The test rig refuses a wrong signature, so pods on a second ENI prove that the agent's signatures are right."""
    node = make_node("signed", type="m5.large", subnet="a")
    node.agent.start()
    node.add_pods(12)
    assert len(node.enis()) >= 2


def test_missing_permission_is_named(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    node = make_node("denied", type="m5.large", subnet="a", environment={"WARM_IP_TARGET": "1", "MINIMUM_IP_TARGET": "1"})
    vpc.deny("AssignPrivateIpAddresses")
    vpc.deny("CreateNetworkInterface")
    try:
        node.agent.start()
        with pytest.raises(PluginFailure) as failure:
            node.pod("wanting").add()
        assert "ec2:" in failure.value.error["msg"], failure.value.error
    finally:
        vpc.allow("AssignPrivateIpAddresses")
        vpc.allow("CreateNetworkInterface")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("action", ["CreateNetworkInterface", "AttachNetworkInterface",
                                    "ModifyNetworkInterfaceAttribute", "AssignPrivateIpAddresses"])
def test_one_fault_costs_no_pod(vpc: Simulator, make_node: Callable[..., Node], action: str, when: str) -> None:
    """The agent recovers if a call fails or its answer is lost: every pod gets an address, no ENI is left over."""
    node = make_node(f"f-{when[0]}-{action[:3].lower()}", type="m5.large", subnet="b")
    vpc.fault(action, code="InternalError", http=500, times=1, when=when)
    node.agent.start()
    pods = node.add_pods(12)
    assert len({pod.address for pod in pods}) == 12
    node.agent.stop()
    ours = {eni["eni"] for eni in node.enis()}
    assert unattached(vpc, node) == [], f"left over beside {ours}"


def test_throttled_and_slow(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    node = make_node("slow", type="m5.large", subnet="a")
    vpc.latency("CreateNetworkInterface", 0.5)
    vpc.latency("AttachNetworkInterface", 0.5)
    vpc.fault("CreateNetworkInterface", code="RequestLimitExceeded", http=503, times=3, when="before")
    try:
        node.agent.start()
        assert len(node.add_pods(15, at_once=15)) == 15
    finally:
        vpc.latency("CreateNetworkInterface", 0)
        vpc.latency("AttachNetworkInterface", 0)


def test_start_waits_for_imds(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    """IMDS is away at first: the agent says so and starts when it comes back."""
    node = make_node("noimds", type="m5.large", subnet="a")
    vpc.imds(False, "noimds")
    node.agent.start(wait=False)
    wait_for(lambda: "will retry" in node.agent.log(), "the agent says what it waits for", 20)
    assert not node.agent.healthy()
    vpc.imds(True, "noimds")
    wait_for(node.agent.ready_or_dead, "agent ready once IMDS answers", deadline=30)
    node.add_pods(2)
