"""The published examples of the warm targets, checked at EC2: how many addresses, prefixes and ENIs a node holds.

Each row starts with an empty node, adds pods with the real plugin up to the next count, and waits until EC2 shows the
row's values. Then the agent's time runs faster, and nothing may change any more. At the end the pods are deleted, and
the node must return to what it held without them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from harness.node import Node
from harness.state import assert_talk, wait_sound
from harness.waiting import wait_for
from simulator.client import Simulator

SIMULATOR = {"subnet": ["a=192.168.64.0/19@a", "b=192.168.96.0/19@b"]}


@dataclass
class Holds:
    """What EC2 must show: addresses in addition to the ENIs' own, or prefixes, and ENIs (None: not specified)."""

    count: int
    enis: int | None = None

    def matches(self, shape: list[tuple[int, int]], prefixes: bool) -> bool:
        held = sum(eni[1 if prefixes else 0] for eni in shape)
        other = sum(eni[0 if prefixes else 1] for eni in shape)
        return held == self.count and other == 0 and self.enis in (None, len(shape))


ADDRESSES: dict[str, str] = {}
PREFIXES = {"ENABLE_PREFIX_DELEGATION": "true"}
# t3.small: 3 ENIs of 3 addresses; p3dn.24xlarge: 15 of 49. Sources: the documents of amazon-vpc-cni-k8s on ENI, IP and
# prefix targets, where its code agrees with them.
ROWS = {
    "one warm ENI": ("t3.small", ADDRESSES | {"WARM_ENI_TARGET": "1"},
                     {0: Holds(3, 1), 5: Holds(9, 3), 9: Holds(9, 3)}),
    "warm 1, at least 1": ("t3.small", {"WARM_IP_TARGET": "1", "MINIMUM_IP_TARGET": "1"},
                           {0: Holds(1, 1), 5: Holds(6, 2), 9: Holds(9, 3)}),
    "warm 2, at least 5": ("t3.small", {"WARM_IP_TARGET": "2", "MINIMUM_IP_TARGET": "5"},
                           {0: Holds(5, 2), 5: Holds(7, 3)}),
    "warm 5, at least 10": ("p3dn.24xlarge", {"WARM_IP_TARGET": "5", "MINIMUM_IP_TARGET": "10"},
                            {0: Holds(10, 1), 7: Holds(12, 1), 15: Holds(20, 1), 45: Holds(50, 2)}),
    "one warm prefix": ("t3.small", PREFIXES | {"WARM_PREFIX_TARGET": "1"},
                        {0: Holds(1), 5: Holds(2), 16: Holds(2), 17: Holds(3), 58: Holds(5)}),
    "prefixes, warm 1, at least 1": ("t3.small", PREFIXES | {"WARM_IP_TARGET": "1", "MINIMUM_IP_TARGET": "1"},
                                     {0: Holds(1), 5: Holds(1), 17: Holds(2), 58: Holds(4)}),
    "prefixes, warm 7, at least 20": ("t3.small", PREFIXES | {"WARM_IP_TARGET": "7", "MINIMUM_IP_TARGET": "20"},
                                      {0: Holds(2), 5: Holds(2), 17: Holds(2), 58: Holds(5)}),
}


@pytest.mark.parametrize("row", ROWS)
def test_targets(vpc: Simulator, make_node: Callable[..., Node], row: str) -> None:
    instance_type, environment, steps = ROWS[row]
    prefixes = "ENABLE_PREFIX_DELEGATION" in environment
    node = make_node("targets", type=instance_type, subnet="a", fast_clock=True,
                     environment={"IP_COOLDOWN_PERIOD": "1", "VPC_CNI_ADD_TIMEOUT": "120", **environment})

    def rests_at(holds: Holds, what: str) -> None:
        """Waits until EC2 shows these values, and still does after half a minute of the agent's time without a call."""
        try:
            wait_for(lambda: holds.matches(node.shape(), prefixes), what, 20)
        finally:
            print(what, node.shape())
        with node.hurry():
            node.wait_quiet(what)
        assert holds.matches(node.shape(), prefixes), f"{what}: {holds} did not last: {node.shape()}"

    node.agent.start()
    for count, holds in steps.items():
        node.add_pods(count - len(node.pods), prefix=f"to{count}", at_once=8)
        rests_at(holds, f"{count} pods")
    wait_sound(node, node.pods)
    assert_talk(vpc, node.pods[:: max(1, len(node.pods) // 8)])
    node.delete_pods()
    empty = steps[0]
    with node.hurry():
        wait_for(lambda: empty.matches(node.shape(), prefixes), f"what it held without pods: {empty}", 60)
    rests_at(empty, "no pods again")
    wait_sound(node, [])
