#!/usr/bin/env python3
"""`make demo`: two simulated EC2 nodes with an agent on each, and pods that get VPC addresses and talk to each other. With
`--family ipv6`, an IPv6 cluster.

Every printed number is read back from the simulated EC2, the kernel or the pods. The exit status is 0 only if every
expectation held. The demo removes everything it made, also when it fails. `--keep` leaves the VPC, the agents and the
pods running until `make demo-down`, so that you can look around.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import conflist, paths  # noqa: E402
from harness.ipv6 import IPV6, init  # noqa: E402
from harness.node import Node  # noqa: E402
from harness.pod import Pod  # noqa: E402
from simulator import registry  # noqa: E402
from simulator.client import Simulator  # noqa: E402
from simulator.fabric import INTERNET_ADDRESS, INTERNET_ADDRESS6  # noqa: E402

PODS_PER_NODE = 12  # an m5.large holds 9 pod addresses on its primary ENI, so a second ENI is needed


class Story:
    """What the demo prints as it runs, and whether all its expectations held."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.failures: list[str] = []

    def step(self, text: str) -> None:
        print(f"\n[{time.monotonic() - self.began:5.1f} s] {text}", flush=True)

    def say(self, text: str) -> None:
        print(f"          {text}", flush=True)

    def expect(self, held: bool, text: str) -> None:
        self.say(f"{'ok  ' if held else 'FAIL'} {text}")
        if not held:
            self.failures.append(text)

    def table(self, head: list[str], rows: list[list[str]]) -> None:
        widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
        for row in [head, *rows]:
            self.say("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def show_enis(story: Story, nodes: list[Node]) -> None:
    rows = []
    if nodes[0].family == 6:
        rows = [[node.name, eni["eni"], str(eni["index"]), prefix, str(len(node.pods))]
                for node in nodes for eni in node.enis() for prefix in eni["prefixes6"]]
        return story.table(["node", "ENI", "device", "prefix", "pods"], rows)
    for node in nodes:
        assigned = {pod.address for pod in node.pods if pod.result}
        for eni in sorted(node.enis(), key=lambda eni: eni["index"]):
            secondary = [address for address in eni["addresses"] if address != eni["primary"]]
            used = sum(address in assigned for address in secondary)
            rows.append([node.name, eni["eni"], str(eni["index"]), eni["primary"],
                         str(len(secondary)), str(used)])
    story.table(["node", "ENI", "device", "primary address", "pod addresses", "used by pods"], rows)


def ping_all(story: Story, nodes: list[Node]) -> None:
    """Every pod pings a pod of the other node and the internet stand-in."""
    here, there = nodes[0].pods, nodes[1].pods
    pairs = [(pod, there[number % len(there)]) for number, pod in enumerate(here)]
    pairs += [(pod, here[number % len(here)]) for number, pod in enumerate(there)]
    with ThreadPoolExecutor(8) as workers:
        across = list(workers.map(lambda pair: pair[0].ping(pair[1].address), pairs))
        internet = INTERNET_ADDRESS6 if nodes[0].family == 6 else INTERNET_ADDRESS
        outside = list(workers.map(lambda pair: pair[0].ping(internet), pairs))
    story.expect(all(across), f"{sum(across)} of {len(pairs)} pods reached a pod on the other node")
    story.expect(all(outside), f"{sum(outside)} of {len(pairs)} pods reached the internet stand-in at {internet}")


def distinct(pods: list[Pod]) -> bool:
    addresses = [pod.address for pod in pods]
    return len(set(addresses)) == len(addresses)


def crash(story: Story, node: Node, other: Node) -> None:
    """Kills the agent without warning, keeps using the node, and starts the agent again."""
    before = node.held()
    node.agent.kill()
    story.expect(node.pods[0].ping(other.pods[0].address), "without its agent the node's pods still talk")
    node.agent.start()
    story.say(f"agent back, ready {node.agent.seconds_to_ready:.2f} s after its start")
    story.expect(before == node.held() == sorted(pod.address for pod in node.pods), "every pod's address is accounted for again")
    late = node.pod(f"{node.name}-late").add()
    story.expect(distinct(node.pods + other.pods), f"a pod started after the crash got {late.address}, nobody else's")
    story.expect(late.ping(other.pods[0].address), "and reaches the other node")


def run(story: Story, vpc: Simulator, family: str, keep: bool) -> list[Node]:
    story.step("Two nodes (m5.large, subnets in two zones) and an agent on each")
    environment = IPV6 if family == "ipv6" else {}
    nodes = [Node(vpc, f"node-{subnet}", environment, type="m5.large", subnet=subnet) for subnet in ("a", "b")]
    for node in nodes:
        if node.family == 6:
            init(node)
        # The container's entrypoint puts this file there.
        node.instance.run(["tee", conflist.PATH], input=conflist.text(conflist.conflist()))
        node.agent.outlives = keep
        node.agent.start()
        memory = node.agent.memory()
        story.say(f"{node.name}: {node.instance.instance_id} {node.own_address}, agent ready after "
                  f"{node.agent.seconds_to_ready:.2f} s, RssAnon {memory['RssAnon'] / 1024:.1f} MB")
    vpc.counts(reset=True)

    story.step(f"{PODS_PER_NODE} pods on each node, started by the real plugin, 8 at a time")
    for node in nodes:
        began = time.monotonic()
        node.add_pods(PODS_PER_NODE)
        story.say(f"{node.name}: {PODS_PER_NODE} pods in {time.monotonic() - began:.2f} s")
    story.expect(distinct(nodes[0].pods + nodes[1].pods), "no address was given twice")
    for node in nodes:
        if node.family == 6:
            story.expect(len(node.enis()[0]["prefixes6"]) == 1, f"{node.name} has one prefix for all its pods")
        else:
            story.expect(len(node.enis()) >= 2, f"{node.name} uses a second ENI")
    show_enis(story, nodes)

    story.step("Every pod pings across the VPC and out of it")
    ping_all(story, nodes)

    story.step("The agent of node-a is killed (SIGKILL) and comes back")
    crash(story, nodes[0], nodes[1])

    story.step("EC2 calls that all of this took")
    counts = vpc.counts()
    story.table(["action", "calls"], [[action, str(count["calls"])] for action, count in sorted(counts["actions"].items())])
    story.expect(vpc.drops()["total"] == 0, f"packets dropped by the VPC: {vpc.drops()['total']}")
    return nodes


def end(story: Story, vpc: Simulator, nodes: list[Node]) -> None:
    story.step("All pods are deleted")
    for node in nodes:
        node.delete_pods()
        try:
            node.wait_clean()
        except TimeoutError:
            pass
        left = node.leftovers()
        story.expect(not any(left.values()), f"{node.name}: left over " + ", ".join(
            f"{len(found)} {kind}" for kind, found in left.items()))
        story.expect(node.agent.stop() == 0, f"{node.name}: the agent ended in order")


def tour(name: str, family: str) -> str:
    """What a user can do with a VPC that is left running; each line is a command."""
    rig = f"{paths.SIMULATOR / 'vpcsim'} --name {name}"
    rows = [(f"{rig} shell node-a", "a shell on a node (exit leaves it)"),
            (f"{rig} exec node-a -- {paths.PLUGIN} status", "the node as its agent knows it"),
            (f"{rig} exec node-a -- {paths.PLUGIN} doctor", "what is wrong with it"),
            (f"{rig} exec node-a -- ip netns exec node-a-pod-0 ping -c 1 {INTERNET_ADDRESS6 if family == 'ipv6' else INTERNET_ADDRESS}", "from a pod"),
            (f"{rig} enis", "the ENIs as EC2 knows them"), (f"{rig} counts", "calls of EC2"),
            ("make demo-down" if name == "demo" else f"{rig} down", "remove it all")]
    width = max(len(command) for command, _ in rows)
    return "".join(f"  {command.ljust(width)}  # {what}\n" for command, what in rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the VPC up and say how to look around")
    parser.add_argument("--name", default="demo", help="of the VPC")
    parser.add_argument("--family", choices=["ipv4", "ipv6"], default="ipv4", help="of the pods' addresses")
    arguments = parser.parse_args()
    keep, name, family = arguments.keep, arguments.name, arguments.family
    if os.geteuid() != 0:
        print("demo: making network namespaces needs root", file=sys.stderr)
        return 1
    if registry.home(name).exists():
        print(f"demo: the VPC {name} of an earlier run is still up. Look around:\n{tour(name, family)}", file=sys.stderr)
        return 1
    story = Story()
    story.step("A VPC on this machine")
    vpc = Simulator(name=name, outlives=keep, **({"family": "dual"} if family == "ipv6" else {}))
    try:
        vpc.start()
        nodes = run(story, vpc, family, keep)
        if not keep:
            end(story, vpc, nodes)
    except Exception as error:  # noqa: BLE001  whatever failed, everything must be removed
        story.expect(False, f"{type(error).__name__}: {error}")
    finally:
        if not keep:
            vpc.stop()
    seconds = time.monotonic() - story.began
    if story.failures:
        print(f"\ndemo: {len(story.failures)} expectations failed after {seconds:.1f} s:")
        for failure in story.failures:
            print(f"  - {failure}")
    else:
        print(f"\ndemo: all held, {seconds:.1f} s")
    if keep and vpc.ready:
        print(f"\nThe VPC stays up until you end it. Look around:\n{tour(name, family)}", end="")
    return 1 if story.failures else 0


if __name__ == "__main__":
    sys.exit(main())
