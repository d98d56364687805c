"""The sweep deletes leaked ENIs, but not young ENIs or those of others. The agent's hours take seconds."""

from __future__ import annotations

import datetime
from collections.abc import Callable

from harness.node import Node
from harness.state import CREATED_TAG, INSTANCE_TAG
from harness.waiting import wait_for
from simulator.client import Simulator

OURS = "aws-K8S-i-0123456789abcdef0"
RATE = 300


def stamp(minutes_ago: float) -> str:
    at = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=minutes_ago)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def leave(vpc: Simulator, description: str, tags: dict[str, str]) -> str:
    """Makes an unattached ENI; returns its id."""
    made = vpc.ec2().create_network_interface(
        SubnetId=vpc.ready["subnets"]["a"], Description=description,
        TagSpecifications=[{"ResourceType": "network-interface",
                            "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}] if tags else [])
    return str(made["NetworkInterface"]["NetworkInterfaceId"])


def test_leaked_enis_are_swept(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    gone = {INSTANCE_TAG: "i-0123456789abcdef0"}
    leaked = leave(vpc, OURS, {**gone, CREATED_TAG: stamp(60)})
    unstamped = leave(vpc, OURS, gone)
    kept = {leave(vpc, OURS, {**gone, CREATED_TAG: stamp(0)}), leave(vpc, "a load balancer", {**gone, CREATED_TAG: stamp(60)}),
            leave(vpc, OURS, {CREATED_TAG: stamp(60)})}
    # Calls have a limit of 600 s of the agent's time, two seconds of real time.
    node = make_node("sweeper", type="m5.large", subnet="a", fast_clock=True, environment={"HTTP_TIMEOUT": "600"})
    node.agent.start()
    node.wait_quiet()

    def there() -> dict[str, dict[str, str]]:
        return {eni["eni"]: eni["tags"] for eni in vpc.enis()}

    with node.hurry(RATE):
        wait_for(lambda: leaked not in there(), "the leaked ENI is deleted", 90, pause=0.1)
        wait_for(lambda: CREATED_TAG in there()[unstamped], "what has no time of creation gets one", 90, pause=0.1)
    assert kept <= set(there()), "an ENI that is young, of others, or unmarked was deleted"


def test_sweep_can_be_switched_off(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    leaked = leave(vpc, OURS, {INSTANCE_TAG: "i-0123456789abcdef0", CREATED_TAG: stamp(60)})
    node = make_node("calm", type="m5.large", subnet="a", fast_clock=True,
                     environment={"HTTP_TIMEOUT": "600", "DISABLE_LEAKED_ENI_CLEANUP": "true"})
    node.agent.start()
    node.wait_quiet()
    clock = node.agent.clock
    assert clock is not None
    listings = node.calls()["DescribeNetworkInterfaces"]
    with node.hurry(RATE):
        until = clock.elapsed() + 3600
        wait_for(lambda: clock.elapsed() > until, "an hour", 60, pause=0.25)
    assert node.calls()["DescribeNetworkInterfaces"] == listings
    assert leaked in {eni["eni"] for eni in vpc.enis()}
