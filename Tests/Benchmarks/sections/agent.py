"""The agent: time from its start to SERVING, memory, and the number of EC2 calls."""

from __future__ import annotations

import time

from harness.node import Node
from harness.waiting import wait_for
from kubeapi.client import KubeAPI, node as api_node, pod as api_pod
from support.attachments import add_networks
from support.bench import Bench
from support.health import wait_serving
from support.report import Row, Section, summary

NEW_NODES = 3
RESTARTS = 5
MANY_PODS = 200
FULL_NODE = 737  # the maximum that EKS allows on a node, with prefixes

# amazon-vpc-cni-k8s on the same kind of machine; not measured here.
REFERENCE_READY_MS = 1130
REFERENCE_RSS_MB = 66
REFERENCE_CALLS_PER_ENI = 6


def measure(bench: Bench) -> Section:
    section = Section("Agent (baseline: the existing implementation, measured elsewhere)")
    first, boot_calls = [], []
    for number in range(NEW_NODES):
        with bench.node(f"bench-agent-{number}", type="m5.large") as node:
            bench.say(f"agent: new node {number + 1} of {NEW_NODES}")
            bench.vpc.counts(reset=True)
            first.append(_start(node))
            bench.wait_quiet()
            boot_calls.append(_calls(bench))
            if number < NEW_NODES - 1:
                continue
            started = node.agent.memory()
            eni_calls = _one_more_eni(bench, node)
            bench.say(f"agent: {RESTARTS} restarts")
            again = [_restart(node) for _ in range(RESTARTS)]
    bench.say(f"agent: {MANY_PODS} pods")
    many = _many_pods(bench)
    bench.say(f"agent: {FULL_NODE} attachments")
    with bench.node("bench-agent-full", type="m5.24xlarge", environment={"ENABLE_PREFIX_DELEGATION": "true"}) as node:
        node.agent.start()
        addresses = add_networks(node.agent.pid, FULL_NODE)
        bench.wait_quiet()
        full = node.agent.memory()
        _check_pods(node, FULL_NODE)
        if len(set(addresses)) != FULL_NODE:
            raise RuntimeError("an address was given twice")

    ready, restart = summary(first), summary(again)
    calls = sum(eni_calls.values())
    section.rows = [
        Row("start to SERVING, new node", "ms", REFERENCE_READY_MS, ready["median"], "≤ 300",
            ready["median"] <= 300, 0),
        Row("start to SERVING, again with a pod", "ms", None, restart["median"], digits=0),
        Row("RssAnon after start", "MB", None, started["RssAnon"] / 1024, digits=1),
        Row("VmRSS after start", "MB", REFERENCE_RSS_MB, started["VmRSS"] / 1024, digits=1),
        Row(f"RssAnon with {MANY_PODS} pods", "MB", None, many["RssAnon"] / 1024, "≤ 8",
            many["RssAnon"] <= 8 * 1024, 1, note="with an API server, over TLS, annotating"),
        Row(f"VmRSS with {MANY_PODS} pods", "MB", None, many["VmRSS"] / 1024, digits=1),
        Row(f"RssAnon with {FULL_NODE} pods", "MB", None, full["RssAnon"] / 1024, "≤ 12",
            full["RssAnon"] <= 12 * 1024, 1, note="prefixes; addresses given over gRPC, no veths"),
        Row(f"VmRSS with {FULL_NODE} pods", "MB", None, full["VmRSS"] / 1024, digits=1),
        Row(f"threads with {MANY_PODS} pods", "", None, many["Threads"], digits=0),
        Row("EC2 calls of a start", "calls", None, sum(boot_calls[0].values()), digits=0, note=_spell(boot_calls[0])),
        Row("EC2 calls for one more ENI", "calls", REFERENCE_CALLS_PER_ENI, calls, "≤ 3", calls <= 3, 0,
            note=_spell(eni_calls)),
    ]
    section.raw = {"start_ms": first, "restart_ms": again, "memory_after_start": started,
                   f"memory_with_{MANY_PODS}_pods": many, f"memory_with_{FULL_NODE}_pods": full, "ec2_calls_of_start": boot_calls,
                   "ec2_calls_for_one_more_eni": eni_calls}
    return section


def _start(node: Node) -> float:
    """Milliseconds from just before the process is created to the first SERVING."""
    began = time.monotonic()
    node.agent.start(wait=False)
    process = node.agent.process
    assert process is not None
    try:
        wait_serving(process.pid, lambda: process.poll() is None)
    except RuntimeError as error:
        node.agent.ready_or_dead()  # raises with the agent's last log lines
        raise error
    return (time.monotonic() - began) * 1000


def _many_pods(bench: Bench) -> dict[str, int]:
    """Memory with pods, with watches of the node and of the pods over TLS, and with every pod annotated."""
    name, pods = "bench-agent-many", [f"m{number}" for number in range(MANY_PODS)]
    with KubeAPI(bench.vpc) as api:
        api.add(api_node(name, pods=MANY_PODS + 10), *[api_pod(each, name) for each in pods])
        environment = {**api.environment(name), "ANNOTATE_POD_IP": "true"}
        with bench.node(name, type="m5.4xlarge", environment=environment) as node:
            api.install_account(node.instance)
            node.agent.start()
            bench.connect(node, pods)
            bench.wait_quiet()
            wait_for(lambda: all(api.annotation(each) for each in pods), "the annotations", 60.0)
            _check_pods(node, MANY_PODS)
            return node.agent.memory()


def _restart(node: Node) -> float:
    node.agent.stop()
    return _start(node)


def _one_more_eni(bench: Bench, node: Node) -> dict[str, int]:
    """EC2 calls from an idle pool until one more ENI is attached and the pool is idle again."""
    before = len(node.enis())
    bench.vpc.counts(reset=True)
    for number in range(30):
        bench.connect(node, [f"a{number}"])
        bench.wait_quiet()
        if len(node.enis()) > before:
            break
    wait_for(lambda: len(node.enis()) > before, "one more ENI", 1.0)
    bench.wait_quiet()
    calls = _calls(bench)
    if len(node.enis()) != before + 1:
        raise RuntimeError(f"{len(node.enis()) - before} more ENIs instead of one")
    return calls


def _check_pods(node: Node, count: int) -> None:
    known = len(node.checkpoint())
    if known != count:
        raise RuntimeError(f"the agent knows {known} pods instead of {count}")


def _calls(bench: Bench) -> dict[str, int]:
    return {action: row["calls"] for action, row in bench.vpc.counts()["actions"].items()}


def _spell(calls: dict[str, int]) -> str:
    return ", ".join(action if count == 1 else f"{count} {action}" for action, count in calls.items())
