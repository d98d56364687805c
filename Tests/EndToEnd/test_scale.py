"""Many real agents at once on one simulated EC2 with request throttling: all reach their targets, and none takes another's.

SCALE_AGENTS sets their number (default 100). Nodes are limited to two ENIs and have one pod each, so that every agent
must assign addresses and then create, attach and mark an ENI. All agents start together, and all pods start together.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from harness.node import Node
from harness.pod import Pod
from harness.state import differences
from harness.waiting import wait_for
from simulator.client import Simulator

SIMULATOR = {"throttle": True}
AGENTS = int(os.environ.get("SCALE_AGENTS", "100"))
AT_ONCE = 8


def test_many_agents_share_a_throttled_ec2(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    began = time.monotonic()

    def said(what: str) -> None:
        print(f"[{time.monotonic() - began:5.1f} s] {what}")

    with ThreadPoolExecutor(AT_ONCE) as workers:
        # t3.small: 3 ENIs of 3 addresses. MAX_ENI limits it to two: one pod makes the agent add one ENI, and no more.
        nodes = list(workers.map(
            lambda number: make_node(f"scale-{number}", type="t3.small", subnet="ab"[number % 2],
                                     environment={"AWS_VPC_K8S_CNI_LOGLEVEL": "WARN", "MAX_ENI": "2"}), range(AGENTS)))
        said(f"{AGENTS} instances")
        vpc.counts(reset=True)
        for node in nodes:
            node.agent.start(wait=False)
        list(workers.map(lambda node: wait_for(node.agent.ready_or_dead, f"{node.name} ready", 120, pause=0.1), nodes))
        said("all agents are ready")
        pods = [node.pod(f"{node.name}-pod") for node in nodes]
        list(workers.map(Pod.add, pods))
        said("all pods have addresses")

    def reached() -> bool:
        """Two ENIs of three addresses each, counted at EC2."""
        held = Counter(eni["instance"] for eni in vpc.enis() if eni["instance"] and len(eni["addresses"]) == 4)
        return all(held[node.name] == 2 for node in nodes)

    wait_for(reached, "every node holds two ENIs of three addresses", 240, pause=0.25)
    # The mark is the last of the three calls, and follows the attachment.
    wait_for(lambda: vpc.counts()["actions"].get("ModifyNetworkInterfaceAttribute", {}).get("successful", 0) >= AGENTS,
             "every new ENI is marked", 60, pause=0.1)
    said("all targets are reached")
    actions = vpc.counts()["actions"]
    for action, row in actions.items():
        print(f"  {action}: {row['calls']} calls, {row['refused']} refused, {row['failed']} failed")
    memory = sorted(node.agent.memory()["RssAnon"] for node in nodes)
    print(f"  RssAnon of an agent: {memory[0]} to {memory[-1]} kB, median {statistics.median(memory):.0f} kB")

    owners = Counter(address for eni in vpc.enis() for address in eni["addresses"])
    assert [address for address, count in owners.items() if count > 1] == [], "an address is on two ENIs"
    given = Counter(pod.address for pod in pods)
    assert len(given) == AGENTS, f"given twice: {[address for address, count in given.items() if count > 1]}"
    left = [eni["eni"] for eni in vpc.enis() if eni["status"] == "available"]
    assert left == [], f"ENIs that belong to nobody: {left}"
    wrong = {node.name: found for node in nodes[:: max(1, AGENTS // 10)]
             if (found := wait_for_none(node))}
    assert wrong == {}
    vpc.drops(reset=True)
    for pod, other in zip(pods[::5], pods[1::5]):
        assert pod.ping(other.address), f"{pod.name} to {other.name}"
    assert vpc.drops()["total"] == 0, vpc.drops()
    # Each of the three calls succeeded once per node; the agents retried refused calls with growing delays.
    for action in ("CreateNetworkInterface", "AttachNetworkInterface", "ModifyNetworkInterfaceAttribute"):
        assert actions[action]["successful"] == AGENTS, actions[action]
    assert memory[-1] < 16_000
    with ThreadPoolExecutor(AT_ONCE) as workers:
        list(workers.map(Node.discard, nodes))
    said("all instances are gone")


def wait_for_none(node: Node) -> list[str]:
    """The differences after the last ENI is wired; soon there are none."""
    last: list[str] = []

    def none() -> bool:
        last[:] = differences(node, node.pods)
        return not last

    try:
        wait_for(none, "nothing differs", 10)
    except TimeoutError:
        pass
    return last
